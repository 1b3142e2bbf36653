/** The metadata region: a table of items, and the items that describe the virtual disk. Source: MS-VHDX 2.6. */
import { readGuid, writeGuid } from '../../bytes/guid.ts'
import { setU64le, u64le, viewOf } from '../../bytes/integers.ts'
import { type ByteSource, readPadded } from '../../core/index.ts'
import {
  bounds,
  itemFlags,
  itemGuids,
  lengths,
  mostEntries,
  parameterBits,
  sectorsPerChunk,
  vhdxFault,
} from './layout.ts'
import { decodeParentLocator, linkagePlace, type ParentLocator } from './parent-locator.ts'
import type { Region } from './regions.ts'

/** The virtual disk, as the metadata describes it. Sizes in bytes. */
export interface Metadata {
  blockSize: number
  /** Blocks stay where they are, once they are there: the image is "fixed". */
  leaveAllocated: boolean
  virtualSize: number
  /** GUID of the disk, which is that of its parent and its children too. */
  virtualDiskId: string
  logicalSector: number
  physicalSector: number
  /** Present when the image is a differencing one. */
  parent: ParentLocator | undefined
}

interface Item {
  offset: number
  length: number
}

const signature = 'metadata'
const tableHead = 32
const entryBytes = 32

/** Reads the region.
 *  @throws MoraineError `corrupt`, `invalid` for values outside the rules, `unsupported` for an unknown item that is required, `limit`. */
export async function readMetadata(file: ByteSource, region: Region): Promise<Metadata> {
  const items = await readTable(file, region)
  const { name: path } = file
  const item = async (guid: string, field: string, bytes: number): Promise<DataView> => {
    const found = items.get(guid)
    if (found === undefined) throw vhdxFault(path, 'unsupported', field, { rule: 'an item that must be there' })
    if (found.length < bytes) {
      throw vhdxFault(path, 'invalid', field, { value: found.length, rule: `an item of ${bytes} bytes` })
    }
    const into = new Uint8Array(bytes)
    await readPadded(file, region.offset + found.offset, into)
    return viewOf(into)
  }
  const parameters = await item(itemGuids.fileParameters, 'file parameters', 8)
  const size = await item(itemGuids.virtualDiskSize, 'virtual disk size', 8)
  const id = await item(itemGuids.virtualDiskId, 'virtual disk id', 16)
  const logical = await item(itemGuids.logicalSectorSize, 'logical sector size', 4)
  const physical = await item(itemGuids.physicalSectorSize, 'physical sector size', 4)
  const bits = parameters.getUint32(4, true)
  const metadata: Metadata = {
    blockSize: parameters.getUint32(0, true),
    leaveAllocated: (bits & parameterBits.leaveAllocated) !== 0,
    virtualSize: u64le(size, 0),
    virtualDiskId: readGuid(new Uint8Array(id.buffer), 0),
    logicalSector: logical.getUint32(0, true),
    physicalSector: physical.getUint32(0, true),
    parent: undefined,
  }
  checkValues(path, metadata)
  if ((bits & parameterBits.hasParent) !== 0) metadata.parent = await readLocator(file, region, items)
  return metadata
}

/** Byte offset in the file of an item; undefined where it is not there. */
export async function itemPlace(file: ByteSource, region: Region, guid: string): Promise<number | undefined> {
  const item = (await readTable(file, region)).get(guid)
  return item === undefined ? undefined : region.offset + item.offset
}

async function readTable(file: ByteSource, region: Region): Promise<Map<string, Item>> {
  const table = new Uint8Array(lengths.metadataTable)
  await readPadded(file, region.offset, table)
  const view = viewOf(table)
  const { name: path } = file
  if (!Array.from(signature).every((letter, i) => table[i] === letter.charCodeAt(0))) {
    throw vhdxFault(path, 'corrupt', 'metadata table', { rule: `the signature '${signature}'`, offset: region.offset })
  }
  const count = view.getUint16(10, true)
  if (count > mostEntries) {
    throw vhdxFault(path, 'invalid', 'metadata count', { value: count, rule: `at most ${mostEntries}` })
  }
  const known = new Set<string>(Object.values(itemGuids))
  const items = new Map<string, Item>()
  for (let i = 0; i < count; i++) {
    const at = tableHead + i * entryBytes
    const guid = readGuid(table, at)
    const item = { offset: view.getUint32(at + 16, true), length: view.getUint32(at + 20, true) }
    if (!known.has(guid)) {
      if ((view.getUint32(at + 24, true) & itemFlags.required) === 0) continue
      throw vhdxFault(path, 'unsupported', 'metadata item', { value: guid, rule: 'an item that is known' })
    }
    if (items.has(guid)) throw vhdxFault(path, 'invalid', 'metadata item', { value: guid, rule: 'each item once' })
    if (item.offset < lengths.metadataTable || item.offset + item.length > region.length) {
      throw vhdxFault(path, 'invalid', 'metadata item offset', {
        value: item.offset,
        rule: `behind the table and inside the region of ${region.length} bytes`,
      })
    }
    if (item.length > lengths.metadataItem) {
      throw vhdxFault(path, 'invalid', 'metadata item length', { value: item.length, rule: 'at most 1 MiB' })
    }
    items.set(guid, item)
  }
  return items
}

async function readLocator(file: ByteSource, region: Region, items: Map<string, Item>): Promise<ParentLocator> {
  return decodeParentLocator(file.name, (await locatorItem(file, region, items)).bytes)
}

