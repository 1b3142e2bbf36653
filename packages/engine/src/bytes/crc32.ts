/** CRC-32 (IEEE 802.3), the checksum of GPT, gzip, zip and xz. Reflected polynomial 0xEDB88320, all ones before and after. */

let tables: Int32Array[] | undefined

/** Four tables, for four bytes at a step. */
function makeTables(): Int32Array[] {
  const first = new Int32Array(256)
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 0 ? crc >>> 1 : (crc >>> 1) ^ 0xedb8_8320
    first[byte] = crc
  }
  const made = [first]
  for (let step = 1; step < 4; step++) {
    const before = made[step - 1] as Int32Array
    made.push(before.map((crc) => (crc >>> 8) ^ (first[crc & 255] as number)))
  }
  return made
}

/** The checksum of `bytes`, from 0 to 2^32 − 1. `before`: the checksum of what stands before them. */
export function crc32(bytes: Uint8Array, before = 0): number {
  tables ??= makeTables()
  const [a, b, c, d] = tables as [Int32Array, Int32Array, Int32Array, Int32Array]
  let crc = ~before
  const end = bytes.length
  let at = 0
  for (; at + 4 <= end; at += 4) {
    crc ^=
      (bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)
    crc =
      (d[crc & 255] as number) ^
      (c[(crc >>> 8) & 255] as number) ^
      (b[(crc >>> 16) & 255] as number) ^
      (a[crc >>> 24] as number)
  }
  for (; at < end; at++) crc = (a[(crc ^ (bytes[at] as number)) & 255] as number) ^ (crc >>> 8)
  return ~crc >>> 0
}
