/** Passwords as they are kept: Argon2id, by Node's own crypto (OpenSSL), off the main thread. */
import * as crypto from 'node:crypto'
import { availableParallelism } from 'node:os'
import { IdentityUnavailable } from './identity.ts'

/** OWASP's recommendation for Argon2id: 19 MiB, two passes, one lane; some 30 ms of one core. */
const memory = 19 * 1024
const passes = 2
const parallelism = 1
const tagLength = 32
const saltLength = 16

/** Hashes share Node's threads with reads and writes of image data, so only some may go at once, and few may wait. */
const atOnce = Math.max(1, Math.min(2, availableParallelism() - 1))
const mostWaiting = 100

/** What is longer is refused before it is hashed. In UTF-16 units. */
export const longestPassword = 1024

/** Whether this Node can do it: 24.7 and later, built with an OpenSSL that has Argon2. */
export function canHash(): boolean {
  return typeof crypto.argon2 === 'function'
}

let running = 0
const waiting: (() => void)[] = []

/** @throws IdentityUnavailable when too many wait already. */
async function inTurn<Result>(work: () => Promise<Result>): Promise<Result> {
  if (running >= atOnce) {
    if (waiting.length >= mostWaiting) throw new IdentityUnavailable('too many logins at once')
    await new Promise<void>((resolve) => waiting.push(resolve))
  } else running++
  try {
    return await work()
  } finally {
    const next = waiting.shift()
    if (next === undefined) running--
    else next()
  }
}

interface Parameters {
  memory: number
  passes: number
  parallelism: number
  salt: Uint8Array
  length: number
}

function argon2id(password: string, given: Parameters): Promise<Buffer> {
  const parameters = {
    message: Buffer.from(password.normalize('NFC')),
    nonce: given.salt,
    memory: given.memory,
    passes: given.passes,
    parallelism: given.parallelism,
    tagLength: given.length,
  }
  return inTurn(
    () =>
      new Promise((resolve, reject) => {
        crypto.argon2('argon2id', parameters, (error, key) => (error === null ? resolve(key) : reject(error)))
      }),
  )
}

const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64').replace(/=+$/, '')

/** The hash of a password in PHC form, `$argon2id$v=19$m=…,t=…,p=…$salt$hash`, so that the parameters may grow later. @throws IdentityUnavailable */
export async function hashPassword(password: string): Promise<string> {
  const salt = crypto.randomBytes(saltLength)
  const hash = await argon2id(password, { memory, passes, parallelism, salt, length: tagLength })
  return `$argon2id$v=19$m=${memory},t=${passes},p=${parallelism}$${base64(salt)}$${base64(hash)}`
}

const phc = /^\$argon2id\$v=19\$m=(\d+),t=(\d+),p=(\d+)\$([A-Za-z0-9+/]+)\$([A-Za-z0-9+/]+)$/

/** Whether a password is the one that was hashed. Where there is no hash it takes as long, and is never right. @throws IdentityUnavailable */
export async function isPassword(password: string, stored: string | null | undefined): Promise<boolean> {
  const [, m, t, p, salt = '', hash = ''] = phc.exec(stored ?? '') ?? []
  const isKnown = m !== undefined
  const expected = isKnown ? Buffer.from(hash, 'base64') : Buffer.alloc(tagLength)
  const found = await argon2id(password, {
    memory: isKnown ? Number(m) : memory,
    passes: isKnown ? Number(t) : passes,
    parallelism: isKnown ? Number(p) : parallelism,
    salt: isKnown ? Buffer.from(salt, 'base64') : Buffer.alloc(saltLength),
    length: expected.length,
  })
  return crypto.timingSafeEqual(found, expected) && isKnown
}
