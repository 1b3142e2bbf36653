/** What passes between the service and its hashing threads. */

export type HashAlgorithm = 'md5' | 'sha512'

export type HashRequest =
  | { op: 'start'; hash: number; algorithm: HashAlgorithm }
  | { op: 'update'; hash: number; memory: SharedArrayBuffer; length: number }
  | { op: 'digest'; hash: number }
  | { op: 'drop'; hash: number }

/** One answer for each `update` and `digest`, in order. */
export type HashReply = { hash: number; digest?: string }
