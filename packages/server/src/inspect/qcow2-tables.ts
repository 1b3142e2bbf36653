/** Finds out whether a qcow2 file holds all that its tables name. Nobody would see it otherwise: what lies past the end of the file reads as zeros, in QEMU
 *  and in the engine. Layout: QEMU's `docs/interop/qcow2.txt`. */
import type { ByteSource } from '@moraine/engine'

const extendedL2 = 1 << 4
const compressedBit = 0x4000_0000
const sector = 512
const pieceBytes = 64 * 1024

/** What is missing, for people; undefined when nothing is. The engine must have opened the image before: its header is believed. Only the active
 *  tables count, and they are read once: no image makes this longer than reading its file. */
export async function findCut(source: ByteSource): Promise<string | undefined> {
  const header = await readPadded(source, 0, 104)
  const clusterBytes = 2 ** header.readUInt32BE(20)
  const entryBytes = header.readUInt32BE(4) >= 3 && (header.readUInt32BE(76) & extendedL2) !== 0 ? 16 : 8
  const image: Qcow2File = {
    source,
    clusterBytes,
    clusterBits: header.readUInt32BE(20),
    entryBytes,
    virtualSize: Number(header.readBigUInt64BE(24)),
  }
  const counts = Number(header.readBigUInt64BE(48))
  if (counts >= source.size) return missing(source, 'the refcount table', counts)
  const l1Offset = Number(header.readBigUInt64BE(40))
  const l1Bytes = header.readUInt32BE(36) * 8
  if (l1Bytes > 0 && l1Offset >= source.size) return missing(source, 'the L1 table', l1Offset)
  let tableBytes = 0
  for (let at = 0; at < l1Bytes; at += pieceBytes) {
    const piece = await readPadded(source, l1Offset + at, Math.min(pieceBytes, l1Bytes - at))
    for (let i = 0; i < piece.length; i += 8) {
      const offset = offsetAt(piece, i)
      if (offset === 0) continue
      if (offset >= source.size) return missing(source, 'an L2 table', offset)
      tableBytes += clusterBytes
      if (tableBytes > source.size + clusterBytes) return 'its L1 table names the same L2 tables again and again'
      const found = await findCutInTable(image, offset, (at + i) / 8)
      if (found !== undefined) return found
    }
  }
  return undefined
}

interface Qcow2File {
  source: ByteSource
  clusterBytes: number
  clusterBits: number
  entryBytes: number
  virtualSize: number
}

/** Looks at one L2 table, the `index`th of the disk. */
async function findCutInTable(image: Qcow2File, tableOffset: number, index: number): Promise<string | undefined> {
  const { source, clusterBytes, entryBytes, virtualSize } = image
  const entries = clusterBytes / entryBytes
  const used = Math.min(entries, Math.ceil(virtualSize / clusterBytes) - index * entries)
  for (let at = 0; at < used * entryBytes; at += pieceBytes) {
    const piece = await readPadded(source, tableOffset + at, Math.min(pieceBytes, used * entryBytes - at))
    for (let i = 0; i < piece.length; i += entryBytes) {
      const high = piece.readUInt32BE(i)
      if ((high & compressedBit) !== 0) {
        const end = compressedEnd(image, piece.readBigUInt64BE(i))
        // How much of the last sector is used only its decoder knows.
        if (end - sector >= source.size) return missing(source, 'a compressed cluster', end - sector)
        continue
      }
      const offset = offsetAt(piece, i)
      const isZero = entryBytes === 8 && (piece.readUInt32BE(i + 4) & 1) !== 0
      if (offset >= source.size && !isZero) return missing(source, 'a cluster', offset)
    }
  }
  return undefined
}

/** Where the sectors of a compressed cluster end. */
function compressedEnd({ clusterBits }: Qcow2File, entry: bigint): number {
  const offsetBits = BigInt(62 - (clusterBits - 8))
  const offset = Number(entry & ((1n << offsetBits) - 1n))
  const further = Number((entry & ((1n << 62n) - 1n)) >> offsetBits)
  return offset - (offset % sector) + (further + 1) * sector
}

/** Bits 9 to 55 of an entry. */
function offsetAt(table: Buffer, at: number): number {
  return (table.readUInt32BE(at) & 0x00ff_ffff) * 2 ** 32 + ((table.readUInt32BE(at + 4) & 0xffff_fe00) >>> 0)
}

function missing(source: ByteSource, what: string, offset: number): string {
  return `the file is cut: ${what} should be at byte ${offset}, and it ends at ${source.size}`
}

/** The last cluster of a file need not be whole. */
async function readPadded(source: ByteSource, offset: number, length: number): Promise<Buffer> {
  const into = Buffer.alloc(length)
  const there = Math.max(0, Math.min(length, source.size - offset))
  if (there > 0) await source.read(offset, into.subarray(0, there))
  return into
}
