/** Digests and signatures: plain values handed in, like codecs. Node has them; a browser's are asynchronous and take whole messages only. */

/** Digests by their common names. */
export type DigestName = 'sha1' | 'sha256' | 'sha384' | 'sha512'

/** A digest under way. */
export interface Digest {
  update(bytes: Uint8Array): void
  /** Ends it; lower case. */
  hex(): string
}

/** What a certificate says. Times are milliseconds since 1970. */
export interface CertificateFacts {
  subject: string
  issuer: string
  notBefore: number
  notAfter: number
  /** SHA-256 of the certificate, lower case, without colons. */
  fingerprint: string
  selfSigned: boolean
  /** `rsa`, `ec` … */
  keyType: string
  /** Bits of an RSA key. */
  keyBits: number | undefined
}

/** Digests, certificates and signatures (RSA with PKCS #1 v1.5 padding, or ECDSA, by the key). */
export interface Signing {
  digest(name: DigestName): Digest
  /** The certificates of a PEM text, in order.
   *  @throws MoraineError `invalid` where there is none or one is damaged. */
  certificates(pem: string): CertificateFacts[]
  /** Whether the key of the first certificate made the signature. */
  verify(message: Uint8Array, signature: Uint8Array, digest: DigestName, pem: string): boolean
  /** Signs with a private key in PEM.
   *  @throws MoraineError `invalid` for a key that is none, cannot sign, or is not that of the certificate. */
  sign(
    message: Uint8Array,
    digest: DigestName,
    key: { pem: string; passphrase?: string | undefined; certificate: string },
  ): Uint8Array
}
