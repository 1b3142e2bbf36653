/** 64-bit integers on the wire as numbers, where they fit. */

const high = 0x1_0000_0000

/** Reads a u64; what passes 2^53 − 1 comes out as Infinity, which fails every bound it is compared with. */
export function readU64(bytes: Buffer, at: number): number {
  const top = bytes.readUInt32BE(at)
  return top > 0x1f_ffff ? Number.POSITIVE_INFINITY : top * high + bytes.readUInt32BE(at + 4)
}

/** Writes a number from 0 to 2^53 − 1 as a u64. */
export function writeU64(bytes: Buffer, value: number, at: number): void {
  bytes.writeUInt32BE(Math.floor(value / high), at)
  bytes.writeUInt32BE(value % high, at + 4)
}
