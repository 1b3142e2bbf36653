/** Partition tables and boot sectors. Facts: the UEFI specification, "GUID Partition Table" and "Protective MBR"; rules for the MBR as OpenStack's format
 *  inspector has them. What stands in a boot sector is a fact about the guest, never a fault. */

import { crc32 } from '../../bytes/crc32.ts'
import { readGuid } from '../../bytes/guid.ts'
import { cut, fields, stands } from '../../bytes/header.ts'
import type { DetailValue } from '../../core/index.ts'
import { readFileSystems } from '../../guest/filesystem/index.ts'
import { bootLoaderOf } from '../../guest/partition/boot-code.ts'
import {
  type GptHeader,
  gptHeaderAt,
  hasSaneEntries,
  mostGptEntryBytes,
  readGptHeader,
  readGptPartitions,
} from '../../guest/partition/gpt.ts'
import {
  isBootSector,
  isExtended,
  isKernelSector,
  isUsedEntry,
  type MbrEntry,
  protectiveType,
  readMbrPartitions,
  readMbrTable,
} from '../../guest/partition/mbr.ts'
import { gptTypeName, mbrTypeName } from '../../guest/partition/types.ts'
import { readingWithin } from '../../guest/reading.ts'
import { type Answer, atEnd, type Inspector, type Look, region, seeing, type View, type Wish } from '../contract.ts'
import type { Report } from '../finding.ts'

/** Sectors of logical partitions that are looked at. */
const mostLogicalBytes = 16 * 1024
/** Partitions that are looked into, and what that takes. */
const mostLookedInto = 16
const bytesLookedAt = 48 * 1024

/** The inspector of partition tables: GPT, MBR, and boot sectors that have none. */
export const partitions: Inspector = {
  name: 'partitions',
  budget: mostGptEntryBytes + mostLogicalBytes + mostLookedInto * bytesLookedAt,
  inspect,
}

function* inspect({ head, found }: View): Look {
  const signed = isBootSector(head)
  const gptAt = gptHeaderAt(head)
  const entries = readMbrTable(head)
  if (gptAt !== undefined) {
    const report = found('gpt', 'partitions', `"EFI PART" at ${gptAt}`)
    if (signed) noteBootCode(report, head)
    if (entries === undefined || !entries.some(({ type }) => type === protectiveType)) {
      const rule = 'one of type 0xEE'
      report.failed('partition-table', 'there is no protective MBR before the GPT', { field: 'partition entry', rule })
    } else checkProtective(report, entries)
    yield* inspectGpt(report, head, gptAt)
    return
  }
  if (entries !== undefined) {
    const report = found('mbr', 'partitions', 'signature 55 aa at 510, and sane partition entries')
    noteBootCode(report, head)
    const used = entries.filter(isUsedEntry)
    report.fact('partitions', yield* mbrFacts(entries))
    if (entries.some(({ type }) => type === protectiveType)) {
      checkProtective(report, entries)
      report.failed('partition-table', 'it protects a GPT that is not there', {
        field: 'GPT header',
        rule: '"EFI PART" at 512 or 4096',
      })
    }
    report.passed('partition-table', 'its partition table keeps the rules', { field: 'entries', value: used.length })
    return
  }
  if (signed && !isKernelSector(head)) noteBootCode(found('boot-sector', 'content', 'signature 55 aa at 510'), head)
}

/** An entry of type 0xEE stands alone, in the first slot, from sector 1 on. */
function checkProtective(report: Report, entries: readonly MbrEntry[]): void {
  const need = (holds: boolean, said: string, field: string, value: number, rule: string) =>
    report.need(holds, 'partition-table', said, { field, value, rule })
  const [first, ...others] = entries
  need(
    first?.type === protectiveType,
    'the protective entry is not the first',
    'type of entry 0',
    first?.type ?? 0,
    '0xEE',
  )
  for (const [index, { type }] of others.entries()) {
    need(type === 0, 'the protective entry is not alone', `type of entry ${index + 1}`, type, '0')
  }
  if (first?.type !== protectiveType) return
  need(first.first === 1, 'the protective entry begins elsewhere', 'first sector', first.first, '1')
  need(
    first.chs === '\0\x02\0',
    'the protective entry begins elsewhere',
    'first CHS',
    first.chs.charCodeAt(1),
    '00 02 00',
  )
}

function noteBootCode(report: Report, head: Uint8Array): void {
  const loader = bootLoaderOf(head)
  if (loader === undefined) {
    report.passed('boot-code', 'there is no boot code in sector 0')
    return
  }
  report.fact('bootCode', loader)
  report.passed('boot-code', `there is boot code in sector 0, which is no fault (loader: ${loader})`)
}

