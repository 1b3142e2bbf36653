/** IV generators: what makes equal sectors different. Source: dm-crypt, as QEMU 7.2's `crypto/ivgen-*.c` have them. */
import type { BlockCipher } from '../core/index.ts'

/** Fills one block for each of the sectors that begin with number `first`, `step` apart. */
export type IvGenerator = (ivs: Uint8Array, blockBytes: number, first: number, step: number) => void

/** The sector's number in 32 bits, little-endian, then zeros. */
export const plainIv: IvGenerator = (ivs, blockBytes, first, step) => {
  const view = new DataView(ivs.buffer, ivs.byteOffset, ivs.length)
  ivs.fill(0)
  for (let at = 0, sector = first; at < ivs.length; at += blockBytes, sector += step) {
    view.setUint32(at, sector % 0x1_0000_0000, true)
  }
}

/** The same in 64 bits. */
export const plain64Iv: IvGenerator = (ivs, blockBytes, first, step) => {
  const view = new DataView(ivs.buffer, ivs.byteOffset, ivs.length)
  ivs.fill(0)
  for (let at = 0, sector = first; at < ivs.length; at += blockBytes, sector += step) {
    view.setUint32(at, sector % 0x1_0000_0000, true)
    view.setUint32(at + 4, Math.floor(sector / 0x1_0000_0000), true)
  }
}

/** The number in 64 bits, encrypted with a hash of the key. */
export function essivIv(cipher: BlockCipher): IvGenerator {
  return (ivs, blockBytes, first, step) => {
    plain64Iv(ivs, blockBytes, first, step)
    ivs.set(cipher.encrypt(ivs))
  }
}
