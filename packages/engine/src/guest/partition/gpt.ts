/** The header and the entries of a GPT. Facts: the UEFI specification, "GUID Partition Table (GPT) Disk Layout". */
import { crc32 } from '../../bytes/crc32.ts'
import { readGuid, zeroGuid } from '../../bytes/guid.ts'
import { cut, fields, isPower, stands } from '../../bytes/header.ts'
import { u64le } from '../../bytes/integers.ts'
import { utf16At } from '../filesystem/linux.ts'

/** Most bytes of entries that are read: four times what a GPT usually has. */
export const mostGptEntryBytes = 64 * 1024
const mostPartitions = 128

/** A header as it stands. */
export interface GptHeader {
  /** Bytes of a sector: the header stands in the second. */
  sectorBytes: number
  headerBytes: number
  storedChecksum: number
  /** The checksum fits, and the header has a size that headers have. */
  sound: boolean
  disk: string
  lastUsable: number
  /** Byte offset of the entries; Infinity where no number can hold it. */
  entriesAt: number
  /** What stands in the field, for messages. */
  entriesSector: bigint
  count: number
  entryBytes: number
  entriesChecksum: number
}

/** One partition; sectors are those of the header. */
export interface GptPartition {
  number: number
  type: string
  uuid: string
  name: string
  attributes: bigint
  first: number
  last: number
}

/** Where a GPT's header stands in the first bytes: behind a sector of 512 or 4096 bytes. */
export function gptHeaderAt(head: Uint8Array): number | undefined {
  return [512, 4096].find((at) => stands(head, 'EFI PART', at))
}

/** Reads the header at `at`. */
export function readGptHeader(head: Uint8Array, at: number): GptHeader {
  const view = fields(head, at, 512)
  const headerBytes = view.getUint32(12, true)
  const hasSize = headerBytes >= 92 && headerBytes <= 512
  return {
    sectorBytes: at,
    headerBytes,
    storedChecksum: view.getUint32(16, true),
    sound: hasSize && isChecked(cut(head, at, headerBytes)),
    disk: readGuid(cut(head, at, 512), 56),
    lastUsable: u64le(view, 48),
    entriesAt: u64le(view, 72) * at,
    entriesSector: view.getBigUint64(72, true),
    count: view.getUint32(80, true),
    entryBytes: view.getUint32(84, true),
    entriesChecksum: view.getUint32(88, true),
  }
}

/** Whether the entries are so many and so large as entries may be. */
export function hasSaneEntries({ count, entryBytes }: GptHeader): boolean {
  return count * entryBytes <= mostGptEntryBytes && isPower(entryBytes, 128, 4096)
}

function isChecked(header: Uint8Array): boolean {
  const copy = header.slice()
  const stored = fields(copy, 16, 4).getUint32(0, true)
  copy.fill(0, 16, 20)
  return crc32(copy) === stored
}

/** The partitions among entries; those beyond what numbers can hold are left out. */
export function readGptPartitions(bytes: Uint8Array, entryBytes: number): GptPartition[] {
  const list: GptPartition[] = []
  for (let at = 0; at + entryBytes <= bytes.length && list.length < mostPartitions; at += entryBytes) {
    const view = fields(bytes, at, 128)
    const type = readGuid(bytes, at)
    const [first, last] = [u64le(view, 32), u64le(view, 40)]
    if (type === zeroGuid || !Number.isFinite(first) || !Number.isFinite(last)) continue
    list.push({
      number: at / entryBytes + 1,
      type,
      uuid: readGuid(bytes, at + 16),
      name: utf16At(bytes, at + 56, 36),
      attributes: view.getBigUint64(48, true),
      first,
      last,
    })
  }
  return list
}
