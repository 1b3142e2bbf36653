/** Checked integers: on-disk 64-bit fields as numbers, where they fit, and rounding that does not wrap. */

const high = 0x1_0000_0000

/** A big-endian u64 as a number. Values past 2^53 − 1 come out as Infinity, which fails every bound it is compared with. */
export function u64be(view: DataView, at: number): number {
  const top = view.getUint32(at)
  return top > 0x1f_ffff ? Number.POSITIVE_INFINITY : top * high + view.getUint32(at + 4)
}

/** Writes a number from 0 to 2^53 − 1 as a big-endian u64. */
export function setU64be(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / high))
  view.setUint32(at + 4, value % high)
}

/** A little-endian u64 as a number. Values past 2^53 − 1 come out as Infinity, which fails every bound it is compared with. */
export function u64le(view: DataView, at: number): number {
  const top = view.getUint32(at + 4, true)
  return top > 0x1f_ffff ? Number.POSITIVE_INFINITY : top * high + view.getUint32(at, true)
}

/** Writes a number from 0 to 2^53 − 1 as a little-endian u64. */
export function setU64le(view: DataView, at: number, value: number): void {
  view.setUint32(at + 4, Math.floor(value / high), true)
  view.setUint32(at, value % high, true)
}

/** A view over the same bytes. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

/** `value` rounded up to a multiple of `unit`. */
export function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit
}

/** `value` rounded down to a multiple of `unit`. */
export function roundDown(value: number, unit: number): number {
  return Math.floor(value / unit) * unit
}

/** How many units are needed for `value`. */
export function divideUp(value: number, unit: number): number {
  return Math.ceil(value / unit)
}
