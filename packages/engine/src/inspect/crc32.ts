/** CRC-32 (IEEE 802.3), the checksum of GPT, gzip and xz. Reflected polynomial 0xEDB88320, all ones before and after. */

let table: Int32Array | undefined

function makeTable(): Int32Array {
  const made = new Int32Array(256)
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 0 ? crc >>> 1 : (crc >>> 1) ^ 0xedb8_8320
    made[byte] = crc
  }
  return made
}

/** The checksum of `bytes`, from 0 to 2^32 − 1. */
export function crc32(bytes: Uint8Array): number {
  table ??= makeTable()
  let crc = -1
  for (const byte of bytes) crc = (table[(crc ^ byte) & 255] as number) ^ (crc >>> 8)
  return ~crc >>> 0
}
