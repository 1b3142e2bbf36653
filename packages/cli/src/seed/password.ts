/** Passwords as crypt(3) keeps them: the hash is stored, never the password. */
import { randomBytes } from 'node:crypto'
import { Failure } from '../failure.ts'

/** What cloud-init takes for a hash and not for a password. Source: cloud-init's cc_set_passwords. */
const hash = /^\$(2a|2y|5|6)\$[^:\s]+\$[^:\s]+$/
/** Any hash of crypt(5). Set as a password, it would be the password itself. */
const anyHash = /^\$[0-9a-z]{1,3}\$[^:\s]+\$/

const saltCharacters = './0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'

/** The SHA-512 hash of a password, with a salt of its own; a hash is given back as it is.
 *  @throws Failure for an empty one, and for one of several lines. */
export async function hashPassword(password: string): Promise<string> {
  if (hash.test(password)) return password
  if (anyHash.test(password)) {
    throw new Failure(
      'the password is a hash that cloud-init would take for the password itself: it knows $2a$, $2y$, $5$ and $6$',
    )
  }
  if (password === '') throw new Failure('the password is empty')
  if (/[\r\n\0]/.test(password)) throw new Failure('the password has more than one line')
  const salt = Array.from(randomBytes(16), (byte) => saltCharacters[byte & 63]).join('')
  // It is a module only, and the standalone executable takes those in by import() alone.
  const { encrypt } = await import('unixcrypt')
  return encrypt(password, `$6$${salt}`)
}
