/** The other formats that are recognised: VHD, VHDX, VDI, ISO 9660, partition tables. Each finding says what the header claims, and whether it names
 *  another file (a parent), which no upload may. */
import { checkedSize, type Finding, type ReadAt } from './finding.ts'

const vhdFooterBytes = 512
const isoSector = 2048
const vhdxRegions = 192 * 1024
const vhdxMetadataRegion = '06a27c8b90479a4bb8fe575f050f886e'
const vhdxDiskSize = '2442a52f1bcd7648b2115dbed83bf4b8'
const vhdxFileParameters = '3767a1ca36fa434db3b633f0aa44e76b'

/** @param footer A VHD footer: the last 512 bytes, or their copy at the beginning. */
export function inspectVhd(footer: Buffer): Finding {
  const type = footer.readUInt32BE(60)
  return {
    format: 'vhd',
    dangers: type === 4 ? ['it is a differencing disk: it names a parent'] : [],
    virtualSize: checkedSize(footer.readBigUInt64BE(48)),
  }
}

/** Whether the last bytes end in the footer of a fixed VHD. The cookie alone could be left over from something else, so the checksum must fit. */
export function isFixedVhd(tail: Buffer): boolean {
  if (tail.length < vhdFooterBytes) return false
  const footer = tail.subarray(-vhdFooterBytes)
  if (footer.toString('latin1', 0, 8) !== 'conectix' || footer.readUInt32BE(60) !== 2) return false
  let sum = 0
  for (const [index, byte] of footer.entries()) if (index < 64 || index > 67) sum += byte
  return ~sum >>> 0 === footer.readUInt32BE(64)
}

/** @param head The first bytes, with the signature at 64. */
export function inspectVdi(head: Buffer): Finding {
  if (head.length < 0x178) return { format: 'vdi', dangers: ['the header is cut'] }
  const type = head.readUInt32LE(0x4c)
  return {
    format: 'vdi',
    dangers: type === 1 || type === 2 ? [] : ['it is an undo or differencing image: it belongs to a parent'],
    virtualSize: checkedSize(head.readBigUInt64LE(0x170)),
  }
}

/** @param head At least the first 17 sectors of 2048 bytes. */
export function inspectIso(head: Buffer): Finding {
  const volume = head.subarray(16 * isoSector)
  if (volume.length < 132 || volume[0] !== 1 || volume.toString('latin1', 1, 6) !== 'CD001') {
    return { format: 'iso', dangers: [] }
  }
  return { format: 'iso', dangers: [], virtualSize: volume.readUInt32LE(80) * volume.readUInt16LE(128) }
}

/** Follows the region table to the metadata, where the disk's size and its parent stand. */
export async function inspectVhdx(read: ReadAt): Promise<Finding> {
  const regions = await read(vhdxRegions, 64 * 1024)
  const metadataAt = regions === undefined ? undefined : findEntry(regions, 'regi', 8, 16, vhdxMetadataRegion)
  const start = metadataAt === undefined ? undefined : checkedSize(regions?.readBigUInt64LE(metadataAt + 16) ?? 0n)
  const table = start === undefined ? undefined : await read(start, 64 * 1024)
  if (start === undefined || table === undefined) return { format: 'vhdx', dangers: ['its metadata cannot be found'] }
  const item = async (guid: string) => {
    const at = findEntry(table, 'metadata', 10, 32, guid)
    return at === undefined ? undefined : read(start + table.readUInt32LE(at + 16), 8)
  }
  const size = await item(vhdxDiskSize)
  const parameters = await item(vhdxFileParameters)
  if (size === undefined || parameters === undefined) return { format: 'vhdx', dangers: ['its metadata is cut'] }
  const hasParent = (parameters.readUInt32LE(4) & 2) !== 0
  return {
    format: 'vhdx',
    dangers: hasParent ? ['it is a differencing disk: it names a parent'] : [],
    virtualSize: checkedSize(size.readBigUInt64LE(0)),
  }
}

/** Offset of the 32-byte entry that begins with `guid`, in a table with its count at `countAt` and its entries from `first`. */
function findEntry(table: Buffer, signature: string, countAt: number, first: number, guid: string): number | undefined {
  if (table.toString('latin1', 0, signature.length) !== signature) return undefined
  const count = Math.min(table.readUInt16LE(countAt), 2047)
  for (let index = 0; index < count; index++) {
    const at = first + 32 * index
    if (at + 32 > table.length) return undefined
    if (table.toString('hex', at, at + 16) === guid) return at
  }
  return undefined
}

/** A boot sector with a partition table that is no file system's own. */
export function hasPartitionTable(head: Buffer): boolean {
  if (head.length < 512 || head.readUInt16BE(510) !== 0x55aa) return false
  const isFat = head[0x10] === 2 && head[0x15] === 0xf8
  return !isFat
}
