/** Changing the size of a VMDK: a sparse one gets directories and grain tables at the end of its file, a flat one a longer file, and the descriptor says so. */
import { divideUp, roundUp } from '../../bytes/integers.ts'
import { type ByteStore, isStore, readPadded } from '../../core/index.ts'
import { clearGained, copyAside, writeEntries } from '../growth.ts'
import { noParent, replaceSize } from './descriptor.ts'
import { GrainDirectory } from './grain-directory.ts'
import { changedPart } from './identity.ts'
import { fault, type Part, type VmdkImage } from './image.ts'
import { bounds, headerBytes, sectorBytes, setCapacity } from './layout.ts'
import { SparseExtent } from './sparse-extent.ts'
import type { WritableVmdkDisk } from './writable-disk.ts'

/** What can be resized: one extent, in the image's own file or behind its descriptor. */
export type Resizable =
  | { kind: 'sparse'; part: Part; extent: SparseExtent; store: ByteStore }
  | { kind: 'flat'; part: Part; begin: number; store: ByteStore }

/** The one extent of an image.
 *  @throws MoraineError `unsupported` for the others: several extents, compressed ones, those of other files. */
export function resizableOf(image: VmdkImage): Resizable {
  const [part, ...others] = image.parts
  const file = part?.file
  if (part !== undefined && others.length === 0 && part.access === 'RW' && file !== undefined && isStore(file)) {
    if (part.flat !== undefined && file.kind !== 'device') {
      return { kind: 'flat', part, begin: part.flat, store: file }
    }
    const shape = part.sparse?.shape
    if (part.sparse !== undefined && file === image.file && shape?.kind === 'hosted' && !shape.compressed) {
      return { kind: 'sparse', part, extent: part.sparse, store: file }
    }
  }
  throw fault(image.file, 'unsupported', 'an image of this kind cannot be resized', 'createType', {
    value: image.createType,
    rule: 'monolithicSparse, or one flat extent',
    hint: 'convert it to another size with a target that is larger, or to monolithicSparse',
  })
}

/** Sets the size of a flat extent, and tells it in the descriptor that stands in `store`. `take` makes a part the one of the disk. */
export async function resizeFlat(
  { image }: WritableVmdkDisk,
  descriptor: ByteStore,
  { part, begin, store }: Resizable & { kind: 'flat' },
  size: number,
  take: (part: Part) => void,
): Promise<void> {
  const before = part.length
  const describe = await planDescription(image, descriptor, size)
  const stale = Math.min(store.size, begin + size) - (begin + before)
  if (stale > 0) await store.zero(begin + before, stale, 'unmap')
  if (size > before && store.size < begin + size) await store.resize(begin + size)
  await store.flush()
  await describe()
  take({ ...part, length: size })
  if (size > before || store.size <= begin + size) return
  await store.resize(begin + size)
  await store.flush()
}

/** Makes a sparse extent larger. All changes must be in the file. */
export async function growSparse(
  disk: WritableVmdkDisk,
  { part, extent, store }: Resizable & { kind: 'sparse' },
  size: number,
  take: (part: Part) => void,
): Promise<void> {
  const { image, parent } = disk
  const describe = await planDescription(image, store, size)
  const larger = await longerExtent({ extent, store }, size, image)
  take({ ...part, length: size, sparse: larger })
  try {
    const lacks = parent === undefined && image.descriptor.parentCid !== noParent
    const shown = lacks ? size : (parent?.size ?? 0)
    await clearGained(disk, { from: part.length, unit: larger.shape.grainBytes, shown })
    await disk.flush()
    await writeCapacity(store, larger)
  } catch (error) {
    take(part)
    throw error
  }
  await describe()
}

/** An extent that covers `size` bytes, its directories and new tables behind all else. Nothing in the file points at them yet.
 *  @throws MoraineError `limit` where they would pass 2 TiB of the file. */
async function longerExtent(
  { extent, store }: { extent: SparseExtent; store: ByteStore },
  size: number,
  image: VmdkImage,
): Promise<SparseExtent> {
  const { shape } = extent
  const old = shape.directory.count
  const tables = divideUp(size, extent.tableCover)
  if (tables === old) return new SparseExtent({ ...shape, size }, image.limits)
  const tableBytes = roundUp(shape.tableEntries * 4, sectorBytes)
  const directoryBytes = roundUp(tables * 4, sectorBytes)
  const each = directoryBytes + (tables - old) * tableBytes
  const start = roundUp(store.size, shape.grainBytes)
  const copies = shape.redundant === undefined ? 1 : 2
  const end = roundUp(start + copies * each, shape.grainBytes)
  if (tables > bounds.directoryEntries || end / sectorBytes > bounds.fileSectors) {
    throw fault(store, 'limit', 'the extent cannot become so large', 'capacity', {
      value: size / sectorBytes,
      rule: 'tables within the first 2 TiB of the file',
    })
  }
  if (store.kind === 'device') throw fault(store, 'unsupported', 'Cannot resize device files', 'size')
  // Tables without a grain are zeros.
  await store.resize(end)
  const make = async (from: GrainDirectory, at: number): Promise<GrainDirectory> => {
    await copyAside(store, from.offset, at, old * 4)
    const first = at + directoryBytes
    const place = { offset: at, from: old, to: tables, order: 'little' } as const
    await writeEntries(store, place, (index) => (first + (index - old) * tableBytes) / sectorBytes)
    return new GrainDirectory(store, at, tables)
  }
  const redundant = shape.redundant === undefined ? undefined : await make(shape.redundant, start)
  const directory = await make(shape.directory, start + (copies - 1) * each)
  await store.flush()
  return new SparseExtent({ ...shape, size, directory, redundant }, image.limits)
}

/** Makes the header, which is one sector, that of an extent with this size and these directories. */
async function writeCapacity(store: ByteStore, { shape }: SparseExtent): Promise<void> {
  const bytes = new Uint8Array(headerBytes)
  await readPadded(store, 0, bytes)
  setCapacity(bytes, {
    capacity: shape.size / sectorBytes,
    directory: shape.directory.offset / sectorBytes,
    redundantDirectory: shape.redundant === undefined ? undefined : shape.redundant.offset / sectorBytes,
  })
  await store.write(0, bytes)
  await store.flush()
}

/** What tells the size in the descriptor, in which nothing but the numbers changes. It is asked for before anything else changes.
 *  @throws MoraineError `invalid` where the descriptor has no room. */
async function planDescription(image: VmdkImage, store: ByteStore, size: number): Promise<() => Promise<void>> {
  const { place, descriptor } = image
  const old = new Uint8Array(place.length ?? Math.min(store.size, bounds.descriptorBytes))
  await readPadded(store, place.offset, old)
  const text = replaceSize(old, size)
  if (place.length !== undefined && text.length > place.length) {
    throw fault(store, 'invalid', 'there is no room for the new size in the descriptor', 'extent', {
      value: text.length,
      rule: `at most ${place.length} bytes`,
    })
  }
  const bytes = new Uint8Array(Math.max(old.length, text.length))
  bytes.set(text)
  return async () => {
    await store.write(place.offset, changedPart(old, bytes))
    await store.flush()
    const [line] = descriptor.extents
    if (line !== undefined) line.sectors = size / sectorBytes
  }
}
