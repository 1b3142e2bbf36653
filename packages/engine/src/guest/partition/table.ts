/** The partitions of a disk, whatever kind of table names them, and what each of them holds. */
import type { GuestContent } from '../content.ts'
import { readFileSystems } from '../filesystem/index.ts'
import { type Reading, readingWithin, regionAt } from '../reading.ts'
import { bootLoaderOf } from './boot-code.ts'
import { gptHeaderAt, hasSaneEntries, readGptHeader, readGptPartitions } from './gpt.ts'
import { isExtended, mbrIdentity, readMbrPartitions, readMbrTable } from './mbr.ts'
import { gptTypeName, mbrTypeName } from './types.ts'

/** One partition. */
export interface Partition {
  /** As Linux numbers it, from 1; logical ones of an MBR from 5. */
  number: number
  /** Bytes from the beginning of the disk, and bytes. The table may lie: neither is known to be within the disk. */
  offset: number
  size: number
  /** A GUID of a GPT, or the number of an MBR as in `0x83`. */
  type: string
  /** What that type is called. */
  typeName?: string
  /** The name in a GPT. */
  name?: string
  uuid?: string
  /** It is marked as the one to boot from. */
  bootable?: boolean
  /** It only holds the logical partitions. */
  extended?: boolean
  /** What it holds, where that is known: usually one file system. */
  content: GuestContent[]
}

/** A partition table. */
export interface PartitionTable {
  scheme: 'gpt' | 'mbr'
  /** The disk's GUID, or its number in the MBR; empty where it has none. */
  id: string
  /** Bytes of a sector, by the table. */
  sectorSize: number
  /** The boot loader in the first sector; undefined where there is no code. */
  bootCode: string | undefined
  /** In the order of their numbers. */
  partitions: Partition[]
  /** What is wrong with the table: then there are no partitions. */
  fault?: string
}

const legacyBootable = 4n

/** Reads the partition table in the first sectors, without what the partitions hold; undefined where there is none. */
export function* readPartitionTable(): Reading<PartitionTable | undefined> {
  const head = yield* regionAt(0, 8192)
  const at = gptHeaderAt(head)
  const bootCode = bootLoaderOf(head)
  if (at !== undefined) {
    const header = readGptHeader(head, at)
    const table: PartitionTable = { scheme: 'gpt', id: header.disk, sectorSize: at, bootCode, partitions: [] }
    if (!header.sound) return { ...table, fault: 'the checksum of the GPT header is wrong' }
    if (!hasSaneEntries(header)) return { ...table, fault: 'the GPT has an impossible number or size of entries' }
    const bytes = yield* regionAt(header.entriesAt, header.count * header.entryBytes)
    table.partitions = readGptPartitions(bytes, header.entryBytes).map(
      ({ number, type, uuid, name, attributes, first, last }) => {
        const typeName = gptTypeName(type)
        return {
          number,
          offset: first * at,
          size: Math.max(0, (last - first + 1) * at),
          type,
          ...(typeName === undefined ? {} : { typeName }),
          ...(name === '' ? {} : { name }),
          uuid,
          ...((attributes & legacyBootable) === 0n ? {} : { bootable: true }),
          content: [],
        }
      },
    )
    return table
  }
  const entries = readMbrTable(head)
  if (entries === undefined) return undefined
  const id = mbrIdentity(head)
  const partitions = (yield* readMbrPartitions(entries)).map((entry): Partition => {
    const typeName = mbrTypeName(entry.type)
    const { number, first, sectors, type, status } = entry
    return {
      number,
      offset: first * 512,
      size: sectors * 512,
      type: `0x${type.toString(16).padStart(2, '0')}`,
      ...(typeName === undefined ? {} : { typeName }),
      ...(id === '' ? {} : { uuid: `${id}-${String(number).padStart(2, '0')}` }),
      ...(status === 0x80 ? { bootable: true } : {}),
      ...(isExtended(entry) ? { extended: true } : {}),
      content: [],
    }
  })
  return { scheme: 'mbr', id, sectorSize: 512, bootCode, partitions }
}

/** Looks into the partitions of a table, in their order on the disk, at most `most` of them. */
export function* readPartitionContents(table: PartitionTable, most: number): Reading<void> {
  const inOrder = table.partitions.filter(({ extended }) => extended !== true).sort((a, b) => a.offset - b.offset)
  for (const partition of inOrder.slice(0, most)) {
    partition.content = yield* readingWithin(readFileSystems(), partition.offset, partition.size)
  }
}
