/** CAST5 (CAST-128), for disks that somebody encrypted with it: OpenSSL keeps it apart with what it no longer wants, and no library for JavaScript that has it can be asked for blocks alone.
 *  Source: RFC 2144. Keys have 128 bits, as QEMU has them. Its blocks of 64 bits repeat after some gigabytes: it is here to read, not to be chosen. */
import type { BlockCipher } from '../core/index.ts'
import { castBoxes } from './cast5-boxes.ts'

/** The boxes, made when a key first wants them. */
let known: Uint32Array[] | undefined

/** What a step of the key schedule adds up: which word is the base, then a byte for each of S5 to S8, and one more for the box that is named last. Bytes are numbered as in the RFC. */
type Step = readonly [base: number, s5: number, s6: number, s7: number, s8: number, more: number, box: number]

/** z from x: the base is a word of x, bytes from 16 on are those of z that are there already. */
const toZ: readonly Step[] = [
  [0, 13, 15, 12, 14, 8, 6],
  [2, 16, 18, 17, 19, 10, 7],
  [3, 23, 22, 21, 20, 9, 4],
  [1, 26, 25, 27, 24, 11, 5],
]

/** x from z, in the same way. */
const toX: readonly Step[] = [
  [2, 5, 7, 4, 6, 0, 6],
  [0, 16, 18, 17, 19, 2, 7],
  [1, 23, 22, 21, 20, 1, 4],
  [3, 26, 25, 27, 24, 3, 5],
]

/** Four keys from the bytes of z or x: a byte for each of S5 to S8, and one more for S5, S6, S7, S8 in turn. */
type Quad = readonly (readonly [number, number, number, number, number])[]

const ahead = (more: readonly number[]): Quad => [
  [8, 9, 7, 6, more[0] as number],
  [10, 11, 5, 4, more[1] as number],
  [12, 13, 3, 2, more[2] as number],
  [14, 15, 1, 0, more[3] as number],
]
const back = (more: readonly number[]): Quad => [
  [3, 2, 12, 13, more[0] as number],
  [1, 0, 14, 15, more[1] as number],
  [7, 6, 8, 9, more[2] as number],
  [5, 4, 10, 11, more[3] as number],
]

const turns: readonly (readonly [steps: readonly Step[], keys: Quad])[] = [
  [toZ, ahead([2, 6, 9, 12])],
  [toX, back([8, 13, 3, 7])],
  [toZ, back([9, 12, 2, 6])],
  [toX, ahead([3, 7, 8, 13])],
]

function schedule(key: Uint8Array, boxes: Uint32Array[]): Int32Array {
  let from = key.slice(0, 16)
  const keys = new Int32Array(32)
  let made = 0
  const box = (index: number, at: number): number => (boxes[index] as Uint32Array)[at] as number
  for (const [steps, quad] of [...turns, ...turns]) {
    const bytes = new Uint8Array(32)
    bytes.set(from)
    const view = new DataView(bytes.buffer)
    steps.forEach(([base, s5, s6, s7, s8, more, last], word) => {
      const at = (index: number): number => bytes[index] as number
      const sum = box(4, at(s5)) ^ box(5, at(s6)) ^ box(6, at(s7)) ^ box(7, at(s8)) ^ box(last, at(more))
      view.setInt32(16 + word * 4, view.getInt32(base * 4) ^ sum)
    })
    from = bytes.slice(16)
    const at = (index: number): number => from[index] as number
    quad.forEach(([s5, s6, s7, s8, more], i) => {
      keys[made++] = box(4, at(s5)) ^ box(5, at(s6)) ^ box(6, at(s7)) ^ box(7, at(s8)) ^ box(4 + i, at(more))
    })
  }
  return keys
}

/** CAST5 with a key of 16 bytes; undefined for others. */
export function castCipher(key: Uint8Array): BlockCipher | undefined {
  if (key.length !== 16) return undefined
  known ??= castBoxes()
  const boxes = known
  const keys = schedule(new Uint8Array(key), boxes)
  return {
    blockBytes: 8,
    encrypt: (blocks) => run(blocks, keys, boxes, false),
    decrypt: (blocks) => run(blocks, keys, boxes, true),
  }
}

function run(blocks: Uint8Array, keys: Int32Array, boxes: Uint32Array[], backwards: boolean): Uint8Array {
  const [s1, s2, s3, s4] = boxes as [Uint32Array, Uint32Array, Uint32Array, Uint32Array]
  const result = new Uint8Array(blocks.length)
  const view = new DataView(blocks.buffer, blocks.byteOffset, blocks.length)
  const out = new DataView(result.buffer)
  for (let at = 0; at < blocks.length; at += 8) {
    let left = view.getInt32(at)
    let right = view.getInt32(at + 4)
    for (let turn = 0; turn < 16; turn++) {
      const round = backwards ? 15 - turn : turn
      const masking = keys[round] as number
      const by = (keys[16 + round] as number) & 31
      const kind = round % 3
      const mixed = kind === 0 ? masking + right : kind === 1 ? masking ^ right : masking - right
      const word = by === 0 ? mixed | 0 : (mixed << by) | (mixed >>> (32 - by))
      const a = s1[word >>> 24] as number
      const b = s2[(word >>> 16) & 255] as number
      const c = s3[(word >>> 8) & 255] as number
      const d = s4[word & 255] as number
      const f = kind === 0 ? ((a ^ b) - c + d) | 0 : kind === 1 ? ((a - b + c) ^ d) | 0 : (((a + b) ^ c) - d) | 0
      const next = left ^ f
      left = right
      right = next
    }
    out.setInt32(at, right)
    out.setInt32(at + 4, left)
  }
  return result
}
