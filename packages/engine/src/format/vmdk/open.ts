/** Opening a VMDK: the descriptor, embedded or alone, every extent that it names, and the disk under it. */
import { type ByteSource, type Disk, isMoraineError, isStore, readPadded, type WritableDisk } from '../../core/index.ts'
import type { OpenContext } from '../format.ts'
import { type Descriptor, type ExtentLine, noParent, parseDescriptor } from './descriptor.ts'
import { VmdkDisk } from './disk.ts'
import { TableBudget } from './grain-tables.ts'
import { fault, type Part, type VmdkImage } from './image.ts'
import {
  bounds,
  descriptorSector,
  descriptorSectors,
  isCowd,
  isSparse,
  type SparseHeader,
  sectorBytes,
} from './layout.ts'
import { openHosted, openSeSparse, openSparseExtent, readSparseHeader } from './open-extent.ts'

/** Opens an image; for writing the result is a `WritableDisk`.
 *  @throws MoraineError `invalid` for a broken descriptor or a parent that is not the one, `unsupported` for extents that only their host can read, and what
 *  the gate says of the extents. */
export async function openVmdk(file: ByteSource, context: OpenContext): Promise<Disk | WritableDisk> {
  if (context.mode === 'write' && !isStore(file)) {
    throw fault(file, 'denied', 'the source cannot be written')
  }
  const image = await openImage(file, context)
  let parent: Disk | undefined
  try {
    parent = await openParent(image)
    if (image.store === undefined) return new VmdkDisk(image, parent)
    const { WritableVmdkDisk } = await import('./writable-disk.ts')
    return new WritableVmdkDisk(image, image.store, parent)
  } catch (error) {
    await Promise.allSettled([closeParts(image), parent?.close()])
    throw error
  }
}

async function openImage(file: ByteSource, context: OpenContext): Promise<VmdkImage> {
  if (file.size < 4) throw fault(file, 'invalid', 'File is too small, not a valid image', 'magic')
  const { header, bytes } = await readSparseHeader(file)
  if (isCowd(bytes)) {
    throw fault(file, 'invalid', `Could not open '${file.name}': Invalid argument`, 'descriptor', {
      code: 'EINVAL',
      hint: 'A COWD extent has no descriptor of its own: open the descriptor file that names it.',
    })
  }
  if (!isSparse(bytes)) {
    const place = { offset: 0, length: undefined }
    return openByDescriptor(file, context, await readDescriptor(file, place), place)
  }
  const place = embeddedPlace(header)
  // A header without a capacity may be no more than the place of a descriptor; so may an image of no size.
  if (header.capacity === 0 && header.descriptorSector !== 0) {
    const { createType } = await readDescriptor(file, place, true)
    if (!/^(monolithicSparse|streamOptimized)$/i.test(createType)) {
      return openByDescriptor(file, context, await readDescriptor(file, place), place)
    }
  }
  const sparse = await openHosted(file, header, bytes, context)
  const descriptor = await readDescriptor(file, place, true)
  // The name in its line is that of another time or place: the extent is this file.
  const access = descriptor.extents[0]?.access === 'NOACCESS' ? 'NOACCESS' : 'RW'
  const { size, compressed } = sparse.shape
  const part: Part = { start: 0, length: size, access, type: '', file, name: undefined, flat: undefined, sparse }
  return imageOf(file, context, descriptor, place, {
    parts: size === 0 ? [] : [part],
    createType: compressed ? 'streamOptimized' : 'monolithicSparse',
    size,
  })
}

function imageOf(
  file: ByteSource,
  context: OpenContext,
  descriptor: Descriptor,
  place: VmdkImage['place'],
  rest: Pick<VmdkImage, 'parts' | 'createType' | 'size'>,
): VmdkImage {
  const store = context.mode === 'write' && isStore(file) ? file : undefined
  return { file, store, context, limits: context.limits, descriptor, place, ...rest }
}

/** Where the embedded descriptor stands; headers that do not tell its length mean the usual one. */
function embeddedPlace({ descriptorSector: sector, descriptorSectors: count }: SparseHeader): {
  offset: number
  length: number
} {
  const most = Math.floor(bounds.descriptorBytes / sectorBytes)
  return {
    offset: (sector >= 1 && sector < bounds.fileSectors ? sector : descriptorSector) * sectorBytes,
    length: (count >= 1 && count <= most ? count : descriptorSectors) * sectorBytes,
  }
}

async function readDescriptor(file: ByteSource, place: VmdkImage['place'], embedded = false): Promise<Descriptor> {
  const bytes = new Uint8Array(place.length ?? Math.min(file.size, bounds.descriptorBytes))
  await readPadded(file, place.offset, bytes)
  return parseDescriptor(bytes, file.name, embedded)
}

