/** Node's crypto as the engine's cryptography. It is loaded with the first use: that takes 5 ms. */

import type { Argon2Request, BlockCipher, CryptoLibrary, HashName } from '../../core/index.ts'
import { castCipher } from '../../crypt/cast5.ts'
import { serpentCipher } from '../../crypt/serpent.ts'
import { twofishCipher } from '../../crypt/twofish.ts'

function crypto(): typeof import('node:crypto') {
  return process.getBuiltinModule('node:crypto')
}

/** Blocks by themselves do not depend on what came before: one context serves for all. */
function aes(key: Uint8Array): BlockCipher | undefined {
  if (key.length !== 16 && key.length !== 24 && key.length !== 32) return undefined
  const { createCipheriv, createDecipheriv } = crypto()
  const name = `aes-${key.length * 8}-ecb`
  const cipher = createCipheriv(name, key, null).setAutoPadding(false)
  const decipher = createDecipheriv(name, key, null).setAutoPadding(false)
  return {
    blockBytes: 16,
    encrypt: (blocks) => cipher.update(blocks),
    decrypt: (blocks) => decipher.update(blocks),
  }
}

function hash(name: HashName) {
  return (...parts: readonly Uint8Array[]): Uint8Array => {
    const digest = crypto().createHash(name)
    for (const part of parts) digest.update(part)
    return digest.digest()
  }
}

/** Node has Argon2 since 24.7; Bun has none. */
function argon2({ kind, password, salt, time, memory, lanes, length }: Argon2Request): Promise<Uint8Array> {
  return new Promise((resolve, reject) => {
    const parameters = { message: password, nonce: salt, parallelism: lanes, tagLength: length, memory, passes: time }
    crypto().argon2(kind, parameters, (error, key) => {
      if (error === null) resolve(key)
      else reject(error)
    })
  })
}

const hashes: readonly HashName[] = ['md5', 'sha1', 'sha224', 'sha256', 'sha384', 'sha512', 'ripemd160']

/** Hashes, PBKDF2 and AES by Node's OpenSSL; CAST5, Serpent and Twofish, which it lacks, by the engine's own code. */
export const nodeCrypto: CryptoLibrary = {
  ciphers: { aes, cast5: castCipher, serpent: serpentCipher, twofish: twofishCipher },
  hashes: Object.fromEntries(hashes.map((name) => [name, hash(name)])),
  pbkdf2: (name, password, salt, iterations, length) =>
    new Promise((resolve, reject) => {
      crypto().pbkdf2(password, salt, iterations, length, name, (error, key) => {
        if (error === null) resolve(key)
        else reject(error)
      })
    }),
  ...(process.versions.bun === undefined ? { argon2 } : {}),
}
