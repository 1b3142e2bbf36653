/** Bits of sector bitmaps: one for each logical sector, the least significant first. Source: MS-VHDX 2.5.2. */

/** How many of the bits in `[from, to)` are as the one at `from`, counted from it. `bytes` begins at a multiple of 4 of its buffer. */
export function bitRun(bytes: Uint8Array, from: number, to: number): { set: boolean; count: number } {
  const set = isSet(bytes, from)
  let at = from + 1
  while (at < to && (at & 31) !== 0 && isSet(bytes, at) === set) at++
  if (at < to && (at & 31) === 0) {
    const words = new Int32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2)
    const whole = set ? -1 : 0
    while (at + 32 <= to && words[at >>> 5] === whole) at += 32
    while (at < to && isSet(bytes, at) === set) at++
  }
  return { set, count: at - from }
}

function isSet(bytes: Uint8Array, bit: number): boolean {
  return ((bytes[bit >>> 3] as number) & (1 << (bit & 7))) !== 0
}

/** Sets or clears the bits in `[from, to)`. */
export function setBits(bytes: Uint8Array, from: number, to: number, set: boolean): void {
  let at = from
  const one = (bit: number): void => {
    const mask = 1 << (bit & 7)
    const byte = bytes[bit >>> 3] as number
    bytes[bit >>> 3] = set ? byte | mask : byte & ~mask
  }
  while (at < to && (at & 7) !== 0) one(at++)
  const lastByte = to >>> 3
  if (at >>> 3 < lastByte) {
    bytes.fill(set ? 0xff : 0, at >>> 3, lastByte)
    at = lastByte * 8
  }
  while (at < to) one(at++)
}
