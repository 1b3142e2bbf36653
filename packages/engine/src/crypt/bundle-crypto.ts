/** What Amazon's bundles need of a crypto library: a plain value that is handed in, as browsers have none that can do it. */

/** A digest that grows. */
export interface RunningDigest {
  update(bytes: Uint8Array): void
  /** The digest in lower-case hexadecimal digits; once. */
  digest(): string
}

/** A cipher that takes bytes in order. */
export interface RunningCipher {
  /** What can be given out by now; may be nothing. */
  update(bytes: Uint8Array): Uint8Array
  /** The rest, with padding added or taken off.
   *  @throws MoraineError `corrupt` where the padding has no sense: another key, or damaged bytes. */
  final(): Uint8Array
}

/** Certificates and keys are texts in PEM. */
export interface BundleCrypto {
  random(count: number): Uint8Array
  sha1(): RunningDigest
  /** AES-128 in CBC mode with PKCS#7 padding. */
  cipher(direction: 'encrypt' | 'decrypt', key: Uint8Array, iv: Uint8Array): RunningCipher
  /** RSA with PKCS#1 v1.5 padding, to whoever has the certificate's private key.
   *  @throws MoraineError `invalid` for what is no certificate. */
  seal(certificate: string, plain: Uint8Array): Uint8Array
  /** Undoes `seal`. With another key it gives noise, or throws.
   *  @throws MoraineError `invalid` for what is no private key, or cannot be opened with this one. */
  unseal(privateKey: string, sealed: Uint8Array): Uint8Array
  /** RSA over SHA-1, PKCS#1 v1.5.
   *  @throws MoraineError `invalid` for what is no private key. */
  sign(privateKey: string, bytes: Uint8Array): Uint8Array
  /** Whether a signature is that of a certificate's owner, or of the owner of a private key.
   *  @throws MoraineError `invalid` for what is neither. */
  verify(certificateOrKey: string, bytes: Uint8Array, signature: Uint8Array): boolean
}
