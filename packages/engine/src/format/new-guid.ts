/** Identities of new images. */
import { randomBytes } from '#platform'
import { randomGuidOf } from '../bytes/guid.ts'

/** A new random GUID (version 4 of RFC 9562). */
export function newGuid(): string {
  return randomGuidOf(randomBytes(16))
}
