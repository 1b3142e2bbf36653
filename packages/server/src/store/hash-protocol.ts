/** What passes between the service and its hashing threads. */

export type HashAlgorithm = 'md5' | 'sha512'

/** A signature to be checked over all data. */
export interface Verification {
  readonly hash: 'sha224' | 'sha256' | 'sha384' | 'sha512'
  /** The public key, as PEM. */
  readonly key: string
  readonly signature: Uint8Array
  /** Of RSA-PSS, bytes; absent for other kinds of keys. */
  readonly saltLength?: number
}

export type HashRequest =
  | { op: 'start'; hash: number; algorithm: HashAlgorithm | Verification }
  | { op: 'update'; hash: number; memory: SharedArrayBuffer; length: number }
  | { op: 'digest'; hash: number }
  | { op: 'drop'; hash: number }

/** One answer for each `update` and `digest`, in order. The digest of a signature is `good`, or empty. */
export type HashReply = { hash: number; digest?: string }
