/** Serpent, for disks that somebody encrypted with it: OpenSSL lacks it, and no library for JavaScript that has it is kept up. Source: Anderson, Biham, Knudsen: "Serpent: A Proposal
 *  for the Advanced Encryption Standard", 1998; words are little-endian, as NESSIE, Linux and QEMU have them. */
import type { BlockCipher } from '../core/index.ts'
import { boxes, inverseBoxes } from './serpent-boxes.ts'

function rotate(word: number, by: number): number {
  return (word << by) | (word >>> (32 - by))
}

/** The 33 round keys, four words each. */
function schedule(key: Uint8Array): Int32Array {
  // A short key is followed by one bit, then zeros.
  const padded = new Uint8Array(32)
  padded.set(key)
  if (key.length < 32) padded[key.length] = 1
  const view = new DataView(padded.buffer)
  const words = new Int32Array(140)
  for (let i = 0; i < 8; i++) words[i] = view.getInt32(i * 4, true)
  for (let i = 8; i < 140; i++) {
    const sum =
      (words[i - 8] as number) ^ (words[i - 5] as number) ^ (words[i - 3] as number) ^ (words[i - 1] as number)
    words[i] = rotate(sum ^ 0x9e3779b9 ^ (i - 8), 11)
  }
  const keys = words.slice(8)
  for (let round = 0; round < 33; round++) boxes[(35 - round) % 8]?.(keys.subarray(round * 4, round * 4 + 4))
  return keys
}

function addKey(words: Int32Array, keys: Int32Array, round: number): void {
  for (let i = 0; i < 4; i++) (words[i] as number) ^= keys[round * 4 + i] as number
}

function transform(words: Int32Array): void {
  let [a, b, c, d] = words as unknown as [number, number, number, number]
  a = rotate(a, 13)
  c = rotate(c, 3)
  b = rotate(b ^ a ^ c, 1)
  d = rotate(d ^ c ^ (a << 3), 7)
  a = rotate(a ^ b ^ d, 5)
  c = rotate(c ^ d ^ (b << 7), 22)
  words[0] = a
  words[1] = b
  words[2] = c
  words[3] = d
}

function untransform(words: Int32Array): void {
  let [a, b, c, d] = words as unknown as [number, number, number, number]
  c = rotate(c, 10) ^ d ^ (b << 7)
  a = rotate(a, 27) ^ b ^ d
  d = rotate(d, 25) ^ c ^ (a << 3)
  b = rotate(b, 31) ^ a ^ c
  words[0] = rotate(a, 19)
  words[1] = b
  words[2] = rotate(c, 29)
  words[3] = d
}

/** Serpent with a key of 16, 24 or 32 bytes; undefined for others. */
export function serpentCipher(key: Uint8Array): BlockCipher | undefined {
  if (key.length !== 16 && key.length !== 24 && key.length !== 32) return undefined
  const keys = schedule(key)
  return {
    blockBytes: 16,
    encrypt: (blocks) =>
      run(blocks, (words) => {
        for (let round = 0; round < 32; round++) {
          addKey(words, keys, round)
          boxes[round % 8]?.(words)
          if (round < 31) transform(words)
        }
        addKey(words, keys, 32)
      }),
    decrypt: (blocks) =>
      run(blocks, (words) => {
        addKey(words, keys, 32)
        for (let round = 31; round >= 0; round--) {
          if (round < 31) untransform(words)
          inverseBoxes[round % 8]?.(words)
          addKey(words, keys, round)
        }
      }),
  }
}

function run(blocks: Uint8Array, work: (words: Int32Array) => void): Uint8Array {
  const result = new Uint8Array(blocks.length)
  const view = new DataView(blocks.buffer, blocks.byteOffset, blocks.length)
  const out = new DataView(result.buffer)
  const words = new Int32Array(4)
  for (let at = 0; at < blocks.length; at += 16) {
    for (let i = 0; i < 4; i++) words[i] = view.getInt32(at + i * 4, true)
    work(words)
    for (let i = 0; i < 4; i++) out.setInt32(at + i * 4, words[i] as number, true)
  }
  return result
}
