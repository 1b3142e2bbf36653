/** Partition tables and boot sectors. Facts: the UEFI specification, "GUID Partition Table" and "Protective MBR"; rules for the MBR as OpenStack's format
 *  inspector has them. What stands in a boot sector is a fact about the guest, never a fault. */

import { crc32 } from '../../bytes/crc32.ts'
import { readGuid } from '../../bytes/guid.ts'
import { u64le } from '../../bytes/integers.ts'
import { cut, fields, isPower, latin1, stands } from '../bytes.ts'
import { atEnd, type Inspector, type Look, region, type View } from '../contract.ts'
import type { Report } from '../finding.ts'

const mostEntryBytes = 64 * 1024
const protective = 0xee

/** The inspector of partition tables: GPT, MBR, and boot sectors that have none. */
export const partitions: Inspector = { name: 'partitions', budget: mostEntryBytes, inspect }

interface Entry {
  status: number
  type: number
  first: number
  sectors: number
  chs: string
}

function readEntries(head: Uint8Array): Entry[] {
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

const isUsed = ({ type, sectors }: Entry): boolean => type !== 0 && sectors !== 0
const isSane = (entry: Entry): boolean => (entry.status & 0x7f) === 0 && (!isUsed(entry) || entry.first > 0)

/** A file system's own boot sector, whose table would be code or text. */
function isVolumeBoot(head: Uint8Array): boolean {
  const isFat = /^FAT(12|16|32)? {3}/.test(latin1(head, 54, 62)) || /^FAT32 {3}/.test(latin1(head, 82, 90))
  const view = fields(head, 0, 32)
  const media = view.getUint8(21)
  const fields12 = view.getUint16(11, true)
  const looksFat =
    isPower(fields12, 512, 4096) &&
    view.getUint8(16) >= 1 &&
    view.getUint8(16) <= 2 &&
    (media === 0xf0 || media >= 0xf8)
  return isFat || looksFat || stands(head, 'NTFS    ', 3) || stands(head, 'EXFAT   ', 3)
}

function* inspect({ head, found }: View): Look {
  const signed = head[510] === 0x55 && head[511] === 0xaa
  const gptAt = [512, 4096].find((at) => stands(head, 'EFI PART', at))
  const entries = readEntries(head)
  // A Linux kernel is signed like a boot sector.
  const isKernel = stands(head, 'HdrS', 514)
  const hasTable = signed && !isKernel && entries.some(isUsed) && entries.every(isSane) && !isVolumeBoot(head)
  if (gptAt !== undefined) {
    const report = found('gpt', 'partitions', `"EFI PART" at ${gptAt}`)
    if (signed) noteBootCode(report, head)
    if (!hasTable || !entries.some(({ type }) => type === protective)) {
      const rule = 'one of type 0xEE'
      report.failed('partition-table', 'there is no protective MBR before the GPT', { field: 'partition entry', rule })
    } else checkProtective(report, entries)
    yield* inspectGpt(report, head, gptAt)
    return
  }
  if (hasTable) {
    const report = found('mbr', 'partitions', 'signature 55 aa at 510, and sane partition entries')
    noteBootCode(report, head)
    const used = entries.filter(isUsed)
    report.fact(
      'partitions',
      used.map(({ type, first, sectors }) => ({ type, first, sectors })),
    )
    if (entries.some(({ type }) => type === protective)) {
      checkProtective(report, entries)
      report.failed('partition-table', 'it protects a GPT that is not there', {
        field: 'GPT header',
        rule: '"EFI PART" at 512 or 4096',
      })
    }
    report.passed('partition-table', 'its partition table keeps the rules', { field: 'entries', value: used.length })
    return
  }
  if (signed && !isKernel) noteBootCode(found('boot-sector', 'content', 'signature 55 aa at 510'), head)
}

/** An entry of type 0xEE stands alone, in the first slot, from sector 1 on. */
function checkProtective(report: Report, entries: readonly Entry[]): void {
  const need = (holds: boolean, said: string, field: string, value: number, rule: string) =>
    report.need(holds, 'partition-table', said, { field, value, rule })
  const [first, ...others] = entries
  need(first?.type === protective, 'the protective entry is not the first', 'type of entry 0', first?.type ?? 0, '0xEE')
  for (const [index, { type }] of others.entries()) {
    need(type === 0, 'the protective entry is not alone', `type of entry ${index + 1}`, type, '0')
  }
  if (first?.type !== protective) return
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
  const code = latin1(head, 0, 440)
  if (/^\0*$/.test(code)) {
    report.passed('boot-code', 'there is no boot code in sector 0')
    return
  }
  const loaders: [RegExp, string][] = [
    [/GRUB/, 'GRUB'],
    [/isolinux/i, 'ISOLINUX'],
    [/SYSLINUX|EXTLINUX/i, 'SYSLINUX'],
    [/LILO/, 'LILO'],
    [/Invalid partition table|Missing operating system/, 'an MBR boot loader'],
    [/FreeBSD|Boot:/, 'a BSD boot loader'],
    [/NTLDR|BOOTMGR/, 'Windows'],
  ]
  const loader = loaders.find(([pattern]) => pattern.test(code))?.[1] ?? 'unknown'
  report.fact('bootCode', loader)
  report.passed('boot-code', `there is boot code in sector 0, which is no fault (loader: ${loader})`)
}

function* inspectGpt(report: Report, head: Uint8Array, at: number): Look {
  const header = fields(head, at, 512)
  const need = (holds: boolean, said: string, field: string, value: number | bigint, rule: string) =>
    report.need(holds, 'partition-table', said, { field, value, rule })
  const headerBytes = header.getUint32(12, true)
  need(
    headerBytes >= 92 && headerBytes <= 512,
    'its GPT header has an impossible size',
    'HeaderSize',
    headerBytes,
    '92 to 512',
  )
  if (headerBytes >= 92 && headerBytes <= 512) {
    need(
      isChecked(cut(head, at, headerBytes)),
      'the checksum of the GPT header is wrong',
      'HeaderCRC32',
      header.getUint32(16, true),
      'that of the header',
    )
  }
  report.fact('disk', readGuid(cut(head, at, 512), 56))
  const sectorBytes = at
  const count = header.getUint32(80, true)
  const entryBytes = header.getUint32(84, true)
  const fits = count * entryBytes <= mostEntryBytes && isPower(entryBytes, 128, 4096)
  need(
    fits,
    'its GPT has an impossible table',
    'NumberOfPartitionEntries * SizeOfPartitionEntry',
    count * entryBytes,
    `at most ${mostEntryBytes}`,
  )
  if (fits) {
    const { bytes, whole } = yield* region(u64le(header, 72) * sectorBytes, count * entryBytes)
    if (whole) {
      need(
        crc32(bytes) === header.getUint32(88, true),
        'the checksum of the GPT is wrong',
        'PartitionEntryArrayCRC32',
        header.getUint32(88, true),
        'that of the entries',
      )
      report.fact('partitions', readPartitions(bytes, entryBytes))
    } else
      report.unknown('partition-table', 'its GPT entries cannot be seen', {
        field: 'PartitionEntryLBA',
        value: header.getBigUint64(72, true),
      })
  }
  const { size, tail } = yield* atEnd()
  const last = u64le(header, 48)
  need(
    last * sectorBytes < size,
    'its GPT uses space past the end',
    'LastUsableLBA',
    header.getBigUint64(48, true),
    `less than ${Math.ceil(size / sectorBytes)}`,
  )
  const backup = tail.subarray(-sectorBytes)
  if (stands(backup, 'EFI PART')) {
    const same = readGuid(cut(backup, 0, 512), 56) === readGuid(cut(head, at, 512), 56)
    const entriesCrc = fields(backup, 88, 4).getUint32(0, true)
    need(
      same && entriesCrc === header.getUint32(88, true),
      'the GPT and its backup do not agree',
      'PartitionEntryArrayCRC32',
      entriesCrc,
      'that of the first',
    )
    report.fact('backup', 'at the end')
  } else report.fact('backup', 'not at the end')
  report.passed('partition-table', 'its partition table keeps the rules', { field: 'entries', value: count })
}

function isChecked(header: Uint8Array): boolean {
  const copy = header.slice()
  const stored = fields(copy, 16, 4).getUint32(0, true)
  copy.fill(0, 16, 20)
  return crc32(copy) === stored
}

function readPartitions(bytes: Uint8Array, entryBytes: number) {
  const list: { type: string; first: number; last: number }[] = []
  for (let at = 0; at + entryBytes <= bytes.length && list.length < 128; at += entryBytes) {
    const view = fields(bytes, at, 48)
    if (view.getBigUint64(0) === 0n && view.getBigUint64(8) === 0n) continue
    const [first, last] = [u64le(view, 32), u64le(view, 40)]
    if (Number.isFinite(first) && Number.isFinite(last)) list.push({ type: readGuid(bytes, at), first, last })
  }
  return list
}
