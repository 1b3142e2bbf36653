/** Secrets of `--object secret,…`, which hold the passwords of encrypted images. Defaults and words are those of QEMU 7.2. What a secret holds is never shown. */
import { readFileSync } from 'node:fs'
import { codeOf, strerror } from '@moraine/engine/node'
import { Failure } from './failure.ts'
import { type Properties, refuseLeft, take } from './object-properties.ts'

/** What a secret holds, by its properties, which are taken out: `data` or `file`, `format`, and `keyid` and `iv` where another secret of `known` encrypts it.
 *  @throws Failure */
export function readSecret(properties: Properties, known: ReadonlyMap<string, Uint8Array>): Uint8Array {
  const format = take(properties, 'format') ?? 'raw'
  if (format !== 'raw' && format !== 'base64') {
    throw new Failure(`Parameter 'format' does not accept value '${format}'`)
  }
  const file = take(properties, 'file')
  const data = take(properties, 'data')
  const keyId = take(properties, 'keyid')
  const iv = take(properties, 'iv')
  refuseLeft(properties)
  if (file !== undefined && data !== undefined) throw new Failure("'file' and 'data' are mutually exclusive")
  if (file === undefined && data === undefined) throw new Failure("Either 'file' or 'data' must be provided")
  const given = file === undefined ? Buffer.from(data ?? '') : readFile(file)
  const decoded = format === 'base64' ? decodeBase64(given.toString('latin1')) : given
  return keyId === undefined ? decoded : decrypt(decoded, known.get(keyId), keyId, iv)
}

/** A secret that another one encrypts: AES-256-CBC, with PKCS#7 padding. */
function decrypt(
  encrypted: Buffer,
  key: Uint8Array | undefined,
  keyId: string,
  ivText: string | undefined,
): Uint8Array {
  if (key === undefined) throw new Failure(`No secret with id '${keyId}'`)
  if (key.length !== 32) throw new Failure('Key should be 32 bytes in length')
  if (ivText === undefined) throw new Failure('IV is required to decrypt secret')
  const iv = decodeBase64(ivText)
  if (iv.length !== 16) throw new Failure(`IV should be 16 bytes in length not ${iv.length}`)
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
    throw new Failure(`Unable to read ${path}: Failed to open file “${path}”: ${strerror(codeOf(error))}`)
  }
}

function decodeBase64(text: string): Buffer {
  const compact = text.replace(/[\r\n]/g, '')
  if (!/^[a-z0-9+/]*={0,2}$/i.test(compact)) throw new Failure('Base64 data contains invalid characters')
  return Buffer.from(compact, 'base64')
}
