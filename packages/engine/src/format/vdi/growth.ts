/** Room for more blocks in a VDI image. The block map lies before the blocks, which are counted from where they begin. Where it has no room, the first blocks move behind the last one and
 *  a new map takes their place; the header, which is one sector, then points at it and begins to count behind it. Whatever was cut short, the image is the old one or the new one. */
import { copyAside, writeEntries } from '../growth.ts'
import { tableOf, type VdiImage } from './disk.ts'
import { encodeHeader, entry, imageType, vdiFault } from './layout.ts'
import type { WritableVdiDisk } from './writable-disk.ts'

/** What the block map says, counted once. */
interface MapFacts {
  /** Index behind the last block that has a place. */
  end: number
  /** Blocks that have one. */
  used: number
  /** Guest blocks among the first of the file: those in the way. */
  first: number[]
}

/** Makes the block map one of `blocks` entries. Nothing else may run meanwhile, and all changes must be in the file. A static image has all of its blocks afterwards.
 *  @throws MoraineError `corrupt` for a map that a check should see first, `io` when a device has no room. */
export async function growMap(disk: WritableVdiDisk, blocks: number): Promise<void> {
  const { image, store } = disk
  const { header } = image
  if (blocks <= header.blocks) return
  const isStatic = header.type === imageType.fixed
  const stride = header.blockSize + header.blockExtra
  const fits = header.mapOffset + blocks * 4 <= header.dataOffset
  // A multiple of the blocks, so that the others stay where they are.
  const shift = fits ? 0 : Math.ceil((blocks * 4) / stride)
  const facts = await lookThrough(disk, shift)
  const old = header.blocks
  const more = isStatic ? blocks - old : 0
  const last = Math.max(shift, facts.end) + facts.first.length
  const fileEnd = header.dataOffset + (fits ? facts.end + more : last + more) * stride
  if (store.kind === 'device' && fileEnd > store.size) {
    throw vdiFault(disk.name, 'io', 'No space left on device', { offset: fileEnd, code: 'ENOSPC' })
  }
  const offset = fits ? header.mapOffset : header.dataOffset
  const dataOffset = header.dataOffset + shift * stride
  if (dataOffset > 0xffff_ffff) {
    const place = { field: 'offset_data', value: dataOffset, rule: 'less than 4 GiB' }
    throw vdiFault(disk.name, 'limit', 'the block map would become too large', place)
  }
  if (shift > 0) await moveFirst(disk, facts, shift)
  let next = (fits ? facts.end : last) - shift
  if (!fits) await writeShifted(image, disk, offset, shift)
  await writeEntries(store, { offset, from: old, to: blocks, order: 'little' }, () =>
    isStatic ? next++ : entry.unallocated,
  )
  if (store.kind === 'device') {
    if (more > 0) await store.zero(fileEnd - more * stride, more * stride, 'unmap')
  } else {
    const least = Math.max(dataOffset, isStatic ? fileEnd : 0)
    if (store.size < least) await store.resize(least)
  }
  await store.flush()
  const before = { ...header }
  Object.assign(header, { mapOffset: offset, dataOffset, blocks, blocksAllocated: facts.used + more })
  try {
    await writeHeader(disk)
  } catch (error) {
    Object.assign(header, before)
    throw error
  }
  image.table = tableOf(image.file, header, image.context)
}

async function writeHeader({ image, store }: WritableVdiDisk): Promise<void> {
  await store.write(0, encodeHeader(image.header).slice())
  await store.flush()
}

async function lookThrough(disk: WritableVdiDisk, shift: number): Promise<MapFacts> {
  const facts: MapFacts = { end: 0, used: 0, first: [] }
  for await (const { first, entries } of disk.image.table.all()) {
    for (let i = 0; i < entries.length; i++) {
      const index = entries[i] as number
      if (index >= entry.discarded) continue
      facts.used++
      facts.end = Math.max(facts.end, index + 1)
      if (index < shift) facts.first.push(first + i)
      if (disk.isPlace(index) && facts.first.length <= shift) continue
      throw vdiFault(disk.name, 'corrupt', 'the block map is damaged', {
        field: 'block map entry',
        value: index,
        offset: disk.image.header.mapOffset + (first + i) * 4,
        hint: 'check says what is wrong with it',
      })
    }
  }
  return facts
}

/** Gives the first blocks places behind the last one. Others must be able to read the image meanwhile, and to write to it afterwards: the header counts those places as taken, and the map
 *  becomes longer where there is room for it, as a place is never past its length. Of a full map that ends where the blocks begin the places are past it until the new map counts. */
async function moveFirst(disk: WritableVdiDisk, { end, first }: MapFacts, shift: number): Promise<void> {
  const { image, store } = disk
  const { header } = image
  if (first.length === 0) return
  const { blockSize, blockExtra } = header
  const start = Math.max(shift, end)
  const moves: { block: number; to: number }[] = []
  for (const block of first) {
    const to = start + moves.length
    const from = await image.table.get(block)
    await copyAside(store, disk.hostOf(from) - blockExtra, disk.hostOf(to) - blockExtra, blockExtra + blockSize)
    moves.push({ block, to })
  }
  const room = Math.floor((header.dataOffset - header.mapOffset) / 4)
  const wanted = Math.min(room, start + moves.length)
  if (wanted > header.blocks) {
    const place = { offset: header.mapOffset, from: header.blocks, to: wanted, order: 'little' } as const
    await writeEntries(store, place, () => entry.unallocated)
    header.blocks = wanted
    image.table = tableOf(image.file, header, image.context)
  }
  await store.flush()
  header.blocksAllocated = start + moves.length
  await writeHeader(disk)
  for (const { block, to } of moves) await image.table.set(block, to)
  await image.table.writeBack(store)
  await store.flush()
}

/** Writes the map as it shall be: blocks are counted from further behind. */
async function writeShifted(image: VdiImage, { store }: WritableVdiDisk, offset: number, shift: number): Promise<void> {
  for await (const { first, entries } of image.table.all()) {
    const place = { offset, from: first, to: first + entries.length, order: 'little' } as const
    await writeEntries(store, place, (index) => {
      const value = entries[index - first] as number
      return value >= entry.discarded ? value : value - shift
    })
  }
}
