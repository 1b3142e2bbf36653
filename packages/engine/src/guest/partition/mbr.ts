/** The partition table of a boot sector, with the logical partitions of an extended one. Facts: what PCs have done since DOS 3.3, as Linux, block/partitions/msdos.c reads it. */
import { fields, isPower, latin1, stands } from '../../bytes/header.ts'
import { type Reading, regionAt } from '../reading.ts'

/** The type of an entry that protects a GPT. */
export const protectiveType = 0xee
const sectorBytes = 512
const extendedTypes = new Set([0x05, 0x0f, 0x85])
/** Logical partitions that are looked for. */
const mostLogical = 124

/** One entry as it stands; sectors have 512 bytes. */
export interface MbrEntry {
  status: number
  type: number
  first: number
  sectors: number
  /** The three bytes of the first sector's old address. */
  chs: string
}

/** One partition, by Linux's number. */
export interface MbrPartition extends MbrEntry {
  number: number
}

/** The four entries of a boot sector at the beginning of `head`. */
export function readMbrEntries(head: Uint8Array): MbrEntry[] {
  return [0, 1, 2, 3].map((index) => {
    const at = 446 + 16 * index
    const view = fields(head, at, 16)
    return {
      status: view.getUint8(0),
      type: view.getUint8(4),
      first: view.getUint32(8, true),
      sectors: view.getUint32(12, true),
      chs: latin1(head, at + 1, at + 4),
    }
  })
}

/** Whether an entry names a partition. */
export const isUsedEntry = ({ type, sectors }: MbrEntry): boolean => type !== 0 && sectors !== 0

const isSane = (entry: MbrEntry): boolean => (entry.status & 0x7f) === 0 && (!isUsedEntry(entry) || entry.first > 0)

/** Whether a sector is signed as boot sectors are. */
export function isBootSector(head: Uint8Array): boolean {
  return head[510] === 0x55 && head[511] === 0xaa
}

/** Whether a sector is the header of a Linux kernel, which is signed like a boot sector. */
export function isKernelSector(head: Uint8Array): boolean {
  return stands(head, 'HdrS', 514)
}

/** The four entries, where a boot sector has a table: it is signed, its entries have sense, and it is no kernel and no file system's own boot sector. */
export function readMbrTable(head: Uint8Array): MbrEntry[] | undefined {
  if (!isBootSector(head) || isKernelSector(head) || isVolumeBoot(head)) return undefined
  const entries = readMbrEntries(head)
  return entries.some(isUsedEntry) && entries.every(isSane) ? entries : undefined
}

/** A file system's own boot sector, whose table would be code or text. */
function isVolumeBoot(head: Uint8Array): boolean {
  const isFat = /^FAT(12|16|32)? {3}/.test(latin1(head, 54, 62)) || /^FAT32 {3}/.test(latin1(head, 82, 90))
  const view = fields(head, 0, 32)
  const media = view.getUint8(21)
  const looksFat =
    isPower(view.getUint16(11, true), 512, 4096) &&
    view.getUint8(16) >= 1 &&
    view.getUint8(16) <= 2 &&
    (media === 0xf0 || media >= 0xf8)
  return isFat || looksFat || stands(head, 'NTFS    ', 3) || stands(head, 'EXFAT   ', 3)
}

/** All partitions of a table: the entries that are used, and the logical ones, whose chain is followed as far as it goes on. */
export function* readMbrPartitions(entries: readonly MbrEntry[]): Reading<MbrPartition[]> {
  const partitions = entries.flatMap((entry, index) => (isUsedEntry(entry) ? [{ ...entry, number: index + 1 }] : []))
  const extended = entries.find(({ type, sectors }) => extendedTypes.has(type) && sectors > 0)
  if (extended === undefined) return partitions
  const seen = new Set<number>()
  for (let at = extended.first; !seen.has(at) && seen.size < mostLogical; ) {
    seen.add(at)
    const sector = yield* regionAt(at * sectorBytes, sectorBytes)
    if (sector.length < sectorBytes || !isBootSector(sector)) break
    const [own, next] = readMbrEntries(sector) as [MbrEntry, MbrEntry]
    if (isUsedEntry(own)) partitions.push({ ...own, first: at + own.first, number: 4 + seen.size })
    if (!extendedTypes.has(next.type) || next.sectors === 0) break
    at = extended.first + next.first
  }
  return partitions
}

/** Whether an entry is there to hold others. */
export function isExtended({ type }: MbrEntry): boolean {
  return extendedTypes.has(type)
}

/** A disk's identity in its boot sector, as blkid and Windows know it; empty where there is none. */
export function mbrIdentity(head: Uint8Array): string {
  const id = fields(head, 440, 4).getUint32(0, true)
  return id === 0 ? '' : id.toString(16).padStart(8, '0')
}
