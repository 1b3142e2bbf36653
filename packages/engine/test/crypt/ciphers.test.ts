/** Ciphers, modes and the anti-forensic splitter beside Node's own, and beside published vectors. */
import { createCipheriv, createHash, randomBytes } from 'node:crypto'
import type { CipherName, CryptoLibrary } from '@moraine/engine'
import { nodeCrypto } from '@moraine/engine/node'
import { describe, expect, it } from 'vitest'
import { mergeKey, splitKey } from '../../src/crypt/anti-forensic.ts'
import { type CipherSpec, sectorCipher } from '../../src/crypt/sector-cipher.ts'
import { boxes, inverseBoxes } from '../../src/crypt/serpent-boxes.ts'
import { Random, seed } from '../support/random.ts'

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

/** Key, plaintext, ciphertext. Twofish: the paper's tables of zeros and of `ecb_ival.txt`; Serpent: NESSIE, set 1;
 *  CAST5: RFC 2144, appendix B. */
const vectors: [CipherName, string, string, string][] = [
  ['twofish', '00'.repeat(16), '00'.repeat(16), '9f589f5cf6122c32b6bfec2f2ae8c35a'],
  ['twofish', '0123456789abcdeffedcba98765432100011223344556677', '00'.repeat(16), 'cfd1d2e5a9be9cdf501f13b892bd2248'],
  [
    'twofish',
    '0123456789abcdeffedcba987654321000112233445566778899aabbccddeeff',
    '00'.repeat(16),
    '37527be0052334b89f0cfccae87cfa20',
  ],
  ['cast5', '0123456712345678234567893456789a', '0123456789abcdef', '238b4fe5847e44b2'],
  ['serpent', `80${'00'.repeat(15)}`, '00'.repeat(16), '264e5481eff42a4606abda06c0bfda3d'],
  ['serpent', `80${'00'.repeat(31)}`, '00'.repeat(16), 'a223aa1288463c0e2be38ebd825616c0'],
]

/** The tables of Serpent's boxes, as its paper has them. */
const tables = [
  [3, 8, 15, 1, 10, 6, 5, 11, 14, 13, 4, 2, 7, 0, 9, 12],
  [15, 12, 2, 7, 9, 0, 5, 10, 1, 11, 14, 8, 6, 13, 3, 4],
  [8, 6, 7, 9, 3, 12, 10, 15, 13, 1, 14, 4, 0, 11, 5, 2],
  [0, 15, 11, 8, 12, 9, 6, 3, 13, 1, 2, 4, 10, 7, 5, 14],
  [1, 15, 8, 3, 12, 0, 11, 6, 2, 5, 4, 10, 9, 14, 7, 13],
  [15, 5, 2, 11, 4, 10, 9, 12, 0, 3, 14, 8, 13, 6, 7, 1],
  [7, 2, 12, 5, 8, 4, 6, 11, 14, 9, 1, 15, 13, 3, 10, 0],
  [1, 13, 15, 0, 14, 8, 2, 11, 7, 4, 12, 10, 9, 3, 5, 6],
]

describe('block ciphers', () => {
  it.each(vectors)('%s with a key of %s', (name, key, plain, encrypted) => {
    const cipher = nodeCrypto.ciphers[name]?.(Buffer.from(key, 'hex'))
    expect(hex(cipher?.encrypt(Buffer.from(plain, 'hex')) ?? new Uint8Array())).toBe(encrypted)
    expect(hex(cipher?.decrypt(Buffer.from(encrypted, 'hex')) ?? new Uint8Array())).toBe(plain)
  })

  it.each(['aes', 'cast5', 'serpent', 'twofish'] as const)(
    '%s decrypts what it encrypts, and knows its keys',
    (name) => {
      const make = nodeCrypto.ciphers[name]
      for (const bytes of name === 'cast5' ? [16] : [16, 24, 32]) {
        const cipher = make?.(randomBytes(bytes))
        const blocks = randomBytes(4096)
        const before = Buffer.from(blocks)
        const encrypted = cipher?.encrypt(blocks) ?? blocks
        expect(blocks.equals(before), 'the input stays').toBe(true)
        expect(hex(encrypted)).not.toBe(hex(blocks))
        expect(hex(cipher?.decrypt(encrypted) ?? encrypted)).toBe(hex(blocks))
      }
      for (const bytes of [0, 8, 15, 17, 33, 64, ...(name === 'cast5' ? [24, 32] : [])])
        expect(make?.(new Uint8Array(bytes))).toBeUndefined()
    },
  )

  it("Serpent's boxes are those of its tables", () => {
    const column = (words: Int32Array, at: number): number =>
      words.reduce((value, word, bit) => value | (((word >>> at) & 1) << bit), 0)
    const all = Int32Array.from({ length: 4 }, (_, bit) =>
      Array.from({ length: 16 }, (_, at) => ((at >> bit) & 1) << at).reduce((a, b) => a | b, 0),
    )
    tables.forEach((table, box) => {
      const words = all.slice()
      boxes[box]?.(words)
      expect(Array.from({ length: 16 }, (_, at) => column(words, at))).toEqual(table)
      inverseBoxes[box]?.(words)
      expect(Array.from({ length: 16 }, (_, at) => column(words, at))).toEqual(table.map((_, at) => at))
    })
  })
})

