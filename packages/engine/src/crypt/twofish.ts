/** Twofish, for disks that somebody encrypted with it: OpenSSL lacks it, and no library for JavaScript that has it is kept up. Source: Schneier et al., "Twofish: A 128-Bit Block
 *  Cipher", 1998. Not hardened against whoever can measure the time that a table takes. */
import type { BlockCipher } from '../core/index.ts'

/** The four 4-bit tables of each of both permutations q. */
const nibbles = [
  ['817d6f320b59eca4', 'ecb81235f4a6709d', 'ba5e6d90c8f32471', 'd7f4126e9b3085ca'],
  ['28bdf76e31940ac5', '1e2b4c376da5f908', '4c75169a0ed82b3f', 'b951c3de647f208a'],
].map((tables) => tables.map((digits) => Array.from(digits, (digit) => Number.parseInt(digit, 16))))

function permutation(tables: number[][]): Uint8Array {
  const [t0, t1, t2, t3] = tables as [number[], number[], number[], number[]]
  const half = (a: number, b: number): [number, number] => [a ^ b, (a ^ (b >> 1) ^ (b << 3) ^ (a << 3)) & 15]
  return Uint8Array.from({ length: 256 }, (_, x) => {
    const [a1, b1] = half(x >> 4, x & 15)
    const [a3, b3] = half(t0[a1] as number, t1[b1] as number)
    return ((t3[b3] as number) << 4) | (t2[a3] as number)
  })
}

const [q0, q1] = nibbles.map(permutation) as [Uint8Array, Uint8Array]

/** Which permutations the byte of each place goes through, the last step first. */
const order: readonly (readonly Uint8Array[])[] = [
  [q1, q0, q0, q1, q1],
  [q0, q0, q1, q1, q0],
  [q1, q1, q0, q0, q0],
  [q0, q1, q1, q0, q1],
]

/** The product in GF(2^8) with this polynomial. */
function product(a: number, b: number, polynomial: number): number {
  let result = 0
  for (let left = a, right = b; right > 0; right >>= 1) {
    if ((right & 1) !== 0) result ^= left
    left <<= 1
    if (left > 255) left ^= polynomial
  }
  return result
}

/** Columns of the MDS matrix. */
const columns = [
  [0x01, 0x5b, 0xef, 0xef],
  [0xef, 0xef, 0x5b, 0x01],
  [0x5b, 0xef, 0x01, 0xef],
  [0x5b, 0x01, 0xef, 0x5b],
].map((column) =>
  Uint32Array.from({ length: 256 }, (_, x) =>
    column.reduce((word, factor, row) => word | (product(x, factor, 0x169) << (8 * row)), 0),
  ),
) as [Uint32Array, Uint32Array, Uint32Array, Uint32Array]

const reedSolomon = [
  [0x01, 0xa4, 0x55, 0x87, 0x5a, 0x58, 0xdb, 0x9e],
  [0xa4, 0x56, 0x82, 0xf3, 0x1e, 0xc6, 0x68, 0xe5],
  [0x02, 0xa1, 0xfc, 0xc1, 0x47, 0xae, 0x3d, 0x19],
  [0xa4, 0x55, 0x87, 0x5a, 0x58, 0xdb, 0x9e, 0x03],
]

function through(permuted: Uint8Array, x: number): number {
  return permuted[x] as number
}

/** One byte through its permutations, with the bytes of `words` added between; the first of `words` last. */
function keyed(x: number, place: number, words: readonly Uint8Array[]): number {
  const steps = order[place] as readonly Uint8Array[]
  let y = x
  for (let i = words.length - 1; i >= 0; i--) {
    y = through(steps[i + 1] as Uint8Array, y) ^ ((words[i] as Uint8Array)[place] as number)
  }
  return through(steps[0] as Uint8Array, y)
}

function mix(x: number, words: readonly Uint8Array[]): number {
  return columns.reduce((sum, column, place) => sum ^ (column[keyed(x, place, words)] as number), 0)
}

function rotate(word: number, by: number): number {
  return (word << by) | (word >>> (32 - by))
}

