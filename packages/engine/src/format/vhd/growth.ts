/** Changing the size of a VHD: which size a footer can say, and room for more blocks. The table stays before the blocks; those in the way of a longer one move behind the last, as in
 *  VBoxManage and vhd-util. */
import { roundUp } from '../../bytes/integers.ts'
import { type ByteStore, MoraineError } from '../../core/index.ts'
import type { VhdSizeRule } from '../format.ts'
import { writeEntries } from '../growth.ts'
import type { VhdImage } from './image.ts'
import {
  type Footer,
  type Geometry,
  headerBytes,
  mostEntries,
  noBlock,
  saturatedSectors,
  sectorBytes,
  setEntries,
  vhdFault,
} from './layout.ts'
import { geometryOf, isSizedByGeometry, newSizeOf, sectorsOf } from './size.ts'

/** What a footer says of a disk that shall hold `size` bytes: as much, or, where its creator is believed on the geometry, the next size that is one.
 *  @throws MoraineError `limit` past 2040 GiB. */
export function sizeFor(
  { creator, geometry }: Footer,
  size: number,
  path: string,
  rule?: VhdSizeRule,
): { size: number; geometry: Geometry } {
  const isSaturated = sectorsOf(geometry) === saturatedSectors
  const byGeometry = rule === undefined ? isSizedByGeometry(creator) : rule === 'chs'
  const found = newSizeOf(size, !byGeometry || isSaturated)
  if (found === undefined) {
    throw vhdFault(path, 'limit', 'the image cannot become so large', {
      field: 'size',
      value: size,
      rule: 'at most 2040 GiB',
    })
  }
  return byGeometry || isSaturated ? found : { size: found.size, geometry: geometryOf(size / sectorBytes) }
}

/** Blocks in the way of a table of `entries`, and where the table ends then.
 *  @throws MoraineError `unsupported` where other structures follow the table, `corrupt` for a table that a check should see first. */
export async function planTable(
  image: VhdImage,
  entries: number,
): Promise<{ end: number; blocks: { block: number; sector: number }[] }> {
  const { header, footer, file } = image
  const { tableOffset } = header
  const oldEnd = tableOffset + header.entries * 4
  const end = tableOffset + roundUp(entries * 4, sectorBytes)
  const refuse = (
    kind: 'unsupported' | 'corrupt' | 'limit',
    reason: string,
    field: string,
    value: number,
    rule: string,
  ) => vhdFault(file.name, kind, reason, { field, value, rule })
  if (entries > mostEntries) {
    throw refuse('limit', 'the table would become too large', 'max_table_entries', entries, `at most ${mostEntries}`)
  }
  if (footer.creator.startsWith('tap')) {
    const reason = 'the map of full blocks that XenServer keeps stands where the table would grow'
    throw refuse('unsupported', reason, 'max_table_entries', entries, `at most ${header.entries}`)
  }
  if (footer.dataOffset < end && footer.dataOffset + headerBytes > oldEnd) {
    const reason = 'the dynamic header stands where the table would grow'
    throw refuse('unsupported', reason, 'data_offset', footer.dataOffset, 'before the table')
  }
  const blocks: { block: number; sector: number }[] = []
  const most = Math.ceil((end - oldEnd) / image.stride) + 1
  for await (const { first, entries: piece } of image.table.all()) {
    for (let i = 0; i < piece.length; i++) {
      const sector = piece[i] as number
      const start = sector * sectorBytes
      if (sector === noBlock || start >= end || start + image.stride <= oldEnd) continue
      blocks.push({ block: first + i, sector })
      if (start >= oldEnd && blocks.length <= most) continue
      const reason = `block ${first + i} lies over the table or another block`
      throw refuse('corrupt', reason, 'table entry', sector, 'a place of its own; check says what is wrong')
    }
  }
  return { end, blocks }
}

/** Makes the table one of `entries`: what follows it must be out of the way. */
export async function lengthenTable(image: VhdImage, entries: number, store: ByteStore): Promise<void> {
  const { header, footer } = image
  const to = roundUp(entries * 4, sectorBytes) / 4
  await writeEntries(store, { offset: header.tableOffset, from: header.entries, to, order: 'big' }, () => noBlock)
  await store.flush()
  const before = header.entries
  setEntries(header, entries)
  try {
    await store.write(footer.dataOffset, header.bytes.slice())
    await store.flush()
  } catch (error) {
    setEntries(header, before)
    throw error
  }
  image.renewTable()
}

/** The refusal for a differencing image. */
export function refuseOverParent(path: string, size: number): MoraineError {
  return new MoraineError('unsupported', 'a differencing VHD is as large as its parent', {
    path,
    format: 'vhd',
    field: 'size',
    value: size,
    hint: 'commit it or convert it; what comes out can be resized',
  })
}