async function locatorItem(
  file: ByteSource,
  region: Region,
  items: Map<string, Item>,
): Promise<{ offset: number; bytes: Uint8Array }> {
  const item = items.get(itemGuids.parentLocator)
  if (item === undefined) {
    throw vhdxFault(file.name, 'invalid', 'parent locator', { rule: 'an item that a differencing image has' })
  }
  const bytes = new Uint8Array(item.length)
  await readPadded(file, region.offset + item.offset, bytes)
  return { offset: region.offset + item.offset, bytes }
}

/** Where the file says which content of its parent it was made over: byte offset and length of the text `parent_linkage`.
 *  @throws MoraineError `invalid` where the file has no parent. */
export async function findLinkage(file: ByteSource, region: Region): Promise<{ offset: number; length: number }> {
  const { offset, bytes } = await locatorItem(file, region, await readTable(file, region))
  const place = linkagePlace(bytes)
  if (place === undefined) throw vhdxFault(file.name, 'invalid', 'parent_linkage', { rule: 'a text of the locator' })
  return { offset: offset + place.offset, length: place.length }
}

function checkValues(path: string, metadata: Metadata): void {
  const { blockSize, virtualSize, logicalSector, physicalSector } = metadata
  const fail = (field: string, value: number, rule: string) => vhdxFault(path, 'invalid', field, { value, rule })
  const inBounds = blockSize >= bounds.smallestBlock && blockSize <= bounds.largestBlock
  if (!inBounds || !isPowerOfTwo(blockSize)) throw fail('block size', blockSize, 'a power of two from 1 to 256 MiB')
  if (logicalSector !== 512 && logicalSector !== 4096) throw fail('logical sector size', logicalSector, '512 or 4096')
  if (physicalSector !== 512 && physicalSector !== 4096) {
    throw fail('physical sector size', physicalSector, '512 or 4096')
  }
  if (virtualSize > bounds.virtualSize || virtualSize % logicalSector !== 0) {
    throw fail('virtual disk size', virtualSize, 'whole logical sectors, at most 64 TiB')
  }
}

function isPowerOfTwo(value: number): boolean {
  return 2 ** Math.round(Math.log2(value)) === value
}

/** How the virtual disk is cut into blocks, and the table of them into chunks. */
export interface Geometry {
  /** Bytes. */
  blockSize: number
  logicalSector: number
  /** Blocks whose sectors one sector bitmap covers. */
  perChunk: number
  /** Blocks of the virtual disk. */
  blocks: number
  /** Entries of the table: blocks, and sector bitmaps between them. */
  entries: number
}

/** The geometry of a disk. Source: MS-VHDX 2.5.1; for a disk of no bytes QEMU's arithmetic, which wraps at 32 bits and wants a large table. */
export function geometryOf(
  metadata: Pick<Metadata, 'blockSize' | 'logicalSector' | 'virtualSize'>,
  differencing: boolean,
): Geometry {
  const { blockSize, logicalSector, virtualSize } = metadata
  const perChunk = (sectorsPerChunk * logicalSector) / blockSize
  const blocks = Math.ceil(virtualSize / blockSize)
  const entries = differencing
    ? Math.ceil(blocks / perChunk) * (perChunk + 1)
    : blocks + (blocks === 0 ? 0 : Math.floor((blocks - 1) / perChunk))
  return { blockSize, logicalSector, perChunk, blocks, entries }
}

/** A metadata region's first bytes: table, then items in the order in which QEMU writes them. The rest of the region is zeros. */
export function encodeMetadata(metadata: Omit<Metadata, 'parent'>, locator?: Uint8Array): Uint8Array<ArrayBuffer> {
  const virtual = itemFlags.required | itemFlags.virtualDisk
  const parameters = new Uint8Array(8)
  viewOf(parameters).setUint32(0, metadata.blockSize, true)
  const bits =
    (metadata.leaveAllocated ? parameterBits.leaveAllocated : 0) | (locator === undefined ? 0 : parameterBits.hasParent)
  viewOf(parameters).setUint32(4, bits, true)
  const size = new Uint8Array(8)
  setU64le(viewOf(size), 0, metadata.virtualSize)
  const id = new Uint8Array(16)
  writeGuid(id, 0, metadata.virtualDiskId)
  const items: [guid: string, flags: number, content: Uint8Array][] = [
    [itemGuids.fileParameters, itemFlags.required, parameters],
    [itemGuids.virtualDiskSize, virtual, size],
    [itemGuids.virtualDiskId, virtual, id],
    [itemGuids.logicalSectorSize, virtual, u32(metadata.logicalSector)],
    [itemGuids.physicalSectorSize, virtual, u32(metadata.physicalSector)],
  ]
  if (locator !== undefined) items.push([itemGuids.parentLocator, itemFlags.required, locator])
  const total = items.reduce((sum, [, , content]) => sum + content.length, 0)
  const bytes = new Uint8Array(lengths.metadataTable + total)
  const view = viewOf(bytes)
  for (let i = 0; i < signature.length; i++) bytes[i] = signature.charCodeAt(i)
  view.setUint16(10, items.length, true)
  let offset: number = lengths.metadataTable
  for (const [i, [guid, flags, content]] of items.entries()) {
    const at = tableHead + i * entryBytes
    writeGuid(bytes, at, guid)
    view.setUint32(at + 16, offset, true)
    view.setUint32(at + 20, content.length, true)
    view.setUint32(at + 24, flags, true)
    bytes.set(content, offset)
    offset += content.length
  }
  return bytes
}

function u32(value: number): Uint8Array {
  const bytes = new Uint8Array(4)
  viewOf(bytes).setUint32(0, value, true)
  return bytes
}
