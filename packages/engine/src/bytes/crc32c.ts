/** CRC-32C (Castagnoli): the checksum of VHDX and of iSCSI. Reflected polynomial 0x82F63B78, all ones before and after (RFC 3720, appendix B.4). */

const polynomial = 0x82f6_3b78

/** Tables for eight bytes at a time, made when they are first needed. */
let tables: Int32Array | undefined

function makeTables(): Int32Array {
  const made = new Int32Array(8 * 256)
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 0 ? crc >>> 1 : (crc >>> 1) ^ polynomial
    made[byte] = crc
  }
  for (let index = 256; index < made.length; index++) {
    const before = made[index - 256] as number
    made[index] = (made[before & 255] as number) ^ (before >>> 8)
  }
  return made
}

/** The checksum of `bytes`, from 0 to 2^32 − 1. `before` is the checksum of what comes before them. */
export function crc32c(bytes: Uint8Array, before = 0): number {
  tables ??= makeTables()
  const t = tables
  let crc = ~before
  let i = 0
  for (; i + 8 <= bytes.length; i += 8) {
    const low =
      crc ^
      ((bytes[i] as number) |
        ((bytes[i + 1] as number) << 8) |
        ((bytes[i + 2] as number) << 16) |
        ((bytes[i + 3] as number) << 24))
    crc =
      (t[1792 + (low & 255)] as number) ^
      (t[1536 + ((low >>> 8) & 255)] as number) ^
      (t[1280 + ((low >>> 16) & 255)] as number) ^
      (t[1024 + (low >>> 24)] as number) ^
      (t[768 + (bytes[i + 4] as number)] as number) ^
      (t[512 + (bytes[i + 5] as number)] as number) ^
      (t[256 + (bytes[i + 6] as number)] as number) ^
      (t[bytes[i + 7] as number] as number)
  }
  for (; i < bytes.length; i++) crc = (t[(crc ^ (bytes[i] as number)) & 255] as number) ^ (crc >>> 8)
  return ~crc >>> 0
}

/** The checksum of a structure that holds its own checksum: the four bytes at `field` count as zeros. */
export function crc32cWithout(bytes: Uint8Array, field: number): number {
  const head = crc32c(bytes.subarray(0, field))
  return crc32c(bytes.subarray(field + 4), crc32c(new Uint8Array(4), head))
}
