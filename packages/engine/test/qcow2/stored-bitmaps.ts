/** The dirty bitmaps of a qcow2 file as its bytes say, read without the engine. */
import { readFileSync } from 'node:fs'

/** A bitmap as it stands in a file: its bits as a string of hex, flags, granularity. */
export interface StoredBitmap {
  flags: number
  granularityBits: number
  bits: string
}

/** Reads every bitmap of an image from its bytes. Layout: QEMU's docs/interop/qcow2.txt, "Bitmaps". */
export function readBitmaps(file: string, size: number): Record<string, StoredBitmap> {
  const bytes = readFileSync(file)
  const clusterSize = 1 << bytes.readUInt32BE(20)
  let at = bytes.readUInt32BE(100)
  while (bytes.readUInt32BE(at) !== 0x23852875) {
    if (bytes.readUInt32BE(at) === 0) return {}
    at += 8 + Math.ceil(bytes.readUInt32BE(at + 4) / 8) * 8
  }
  const count = bytes.readUInt32BE(at + 8)
  let entry = Number(bytes.readBigUInt64BE(at + 24))
  const found: Record<string, StoredBitmap> = {}
  for (let i = 0; i < count; i++) {
    const table = Number(bytes.readBigUInt64BE(entry))
    const entries = bytes.readUInt32BE(entry + 8)
    const granularityBits = bytes.readUInt8(entry + 17)
    const nameLength = bytes.readUInt16BE(entry + 18)
    const extra = bytes.readUInt32BE(entry + 20)
    const all = Buffer.alloc(entries * clusterSize)
    for (let k = 0; k < entries; k++) {
      const item = bytes.readBigUInt64BE(table + k * 8)
      const host = Number(item & 0x00ff_ffff_ffff_fe00n)
      if (host === 0) all.fill(item & 1n ? 0xff : 0, k * clusterSize, (k + 1) * clusterSize)
      else bytes.copy(all, k * clusterSize, host, host + clusterSize)
    }
    const bits = Math.ceil(size / 2 ** granularityBits)
    // Past the disk's end the bits mean nothing.
    const used = all.subarray(0, Math.ceil(bits / 8))
    const last = used.length - 1
    if (bits % 8 !== 0) used[last] = (used[last] ?? 0) & ((1 << (bits % 8)) - 1)
    const name = bytes.toString('utf8', entry + 24 + extra, entry + 24 + extra + nameLength)
    found[name] = { flags: bytes.readUInt32BE(entry + 12), granularityBits, bits: used.toString('hex') }
    entry += Math.ceil((24 + extra + nameLength) / 8) * 8
  }
  return found
}
