/** A GPT on a disk that gets longer: its second header and entries belong to the new end. What changes is what `sgdisk -e` changes: where the two headers say they are, the last usable sector, the
 *  size in the protective MBR. Source: the UEFI specification, "GUID Partition Table (GPT) Disk Layout". */
import { crc32 } from '../../bytes/crc32.ts'
import { stands } from '../../bytes/header.ts'
import { setU64le, u64le, viewOf } from '../../bytes/integers.ts'
import type { ByteSource } from '../../core/index.ts'
import { gptHeaderAt, hasSaneEntries, readGptHeader } from './gpt.ts'

/** Bytes that stand at a place of a disk instead of those that are there. */
export interface DiskPatch {
  /** Byte offset. */
  readonly offset: number
  readonly bytes: Uint8Array
}

/** What becomes of a GPT: the bytes that move its second header, or why it stays where it is. */
export type GptMove = { readonly patches: readonly DiskPatch[] } | { readonly reason: string }

const headBytes = 8192

/** The two headers of a table that is as it should be. */
interface Sound {
  sector: number
  head: Uint8Array
  /** The first header, its sector whole. */
  primary: Uint8Array
  backup: Uint8Array
  entries: Uint8Array
}

/** What must be written where the disk in `source` becomes one of `size` bytes; undefined where it has no GPT. Only a table with both copies whole, and the second at the end
 *  of the disk, is moved: with any other, a person must look first.
 *  @throws MoraineError from reading. */
export async function moveGptEnd(source: ByteSource, size: number, signal?: AbortSignal): Promise<GptMove | undefined> {
  const head = new Uint8Array(Math.min(headBytes, source.size))
  await source.read(0, head, signal)
  const sector = gptHeaderAt(head)
  if (sector === undefined) return undefined
  const found = await readSound(source, head, sector, signal)
  if (typeof found === 'string') return { reason: found }
  if (size % sector !== 0) return { reason: `the new size is no whole number of its sectors of ${sector} bytes` }
  const lastFree = size / sector - 2 - Math.ceil(found.entries.length / sector)
  if (u64le(viewOf(found.primary), 48) > lastFree) {
    return { reason: 'its partitions may reach to where the second copy of its entries would stand' }
  }
  return { patches: patchesFor(found, source.size / sector, size / sector) }
}

/** Reads both copies; says what is wrong with them. */
async function readSound(
  source: ByteSource,
  head: Uint8Array,
  sector: number,
  signal: AbortSignal | undefined,
): Promise<Sound | string> {
  const header = readGptHeader(head, sector)
  if (!header.sound) return 'its first header is damaged'
  if (!hasSaneEntries(header)) return 'it has an impossible number or size of entries'
  const primary = head.slice(sector, 2 * sector)
  const last = source.size / sector - 1
  const own = u64le(viewOf(primary), 24)
  const alternate = u64le(viewOf(primary), 32)
  if (own !== 1) return 'its first header says that it stands elsewhere'
  if (!Number.isInteger(last) || alternate !== last) return 'its second header is not at the end of the disk'
  const backup = new Uint8Array(sector)
  await source.read(last * sector, backup, signal)
  if (!stands(backup, 'EFI PART')) return 'its second header is missing'
  const second = readGptHeader(backup, 0)
  if (!second.sound) return 'its second header is damaged'
  const same =
    second.disk === header.disk &&
    second.count === header.count &&
    second.entryBytes === header.entryBytes &&
    second.entriesChecksum === header.entriesChecksum &&
    u64le(viewOf(backup), 24) === last &&
    u64le(viewOf(backup), 32) === 1
  if (!same) return 'its two headers differ'
  const length = header.count * header.entryBytes
  const entries = await readEntries(source, header.entriesAt, length, signal)
  const copy = await readEntries(source, u64le(viewOf(backup), 72) * sector, length, signal)
  for (const bytes of [entries, copy]) {
    if (bytes === undefined || crc32(bytes) !== header.entriesChecksum) return 'its entries are damaged'
  }
  return entries === undefined ? 'its entries are damaged' : { sector, head, primary, backup, entries }
}

async function readEntries(
  source: ByteSource,
  offset: number,
  length: number,
  signal: AbortSignal | undefined,
): Promise<Uint8Array | undefined> {
  if (!Number.isSafeInteger(offset) || offset + length > source.size) return undefined
  const bytes = new Uint8Array(length)
  await source.read(offset, bytes, signal)
  return bytes
}

function patchesFor({ sector, head, primary, backup, entries }: Sound, before: number, after: number): DiskPatch[] {
  const last = after - 1
  const entriesSector = last - Math.ceil(entries.length / sector)
  const change = (header: Uint8Array, places: readonly (readonly [field: number, value: number])[]): Uint8Array => {
    const bytes = header.slice()
    const view = viewOf(bytes)
    for (const [field, value] of places) setU64le(view, field, value)
    setU64le(view, 48, entriesSector - 1)
    view.setUint32(16, 0, true)
    view.setUint32(16, crc32(bytes.subarray(0, view.getUint32(12, true))), true)
    return bytes
  }
  const first = change(primary, [[32, last]])
  const second = change(backup, [
    [24, last],
    [72, entriesSector],
  ])
  const patches = [
    { offset: sector, bytes: first },
    { offset: entriesSector * sector, bytes: entries },
    { offset: last * sector, bytes: second },
  ]
  const record = head.slice(0, 512)
  const view = viewOf(record)
  // The protective entry covers the disk, as far as 32 bits can say.
  const covers = Math.min(before - 1, 0xffff_ffff)
  if (record[446 + 4] !== 0xee || view.getUint32(446 + 12, true) !== covers) return patches
  view.setUint32(446 + 12, Math.min(after - 1, 0xffff_ffff), true)
  return [{ offset: 0, bytes: record }, ...patches]
}
