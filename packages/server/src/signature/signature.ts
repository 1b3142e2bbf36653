/** The signature of an image, as its properties describe it. Source: cursive's `signature_utils`, which Glance asks; its words are kept. */
import type { X509Certificate } from 'node:crypto'
import type { Verification } from '../store/hash-protocol.ts'

/** An image whose signature is not good, or cannot be checked; the text is for its owner. */
export class SignatureError extends Error {}

/** The signature was checked, and is not that of the data. */
export class WrongSignature extends SignatureError {}

/** Whatever keeps a signature from being checked. */
export function uncheckable(reason: string): SignatureError {
  return new SignatureError(`Signature verification for the image failed: ${reason}.`)
}

const [signatureName, hashName, keyTypeName, certificateName] = [
  'img_signature',
  'img_signature_hash_method',
  'img_signature_key_type',
  'img_signature_certificate_uuid',
]

/** By the names of the property; with the bytes of a digest. */
const hashes: Readonly<Record<string, { name: Verification['hash']; bytes: number }>> = {
  'SHA-224': { name: 'sha224', bytes: 28 },
  'SHA-256': { name: 'sha256', bytes: 32 },
  'SHA-384': { name: 'sha384', bytes: 48 },
  'SHA-512': { name: 'sha512', bytes: 64 },
}

/** What the key of the certificate must be; of elliptic curves Glance does not ask whether it is the one that is named. */
const keyTypes: Readonly<Record<string, 'rsa' | 'dsa' | 'ec'>> = {
  'RSA-PSS': 'rsa',
  DSA: 'dsa',
  ECC_SECT571K1: 'ec',
  ECC_SECT409K1: 'ec',
  ECC_SECT571R1: 'ec',
  ECC_SECT409R1: 'ec',
  ECC_SECP521R1: 'ec',
  ECC_SECP384R1: 'ec',
}

/** What properties say of a signature. */
export interface Signed {
  signature: Buffer
  hash: { name: Verification['hash']; bytes: number }
  keyType: string
  certificateId: string
}

/** Undefined for an image that does not have all four properties: it is not signed. @throws SignatureError */
export function readSigned(properties: ReadonlyMap<string, string>): Signed | undefined {
  const [written, hashMethod, keyType, certificateId] = [signatureName, hashName, keyTypeName, certificateName].map(
    (name) => properties.get(name),
  )
  if (written === undefined || hashMethod === undefined || keyType === undefined || certificateId === undefined) {
    return undefined
  }
  const signature = decode(written)
  const hash = Object.hasOwn(hashes, hashMethod) ? hashes[hashMethod] : undefined
  if (hash === undefined) throw uncheckable(`Invalid signature hash method: ${hashMethod}`)
  if (!Object.hasOwn(keyTypes, keyType)) throw uncheckable(`Invalid signature key type: ${keyType}`)
  return { signature, hash, keyType, certificateId }
}

/** Python's decoder passes over what is no letter of base64, and wants the padding whole. */
function decode(written: string): Buffer {
  const letters = written.replace(/[^A-Za-z0-9+/=]/g, '')
  if (!/^([\w+/]{4})*([\w+/]{2}==|[\w+/]{3}=)?$/.test(letters)) {
    throw uncheckable('The signature data was not properly encoded using base64')
  }
  return Buffer.from(letters, 'base64')
}

/** What a hashing thread needs to check the signature. A certificate that is not good now is refused, which Glance does not do.
 *  @param now Milliseconds since 1970. @throws SignatureError */
export function verificationOf(
  { signature, hash, keyType }: Signed,
  certificate: X509Certificate,
  now = Date.now(),
): Verification {
  const { publicKey, validFromDate, validToDate } = certificate
  if (publicKey.asymmetricKeyType !== keyTypes[keyType]) {
    throw uncheckable(`Invalid public key type for signature key type: ${keyType}`)
  }
  if (now < validFromDate.getTime() || now > validToDate.getTime()) {
    throw new SignatureError('The certificate is outside its valid date range.')
  }
  if (signature.length === 0) throw uncheckable('Error occurred while creating the verifier')
  const key = publicKey.export({ type: 'spki', format: 'pem' }).toString()
  const bits = publicKey.asymmetricKeyDetails?.modulusLength
  if (keyType !== 'RSA-PSS' || bits === undefined) return { hash: hash.name, key, signature }
  // The longest salt that fits, as in Glance. Source: RFC 8017, 9.1.2.
  const saltLength = Math.ceil((bits - 1) / 8) - hash.bytes - 2
  if (saltLength < 0) throw uncheckable('The key is too short for the signature hash method')
  return { hash: hash.name, key, signature, saltLength }
}