function* inspectGpt(report: Report, head: Uint8Array, at: number): Look {
  const header = readGptHeader(head, at)
  const need = (holds: boolean, said: string, field: string, value: number | bigint, rule: string) =>
    report.need(holds, 'partition-table', said, { field, value, rule })
  const { headerBytes, sectorBytes, count, entryBytes } = header
  const hasSize = headerBytes >= 92 && headerBytes <= 512
  need(hasSize, 'its GPT header has an impossible size', 'HeaderSize', headerBytes, '92 to 512')
  if (hasSize) {
    const rule = 'that of the header'
    need(header.sound, 'the checksum of the GPT header is wrong', 'HeaderCRC32', header.storedChecksum, rule)
  }
  report.fact('disk', header.disk)
  const fits = hasSaneEntries(header)
  need(
    fits,
    'its GPT has an impossible table',
    'NumberOfPartitionEntries * SizeOfPartitionEntry',
    count * entryBytes,
    `at most ${mostGptEntryBytes}`,
  )
  if (fits) {
    const { bytes, whole } = yield* region(header.entriesAt, count * entryBytes)
    if (whole) {
      need(
        crc32(bytes) === header.entriesChecksum,
        'the checksum of the GPT is wrong',
        'PartitionEntryArrayCRC32',
        header.entriesChecksum,
        'that of the entries',
      )
      report.fact('partitions', yield* gptFacts(bytes, header))
    } else
      report.unknown('partition-table', 'its GPT entries cannot be seen', {
        field: 'PartitionEntryLBA',
        value: header.entriesSector,
      })
  }
  const { size, tail } = yield* atEnd()
  need(
    header.lastUsable * sectorBytes < size,
    'its GPT uses space past the end',
    'LastUsableLBA',
    fields(head, at + 48, 8).getBigUint64(0, true),
    `less than ${Math.ceil(size / sectorBytes)}`,
  )
  const backup = tail.subarray(-sectorBytes)
  if (stands(backup, 'EFI PART')) {
    const same = readGuid(cut(backup, 0, 512), 56) === header.disk
    const entriesCrc = fields(backup, 88, 4).getUint32(0, true)
    need(
      same && entriesCrc === header.entriesChecksum,
      'the GPT and its backup do not agree',
      'PartitionEntryArrayCRC32',
      entriesCrc,
      'that of the first',
    )
    report.fact('backup', 'at the end')
  } else report.fact('backup', 'not at the end')
  report.passed('partition-table', 'its partition table keeps the rules', { field: 'entries', value: count })
}

/** The partitions of an MBR. What they hold is looked at in the order of the disk, as a stream does not come back: the logical ones are found on the way and not looked into. */
function* mbrFacts(entries: readonly MbrEntry[]): Generator<Wish, DetailValue[], Answer> {
  const used = entries.filter(isUsedEntry)
  const extended = used.find(isExtended)?.first ?? Number.POSITIVE_INFINITY
  const primary = used
    .filter((entry) => !isExtended(entry))
    .map(({ first, sectors }) => ({ first, bytes: sectors * 512 }))
  const held = yield* heldBy(
    primary.filter(({ first }) => first < extended),
    512,
  )
  const all = yield* seeing(readMbrPartitions(entries))
  for (const [first, content] of yield* heldBy(
    primary.filter(({ first }) => first > extended),
    512,
  ))
    held.set(first, content)
  return all.map(({ number, type, first, sectors }) => {
    const typeName = mbrTypeName(type)
    const content = number > entries.length ? undefined : held.get(first)
    return {
      number,
      type,
      ...(typeName === undefined ? {} : { typeName }),
      first,
      sectors,
      ...(content === undefined ? {} : { content }),
    }
  })
}

function* gptFacts(bytes: Uint8Array, { entryBytes, sectorBytes }: GptHeader): Generator<Wish, DetailValue[], Answer> {
  const all = readGptPartitions(bytes, entryBytes)
  const held = yield* heldBy(
    all.map(({ first, last }) => ({ first, bytes: (last - first + 1) * sectorBytes })),
    sectorBytes,
  )
  return all.map(({ number, type, name, first, last }) => {
    const typeName = gptTypeName(type)
    const content = held.get(first)
    return {
      number,
      type,
      ...(typeName === undefined ? {} : { typeName }),
      ...(name === '' ? {} : { name }),
      first,
      last,
      ...(content === undefined ? {} : { content }),
    }
  })
}

/** What partitions hold, by their first sectors; those of which nothing is known are left out. */
function* heldBy(
  partitions: readonly { first: number; bytes: number }[],
  sectorBytes: number,
): Generator<Wish, Map<number, DetailValue[]>, Answer> {
  const held = new Map<number, DetailValue[]>()
  for (const { first, bytes } of partitions.toSorted((a, b) => a.first - b.first).slice(0, mostLookedInto)) {
    const found = yield* seeing(readingWithin(readFileSystems(), first * sectorBytes, bytes))
    const facts = found.map(
      ({ format, subformat, facts: { label, uuid } }): DetailValue => ({
        format,
        ...(subformat === undefined ? {} : { subformat }),
        ...(label === undefined ? {} : { label }),
        ...(uuid === undefined ? {} : { uuid }),
      }),
    )
    if (facts.length > 0) held.set(first, facts)
  }
  return held
}
