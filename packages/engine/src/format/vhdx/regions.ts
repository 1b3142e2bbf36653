/** The region table: where the block table and the metadata lie. It is there twice; the second counts when the first is damaged.
 *  Source: MS-VHDX 2.2.3. */
import { crc32cWithout } from '../../bytes/crc32c.ts'
import { readGuid, writeGuid } from '../../bytes/guid.ts'
import { setU64le, u64le, viewOf } from '../../bytes/integers.ts'
import { type ByteSource, readPadded } from '../../core/index.ts'
import { lengths, mib, mostEntries, places, regionGuids, regionRequired, vhdxFault } from './layout.ts'

/** A range of the file. Bytes. */
export interface Region {
  offset: number
  length: number
}

/** The regions of a file. */
export interface Regions {
  blocks: Region
  metadata: Region
  /** All of them, those that are not known too, by offset. */
  all: Region[]
  /** Which of the two tables are whole. */
  valid: [boolean, boolean]
}

const signature = 0x6967_6572 // "regi"

/** Reads the region table.
 *  @throws MoraineError `corrupt` when neither is whole or regions lie over each other, `unsupported` for an unknown region that is required. */
export async function readRegions(file: ByteSource, log: Region): Promise<Regions> {
  const tables = places.regionTables.map(() => new Uint8Array(lengths.regionTable))
  await Promise.all(tables.map((into, i) => readPadded(file, places.regionTables[i as 0 | 1], into)))
  const valid = tables.map(isWhole) as [boolean, boolean]
  const table = valid[0] ? tables[0] : tables[1]
  if (table === undefined || !(valid[0] || valid[1])) {
    throw vhdxFault(file.name, 'corrupt', 'region table', { rule: 'signature and checksum in one of the two tables' })
  }
  const found = new Map<string, Region>()
  const count = viewOf(table).getUint32(8, true)
  if (count > mostEntries) {
    throw vhdxFault(file.name, 'invalid', 'region count', { value: count, rule: `at most ${mostEntries}` })
  }
  for (let i = 0; i < count; i++) readEntry(file, table, 16 + i * 32, found)
  const blocks = found.get(regionGuids.blocks)
  const metadata = found.get(regionGuids.metadata)
  if (blocks === undefined || metadata === undefined) {
    throw vhdxFault(file.name, 'corrupt', 'region table', { rule: 'a region of blocks and one of metadata' })
  }
  const all = [...found.values()].sort((a, b) => a.offset - b.offset)
  refuseOverlap(file.name, [...all, log])
  return { blocks, metadata, all, valid }
}

function isWhole(table: Uint8Array): boolean {
  const view = viewOf(table)
  return view.getUint32(0, true) === signature && view.getUint32(4, true) === crc32cWithout(table, 4)
}

function readEntry(file: ByteSource, table: Uint8Array, at: number, found: Map<string, Region>): void {
  const view = viewOf(table)
  const guid = readGuid(table, at)
  const region = { offset: u64le(view, at + 16), length: view.getUint32(at + 24, true) }
  const fail = (field: string, value: number | string, rule: string) =>
    vhdxFault(file.name, 'invalid', field, { value, rule })
  if (found.has(guid)) throw fail('region', guid, 'each region once')
  if (region.offset < mib || region.offset % mib !== 0) {
    throw fail('region offset', region.offset, 'a multiple of 1 MiB, not 0')
  }
  if (region.length === 0 || region.length % mib !== 0) {
    throw fail('region length', region.length, 'a multiple of 1 MiB, not 0')
  }
  if (region.offset + region.length > file.size) {
    throw fail('region offset', region.offset, `inside the file of ${file.size} bytes`)
  }
  const known = guid === regionGuids.blocks || guid === regionGuids.metadata
  if (!known && (view.getUint32(at + 28, true) & regionRequired) !== 0) {
    throw vhdxFault(file.name, 'unsupported', 'region', { value: guid, rule: 'a region that is known' })
  }
  found.set(guid, region)
}

/** @throws MoraineError `corrupt` when two of the ranges share bytes. */
function refuseOverlap(path: string, ranges: Region[]): void {
  const sorted = ranges.filter(({ length }) => length > 0).sort((a, b) => a.offset - b.offset)
  for (let i = 1; i < sorted.length; i++) {
    const before = sorted[i - 1] as Region
    const { offset } = sorted[i] as Region
    if (before.offset + before.length > offset) {
      throw vhdxFault(path, 'corrupt', 'region offset', {
        value: offset,
        rule: 'regions and log apart from each other',
      })
    }
  }
}

/** A region table as it lies on disk, 64 KiB: blocks and metadata, both required. */
export function encodeRegions(blocks: Region, metadata: Region): Uint8Array<ArrayBuffer> {
  const table = new Uint8Array(lengths.regionTable)
  const view = viewOf(table)
  view.setUint32(0, signature, true)
  const entries = [
    [regionGuids.blocks, blocks],
    [regionGuids.metadata, metadata],
  ] as const
  view.setUint32(8, entries.length, true)
  for (const [i, [guid, { offset, length }]] of entries.entries()) {
    const at = 16 + i * 32
    writeGuid(table, at, guid)
    setU64le(view, at + 16, offset)
    view.setUint32(at + 24, length, true)
    view.setUint32(at + 28, regionRequired, true)
  }
  view.setUint32(4, crc32cWithout(table, 4), true)
  return table
}