/** Twofish with a key of 16, 24 or 32 bytes; undefined for others. */
export function twofishCipher(key: Uint8Array): BlockCipher | undefined {
  if (key.length !== 16 && key.length !== 24 && key.length !== 32) return undefined
  const even: Uint8Array[] = []
  const odd: Uint8Array[] = []
  const salt: Uint8Array[] = []
  for (let at = 0; at < key.length; at += 8) {
    even.push(key.subarray(at, at + 4))
    odd.push(key.subarray(at + 4, at + 8))
    const part = key.subarray(at, at + 8)
    salt.unshift(
      Uint8Array.from(reedSolomon, (row) =>
        row.reduce((sum, factor, i) => sum ^ product(part[i] as number, factor, 0x14d), 0),
      ),
    )
  }
  const keys = new Int32Array(40)
  for (let i = 0; i < 20; i++) {
    const a = mix(2 * i, even)
    const b = rotate(mix(2 * i + 1, odd), 8)
    keys[2 * i] = a + b
    keys[2 * i + 1] = rotate((a + 2 * b) | 0, 9)
  }
  const boxes = columns.map((column, place) =>
    Uint32Array.from({ length: 256 }, (_, x) => column[keyed(x, place, salt)] as number),
  ) as [Uint32Array, Uint32Array, Uint32Array, Uint32Array]
  return {
    blockBytes: 16,
    encrypt: (blocks) => run(blocks, (view, at, out) => encryptBlock(view, at, out, keys, boxes)),
    decrypt: (blocks) => run(blocks, (view, at, out) => decryptBlock(view, at, out, keys, boxes)),
  }
}

type Boxes = [Uint32Array, Uint32Array, Uint32Array, Uint32Array]

function run(blocks: Uint8Array, work: (view: DataView, at: number, out: DataView) => void): Uint8Array {
  const result = new Uint8Array(blocks.length)
  const view = new DataView(blocks.buffer, blocks.byteOffset, blocks.length)
  const out = new DataView(result.buffer)
  for (let at = 0; at < blocks.length; at += 16) work(view, at, out)
  return result
}

/** The function g: the keyed boxes and the matrix in one. */
function g(word: number, [s0, s1, s2, s3]: Boxes): number {
  return (
    (s0[word & 255] as number) ^
    (s1[(word >>> 8) & 255] as number) ^
    (s2[(word >>> 16) & 255] as number) ^
    (s3[word >>> 24] as number)
  )
}

function encryptBlock(view: DataView, at: number, out: DataView, keys: Int32Array, boxes: Boxes): void {
  let a = view.getInt32(at, true) ^ (keys[0] as number)
  let b = view.getInt32(at + 4, true) ^ (keys[1] as number)
  let c = view.getInt32(at + 8, true) ^ (keys[2] as number)
  let d = view.getInt32(at + 12, true) ^ (keys[3] as number)
  for (let key = 8; key < 40; key += 4) {
    let x = g(a, boxes)
    let y = g(rotate(b, 8), boxes)
    c ^= (x + y + (keys[key] as number)) | 0
    c = rotate(c, 31)
    d = rotate(d, 1) ^ ((x + 2 * y + (keys[key + 1] as number)) | 0)
    x = g(c, boxes)
    y = g(rotate(d, 8), boxes)
    a ^= (x + y + (keys[key + 2] as number)) | 0
    a = rotate(a, 31)
    b = rotate(b, 1) ^ ((x + 2 * y + (keys[key + 3] as number)) | 0)
  }
  out.setInt32(at, c ^ (keys[4] as number), true)
  out.setInt32(at + 4, d ^ (keys[5] as number), true)
  out.setInt32(at + 8, a ^ (keys[6] as number), true)
  out.setInt32(at + 12, b ^ (keys[7] as number), true)
}

function decryptBlock(view: DataView, at: number, out: DataView, keys: Int32Array, boxes: Boxes): void {
  let c = view.getInt32(at, true) ^ (keys[4] as number)
  let d = view.getInt32(at + 4, true) ^ (keys[5] as number)
  let a = view.getInt32(at + 8, true) ^ (keys[6] as number)
  let b = view.getInt32(at + 12, true) ^ (keys[7] as number)
  for (let key = 36; key >= 8; key -= 4) {
    let x = g(c, boxes)
    let y = g(rotate(d, 8), boxes)
    a = rotate(a, 1) ^ ((x + y + (keys[key + 2] as number)) | 0)
    b ^= (x + 2 * y + (keys[key + 3] as number)) | 0
    b = rotate(b, 31)
    x = g(a, boxes)
    y = g(rotate(b, 8), boxes)
    c = rotate(c, 1) ^ ((x + y + (keys[key] as number)) | 0)
    d ^= (x + 2 * y + (keys[key + 1] as number)) | 0
    d = rotate(d, 31)
  }
  out.setInt32(at, a ^ (keys[0] as number), true)
  out.setInt32(at + 4, b ^ (keys[1] as number), true)
  out.setInt32(at + 8, c ^ (keys[2] as number), true)
  out.setInt32(at + 12, d ^ (keys[3] as number), true)
}
