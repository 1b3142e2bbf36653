/** MD5 (RFC 1321), for formats that carry it as a checksum; it protects from nothing else. */
import { viewOf } from './integers.ts'

const shifts = [7, 12, 17, 22, 5, 9, 14, 20, 4, 11, 16, 23, 6, 10, 15, 21]
let sineTable: Int32Array | undefined

/** Made when first needed: sines cost a start 0.3 ms. */
function sines(): Int32Array {
  sineTable ??= Int32Array.from({ length: 64 }, (_, i) => Math.floor(Math.abs(Math.sin(i + 1)) * 2 ** 32))
  return sineTable
}

/** The 16 bytes of the digest of `bytes`. */
export function md5(bytes: Uint8Array): Uint8Array {
  const state = Int32Array.of(0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476)
  const whole = bytes.length - (bytes.length % 64)
  const view = viewOf(bytes)
  for (let at = 0; at < whole; at += 64) addBlock(state, view, at)
  const rest = bytes.length - whole
  const tail = new Uint8Array(rest < 56 ? 64 : 128)
  tail.set(bytes.subarray(whole))
  tail[rest] = 0x80
  const tailView = viewOf(tail)
  tailView.setBigUint64(tail.length - 8, BigInt(bytes.length) * 8n, true)
  for (let at = 0; at < tail.length; at += 64) addBlock(state, tailView, at)
  const digest = new Uint8Array(16)
  const out = viewOf(digest)
  for (let i = 0; i < 4; i++) out.setInt32(i * 4, state[i] as number, true)
  return digest
}

function addBlock(state: Int32Array, view: DataView, at: number): void {
  let [a, b, c, d] = state as unknown as [number, number, number, number]
  const table = sines()
  for (let i = 0; i < 64; i++) {
    const round = i >> 4
    let mixed: number
    let word: number
    if (round === 0) {
      mixed = (b & c) | (~b & d)
      word = i
    } else if (round === 1) {
      mixed = (d & b) | (~d & c)
      word = (5 * i + 1) & 15
    } else if (round === 2) {
      mixed = b ^ c ^ d
      word = (3 * i + 5) & 15
    } else {
      mixed = c ^ (b | ~d)
      word = (7 * i) & 15
    }
    const sum = (a + mixed + (table[i] as number) + view.getInt32(at + word * 4, true)) | 0
    const shift = shifts[round * 4 + (i & 3)] as number
    a = d
    d = c
    c = b
    b = (b + ((sum << shift) | (sum >>> (32 - shift)))) | 0
  }
  state[0] = (state[0] as number) + a
  state[1] = (state[1] as number) + b
  state[2] = (state[2] as number) + c
  state[3] = (state[3] as number) + d
}