/** What a descriptor of its own may call the image, in lower case. */
const createTypes: ReadonlySet<string> = new Set(
  (
    'monolithicSparse monolithicFlat twoGbMaxExtentSparse twoGbMaxExtentFlat 2GbMaxExtentSparse 2GbMaxExtentFlat streamOptimized vmfs vmfsSparse ' +
    'vmfsThin vmfsEagerZeroedThick vmfsPreallocated seSparse custom fullDevice partitionedDevice'
  )
    .toLowerCase()
    .split(' '),
)

async function openByDescriptor(
  file: ByteSource,
  context: OpenContext,
  descriptor: Descriptor,
  place: VmdkImage['place'],
): Promise<VmdkImage> {
  const { createType, extents } = descriptor
  if (!createTypes.has(createType.toLowerCase())) {
    throw fault(file, 'unsupported', `Unsupported image type '${createType}'`, 'createType', { value: createType })
  }
  // Split and flat images of no size have no extents.
  if (extents.length === 0 && !/^(two|2)Gb|Flat$/i.test(createType)) {
    throw fault(file, 'invalid', 'the descriptor names no extents', 'extents', { rule: 'at least one extent line' })
  }
  const opened = new Map<string, ByteSource>()
  const parts: Part[] = []
  const budget = new TableBudget(context.limits.cacheBytes)
  let start = 0
  let compressed = false
  try {
    for (const line of extents) {
      const part = await openPart(line, { start, file, budget }, context, opened)
      compressed ||= part.sparse?.shape.compressed === true
      parts.push(part)
      start += part.length
      if (start <= context.limits.virtualSize) continue
      throw fault(file, 'limit', 'Image is too big', 'extents', {
        value: start,
        rule: `at most ${context.limits.virtualSize} bytes`,
      })
    }
  } catch (error) {
    await Promise.allSettled([...opened.values()].map((source) => source.close()))
    throw error
  }
  return imageOf(file, context, descriptor, place, {
    parts,
    createType: compressed ? 'streamOptimized' : createType,
    size: start,
  })
}

async function openPart(
  line: ExtentLine,
  { start, file, budget }: { start: number; file: ByteSource; budget: TableBudget },
  context: OpenContext,
  opened: Map<string, ByteSource>,
): Promise<Part> {
  const { access, type, name } = line
  const length = line.sectors * sectorBytes
  const bare: Part = { start, length, access, type, file: undefined, name, flat: undefined, sparse: undefined }
  if (type === 'ZERO' || access === 'NOACCESS' || name === undefined) return bare
  if (type === 'VMFSRDM' || type === 'VMFSRAW') {
    throw fault(file, 'unsupported', `Unsupported extent type '${type}'`, 'extent', {
      value: type,
      rule: 'an extent whose bytes lie in a file',
    })
  }
  const mode = access === 'RW' ? context.mode : 'read'
  const key = `${mode} ${name}`
  let source = opened.get(key)
  if (source === undefined) {
    try {
      source = await context.openFile({ name, role: 'extent', mode })
    } catch (error) {
      // What the descriptor says can be shown without its files.
      if (context.purpose === 'info' && isMoraineError(error, 'denied')) return bare
      throw error
    }
    opened.set(key, source)
  }
  if (type === 'FLAT' || type === 'VMFS') return { ...bare, file: source, flat: line.offset * sectorBytes }
  const inMode: OpenContext = { ...context, mode }
  const open = type === 'SESPARSE' ? openSeSparse : openSparseExtent
  const sparse = await open(source, inMode, budget)
  if (sparse.shape.size >= length) return { ...bare, file: source, sparse }
  throw fault(source, 'corrupt', 'the extent is smaller than its descriptor says', 'capacity', {
    value: sparse.shape.size / sectorBytes,
    rule: `at least ${line.sectors} sectors`,
  })
}

/** Opens the disk under this one and looks whether it is the one that this was made from. */
async function openParent(image: VmdkImage): Promise<Disk | undefined> {
  const { context, descriptor, file } = image
  const { parentName, parentCid } = descriptor
  if (!context.parents) return undefined
  if (parentName === undefined || parentName === '') {
    if (parentCid === noParent || context.purpose !== 'use') return undefined
    throw fault(file, 'missing', 'the image has a parent and does not tell its name', 'parentFileNameHint')
  }
  const parent = await context.openParent({ name: parentName, format: 'vmdk', role: 'parent' })
  const cid = parent instanceof VmdkDisk ? parent.image.descriptor.cid : undefined
  if (cid === parentCid || context.purpose !== 'use') return parent
  await parent.close()
  throw fault(file, 'invalid', 'the parent is not the one that this image was made from', 'parentCID', {
    value: `0x${parentCid.toString(16)}`,
    rule: `the identity of '${parent.name}', 0x${(cid ?? 0).toString(16)}`,
    code: 'EINVAL',
    hint: 'the parent was written to, or is another file of that name',
  })
}

async function closeParts(image: VmdkImage): Promise<void> {
  const files = new Set(image.parts.map(({ file }) => file))
  files.delete(image.file)
  await Promise.all([...files].map((file) => file?.close()))
}
