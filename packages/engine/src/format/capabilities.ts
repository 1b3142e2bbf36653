/** What formats can do that cannot do much. */
import type { Capabilities } from './format.ts'

/** A format that can do nothing but be named. */
export const nothing: Capabilities = {
  read: false,
  write: false,
  create: false,
  check: false,
  repair: false,
  resize: false,
  snapshots: false,
  backing: false,
  compress: false,
  measure: false,
}

/** A format that is only read. */
export const readOnly: Capabilities = { ...nothing, read: true }
