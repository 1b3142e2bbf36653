/** The bits of dirty bitmaps, and the table entries that say where they lie. Bit n is bit n % 8 of byte n / 8. Source: qcow2.txt, "Bitmaps". */
import { fault, type Qcow2Image } from './image.ts'
import { entry } from './layout.ts'

/** Where one cluster of bits lies: in the file, or nowhere, all of them being alike. */
export interface BitmapPart {
  /** Host byte offset; 0 when every bit is what `ones` says. */
  offset: number
  ones: boolean
}

/** Decodes entry `index` of a bitmap's table.
 *  @throws MoraineError `corrupt` when it breaks the format's rules. */
export function readBitmapPart(image: Qcow2Image, table: DataView, index: number, name: string): BitmapPart {
  const upper = table.getUint32(index * 8)
  const lower = table.getUint32(index * 8 + 4)
  const offset = upper * 0x1_0000_0000 + ((lower & entry.offsetLow) >>> 0)
  const low = lower & 0x1ff
  const sound = upper <= entry.offsetHigh && offset % image.geometry.clusterSize === 0 && low <= (offset === 0 ? 1 : 0)
  if (sound && Number.isSafeInteger(offset)) return { offset, ones: low === 1 }
  throw fault(image, 'corrupt', `entry ${index} of the table of bitmap '${name}' is invalid`, 'bitmap table entry', {
    value: `0x${((BigInt(upper) << 32n) | BigInt(lower)).toString(16)}`,
    rule: 'a multiple of the cluster size, or 0 or 1',
  })
}

/** Sets the bits from `from` to before `to`. */
export function setBits(bytes: Uint8Array, from: number, to: number): void {
  for (let bit = from; bit < to; ) {
    if (bit % 8 === 0 && to - bit >= 8) {
      const end = Math.floor(to / 8)
      bytes.fill(0xff, bit / 8, end)
      bit = end * 8
    } else {
      const at = Math.floor(bit / 8)
      bytes[at] = (bytes[at] ?? 0) | (1 << (bit % 8))
      bit++
    }
  }
}

/** Clears every bit from `from` on. */
export function clearBitsFrom(bytes: Uint8Array, from: number): void {
  bytes.fill(0, Math.ceil(from / 8))
  if (from % 8 !== 0) {
    const at = Math.floor(from / 8)
    bytes[at] = (bytes[at] ?? 0) & ((1 << (from % 8)) - 1)
  }
}

/** Tells the runs of set bits among the first `count`, ascending; a long run may come in pieces that touch. */
export function eachRun(bytes: Uint8Array, count: number, found: (from: number, to: number) => void): void {
  for (let bit = 0; bit < count; ) {
    const byte = bytes[Math.floor(bit / 8)] ?? 0
    if (bit % 8 === 0 && (byte === 0 || byte === 0xff)) {
      if (byte !== 0) found(bit, Math.min(bit + 8, count))
      bit += 8
    } else {
      if (((byte >>> (bit % 8)) & 1) !== 0) found(bit, bit + 1)
      bit++
    }
  }
}
