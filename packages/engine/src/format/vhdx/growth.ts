/** Changing the size of a VHDX image. A block table that has no room moves to the end of the file; the size itself, which is one number of the metadata, changes through the log. */
import { crc32cWithout } from '../../bytes/crc32c.ts'
import { readGuid } from '../../bytes/guid.ts'
import { roundUp, setU64le, viewOf } from '../../bytes/integers.ts'
import { readPadded } from '../../core/index.ts'
import { copyAside } from '../growth.ts'
import { mapOf, type VhdxImage } from './image.ts'
import { blockState, itemGuids, lengths, mib, places, regionGuids, vhdxFault } from './layout.ts'
import { geometryOf, itemPlace } from './metadata.ts'
import type { Region } from './regions.ts'
import type { VhdxWriter } from './writer.ts'

/** Makes room in the table for a disk of `size` bytes. All changes must be in the file.
 *  @throws MoraineError `io` when a device has no room. */
export async function growTable(writer: VhdxWriter, size: number): Promise<void> {
  const { image, store } = writer
  const { metadata, regions, map } = image
  const { entries } = geometryOf({ ...metadata, virtualSize: size }, metadata.parent !== undefined)
  const used = map.geometry.entries * 8
  const wanted = entries * 8
  const old = regions.blocks
  if (wanted <= old.length) {
    // What stands behind the entries that counted is nobody's, and nobody has to have cleared it.
    if (wanted > used) await store.zero(old.offset + used, wanted - used, 'allocate')
    await store.flush()
  } else {
    const length = roundUp(wanted, mib)
    const moved = { offset: await writer.takeRegion(length), length }
    await copyAside(store, old.offset, moved.offset, used)
    await store.flush()
    await moveRegion(image, moved, writer)
    if (old.length > 0) await store.discard(old.offset, old.length)
  }
  image.map = mapOf(image)
}

/** Says in both region tables where the blocks' table lies. Until the second one says so either will do, as the table is the same at both places. */
async function moveRegion(image: VhdxImage, moved: Region, { store }: VhdxWriter): Promise<void> {
  const { regions } = image
  const table = new Uint8Array(lengths.regionTable)
  await readPadded(store, places.regionTables[regions.valid[0] ? 0 : 1], table)
  const view = viewOf(table)
  const count = view.getUint32(8, true)
  for (let i = 0; i < count; i++) {
    const at = 16 + i * 32
    if (readGuid(table, at) !== regionGuids.blocks) continue
    setU64le(view, at + 16, moved.offset)
    view.setUint32(at + 24, moved.length, true)
  }
  view.setUint32(4, crc32cWithout(table, 4), true)
  for (const slot of [1, 0] as const) {
    await store.write(places.regionTables[slot], table.slice())
    await store.flush()
    regions.valid[slot] = true
  }
  regions.all = [...regions.all.filter((region) => region !== regions.blocks), moved]
  regions.all.sort((a, b) => a.offset - b.offset)
  regions.blocks = moved
}

/** Gives the blocks of a fixed image from `first` on their places, as it has all of them. */
export async function fillBlocks(writer: VhdxWriter, first: number): Promise<void> {
  const { map } = writer.image
  for (let block = first; block < map.geometry.blocks; block++) {
    await writer.setBlock(block, blockState.fullyPresent, await writer.allocateBlock())
    if (map.pages.crowded) await writer.writeBack()
  }
}

/** Takes the places of all blocks from `first` on away, for good.
 *  @throws MoraineError `corrupt`, before anything is changed, where one of them is no place for a block. */
export async function dropBlocks(writer: VhdxWriter, first: number): Promise<void> {
  const { image, store } = writer
  const { map, metadata } = image
  const { blocks } = map.geometry
  const entryOf = async (block: number) => {
    const at = map.entryOffset(block)
    const entry = map.entryIn(await map.pages.at(at), at)
    return { ...entry, hasPlace: entry.state >= blockState.fullyPresent }
  }
  for (let block = first; block < blocks; block++) {
    const entry = await entryOf(block)
    if (entry.hasPlace) map.checked(block, entry)
  }
  // Nothing points at them any more when their bytes go.
  let given: number[] = []
  const giveBack = async (): Promise<void> => {
    await writer.writeBack()
    for (const offset of given) await store.discard(offset, Math.min(metadata.blockSize, store.size - offset))
    given = []
  }
  for (let block = first; block < blocks; block++) {
    const { state, offset, hasPlace } = await entryOf(block)
    if (state === blockState.notPresent) continue
    await writer.setBlock(block, blockState.notPresent, 0)
    if (hasPlace) given.push(offset)
    if (map.pages.crowded) await giveBack()
  }
  await giveBack()
}

/** Writes the size of the disk into the metadata, through the log. */
export async function writeSize(writer: VhdxWriter, size: number): Promise<void> {
  const { image, store } = writer
  const { metadata } = image.regions
  const place = await itemPlace(store, metadata, itemGuids.virtualDiskSize)
  if (place === undefined)
    throw vhdxFault(store.name, 'corrupt', 'virtual disk size', { rule: 'an item that is there' })
  const bytes = new Uint8Array(8)
  setU64le(viewOf(bytes), 0, size)
  await writer.writeThroughLog(place, bytes)
}
