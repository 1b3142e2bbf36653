/** Secrets of `--object secret,…` and `--object secret_keyring,…`, which hold the passwords of encrypted images. Words are those of QEMU 7.2. What a secret holds is never
 *  shown. */
import { readFileSync } from 'node:fs'
import { codeOf, readKey, strerror } from '@moraine/engine/node'
import { Failure } from '../failure.ts'
import type { Objects } from './objects.ts'

/** How the given bytes are to be understood: in which format, and with which key and initialization vector where another secret encrypts them. */
interface Wrapping {
  format?: 'raw' | 'base64'
  keyid?: string
  iv?: string
}

/** What a secret holds that stands on the command line or in a file.
 *  @throws Failure */
export function readSecret(values: Wrapping & { data?: string; file?: string }, objects: Objects): Uint8Array {
  const { data, file } = values
  if (file !== undefined && data !== undefined) throw new Failure("'file' and 'data' are mutually exclusive")
  if (file === undefined && data === undefined) throw new Failure("Either 'file' or 'data' must be provided")
  return unwrap(file === undefined ? Buffer.from(data ?? '') : readFile(file), values, objects)
}

/** What a secret holds that lies in the kernel's key ring.
 *  @throws Failure */
export function readKeyringSecret(values: Wrapping & { serial: number }, objects: Objects): Uint8Array {
  const { serial } = values
  if (serial === 0) throw new Failure("'serial' should not be equal to 0")
  const held = readKey(serial)
  if (typeof held !== 'string' && held.length > 0) return unwrap(Buffer.from(held), values, objects)
  const number = (serial >>> 0).toString(16).padStart(8, '0')
  const reason = typeof held === 'string' ? `: ${strerror(held)}` : ''
  throw new Failure(`Unable to read serial key ${number}${reason}`)
}

/** The secret of an id.
 *  @throws Failure */
export function lookUpSecret({ kinds, secrets }: Objects, id: string): Uint8Array {
  const secret = secrets.get(id)
  if (secret !== undefined) return secret
  throw new Failure(kinds.has(id) ? `Object with id '${id}' is not a secret` : `No secret with id '${id}'`)
}

function unwrap(given: Buffer, { format, keyid, iv }: Wrapping, objects: Objects): Uint8Array {
  const decode = (): Buffer => (format === 'base64' ? decodeBase64(given.toString('latin1')) : given)
  return keyid === undefined ? decode() : decrypt(decode, lookUpSecret(objects, keyid), iv)
}

/** A secret that another one encrypts: AES-256-CBC, with PKCS#7 padding. */
function decrypt(decode: () => Buffer, key: Uint8Array, ivText: string | undefined): Uint8Array {
  if (key.length !== 32) throw new Failure('Key should be 32 bytes in length')
  if (ivText === undefined) throw new Failure('IV is required to decrypt secret')
  const iv = decodeBase64(ivText)
  if (iv.length !== 16) throw new Failure(`IV should be 16 bytes in length not ${iv.length}`)
  const encrypted = decode()
  if (encrypted.length % 16 !== 0) {
    throw new Failure(`Length ${encrypted.length} must be a multiple of block size 16`)
  }
  const { createDecipheriv } = process.getBuiltinModule('node:crypto')
  const cipher = createDecipheriv('aes-256-cbc', key, iv).setAutoPadding(false)
  const plain = Buffer.concat([cipher.update(encrypted), cipher.final()])
  const padding = plain.at(-1) ?? 0
  if (padding === 0 || padding > 16 || padding > plain.length) {
    throw new Failure(`Incorrect number of padding bytes (${padding}) found on decrypted data`)
  }
  return plain.subarray(0, plain.length - padding)
}

function readFile(path: string): Buffer {
  try {
    return readFileSync(path)
  } catch (error) {
    const code = codeOf(error)
    // A folder opens.
    const step = code === 'EISDIR' ? 'Error reading' : 'Failed to open'
    throw new Failure(`Unable to read ${path}: ${step} file “${path}”: ${strerror(code)}`)
  }
}

/** As GLib does it: four digits at a time, and what is left over at the end is forgotten. A `=` counts as zeros wherever it stands, and in the last two places leaves out a byte. */
function decodeBase64(text: string): Buffer {
  const digits = text.replaceAll('\n', '')
  if (!/^[a-z0-9+/=]*$/i.test(digits)) throw new Failure('Base64 data contains invalid characters')
  const bytes: number[] = []
  for (const [group] of digits.matchAll(/.{4}/g)) {
    const three = Buffer.from(group.replaceAll('=', 'A'), 'base64')
    for (const [at, byte] of three.entries()) if (at === 0 || group[at + 1] !== '=') bytes.push(byte)
  }
  return Buffer.from(bytes)
}
