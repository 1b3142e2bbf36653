/** The bitmap before each block: which of its sectors are there. The most significant bit of a byte comes first. */

/** A bitmap in memory; `full` when every bit is set. */
export interface SectorBitmap {
  readonly bytes: Uint8Array
  full: boolean
}

/** Reverses the bits of every byte: XenServer's creator 0.1 counted from the other end. */
export function reverseBits(bytes: Uint8Array): void {
  for (let i = 0; i < bytes.length; i++) {
    let byte = bytes[i] as number
    byte = ((byte & 0xf0) >>> 4) | ((byte & 0x0f) << 4)
    byte = ((byte & 0xcc) >>> 2) | ((byte & 0x33) << 2)
    bytes[i] = ((byte & 0xaa) >>> 1) | ((byte & 0x55) << 1)
  }
}

/** A bitmap over these bytes, of which the first `sectors` bits count. */
export function sectorBitmap(bytes: Uint8Array, sectors: number): SectorBitmap {
  return { bytes, full: bitRun(bytes, 0, sectors).length === sectors && sectors > 0 && isSet(bytes, 0) }
}

/** Whether a sector has its bit. */
export function isSet(bytes: Uint8Array, sector: number): boolean {
  return ((bytes[sector >>> 3] as number) & (0x80 >>> (sector & 7))) !== 0
}

/** How many bits from `first` up to, not including, `end` are alike. Bytes that are all alike are taken whole. */
export function bitRun(bytes: Uint8Array, first: number, end: number): { set: boolean; length: number } {
  const set = isSet(bytes, first)
  const whole = set ? 0xff : 0
  let at = first + 1
  while (at < end) {
    if ((at & 7) === 0) {
      while (at + 8 <= end && bytes[at >>> 3] === whole) at += 8
      if (at >= end) break
    }
    if (isSet(bytes, at) !== set) break
    at++
  }
  return { set, length: Math.min(at, end) - first }
}

/** Sets the bits from `first` up to, not including, `end`. */
export function setBits({ bytes }: SectorBitmap, first: number, end: number): void {
  let at = first
  while (at < end) {
    if ((at & 7) === 0 && at + 8 <= end) {
      bytes[at >>> 3] = 0xff
      at += 8
    } else {
      bytes[at >>> 3] = (bytes[at >>> 3] as number) | (0x80 >>> (at & 7))
      at++
    }
  }
}