describe('modes over many sectors', () => {
  /** AES by Node, a sector at a time. */
  function bySector(spec: CipherSpec, key: Buffer, first: number, bytes: Buffer, sectorBytes: number): Buffer {
    const sectors: Buffer[] = []
    for (let at = 0; at < bytes.length; at += sectorBytes) {
      const number = BigInt(first + at / 512)
      let iv = Buffer.alloc(16)
      iv.writeBigUInt64LE(spec.iv === 'plain' ? number & 0xffff_ffffn : number)
      if (spec.iv === 'essiv') {
        const salt = createHash(spec.ivHash ?? 'sha256')
          .update(key)
          .digest()
        const cipher = createCipheriv(`aes-${salt.length * 8}-ecb`, salt, null).setAutoPadding(false)
        iv = cipher.update(iv)
      }
      const bits = (spec.mode === 'xts' ? key.length / 2 : key.length) * 8
      const cipher = createCipheriv(`aes-${bits}-${spec.mode}`, key, spec.mode === 'ecb' ? null : iv)
      if (spec.mode === 'ecb' || spec.mode === 'cbc') cipher.setAutoPadding(false)
      sectors.push(cipher.update(bytes.subarray(at, at + sectorBytes)))
    }
    return Buffer.concat(sectors)
  }

  const random = new Random(seed('cipher modes'))
  for (const mode of ['ecb', 'cbc', 'xts', 'ctr'] as const) {
    for (const iv of ['plain', 'plain64', 'essiv'] as const) {
      it(`${mode}-${iv}`, () => {
        for (const sectorBytes of [512, 4096]) {
          const ivHash = iv === 'essiv' ? random.pick(['sha256', 'md5'] as const) : undefined
          const spec: CipherSpec = { cipher: 'aes', mode, iv, ivHash }
          const half = random.pick(mode === 'xts' ? [16, 32] : [16, 24, 32])
          const key = randomBytes(mode === 'xts' ? 2 * half : half)
          // Numbers of sectors pass 2^32, and pieces the size in which sectors are worked on.
          const first = random.pick([0, 8 * random.int(0, 1000), 0xffff_fff8, 2 ** 41])
          const bytes = randomBytes(sectorBytes * random.pick([1, 3, (128 * 1024) / sectorBytes, 300]))
          const before = Uint8Array.from(bytes)
          const cipher = sectorCipher(nodeCrypto, spec, key, sectorBytes)
          const expected = bySector(spec, key, first, bytes, sectorBytes)
          expect(hex(createHash('md5').update(cipher.encrypt(first, bytes)).digest())).toBe(
            hex(createHash('md5').update(expected).digest()),
          )
          // In place, at an odd place in memory.
          const odd = new Uint8Array(bytes.length + 1).subarray(1)
          odd.set(expected)
          cipher.decrypt(first, odd)
          expect(Buffer.compare(odd, bytes)).toBe(0)
          expect(Buffer.compare(before, bytes), 'the input stays').toBe(0)
        }
      })
    }
  }

  it('says by name what is not there', () => {
    const spec = { cipher: 'cast5', mode: 'cbc', iv: 'plain' } as const
    const { cast5: _none, ...ciphers } = nodeCrypto.ciphers
    const none: CryptoLibrary = { ...nodeCrypto, ciphers, hashes: {} }
    expect(() => sectorCipher(none, spec, new Uint8Array(16))).toThrow(/Algorithm 'cast5' not supported/)
    const essiv = { cipher: 'aes', mode: 'cbc', iv: 'essiv', ivHash: 'sha1' } as const
    expect(() => sectorCipher(none, essiv, new Uint8Array(16))).toThrow(/'sha1' is not supported/)
    expect(() => sectorCipher(nodeCrypto, essiv, new Uint8Array(16))).toThrow(/No AES cipher with key size 20/)
    expect(() => sectorCipher(nodeCrypto, { ...spec, cipher: 'aes' }, new Uint8Array(15))).toThrow(/key size 15 bytes/)
  })
})

describe('the anti-forensic splitter', () => {
  it.each([
    ['sha256', 64],
    ['sha1', 32],
    ['md5', 20],
    ['sha512', 48],
  ] as const)('%s: merges what it splits, and nothing else', (name, keyBytes) => {
    const hash = nodeCrypto.hashes[name]
    if (hash === undefined) throw new Error('no hash')
    const key = randomBytes(keyBytes)
    const material = splitKey(key, 50, hash, randomBytes)
    expect(hex(mergeKey(material, keyBytes, 50, hash))).toBe(hex(key))
    const at = random(material.length)
    material[at] = (material[at] ?? 0) ^ 1
    expect(hex(mergeKey(material, keyBytes, 50, hash))).not.toBe(hex(key))
  })

  function random(below: number): number {
    return new Random(seed('splitter')).int(0, below - 1)
  }
})
