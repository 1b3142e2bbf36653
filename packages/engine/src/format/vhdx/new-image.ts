/** What a new image consists of, whether it is created or streamed. The layout is that of `qemu-img create` 7.2: log, table of blocks, metadata, 4 MiB
 *  for more metadata, blocks. */
import { zeroGuid } from '../../bytes/guid.ts'
import { roundUp, setU64le, viewOf } from '../../bytes/integers.ts'
import { utf16le } from '../../bytes/utf16.ts'
import { newGuid } from '../new-guid.ts'
import { encodeHeader, type Header } from './headers.ts'
import { blockState, fileSignature, lengths, mib, places } from './layout.ts'
import { encodeMetadata, type Geometry, geometryOf, type Metadata } from './metadata.ts'
import type { VhdxPlan } from './options.ts'
import { encodeParentLocator } from './parent-locator.ts'
import { encodeRegions, type Region } from './regions.ts'

/** What a differencing image takes from the disk under it. */
export interface NewParent {
  /** From the new image's folder, and from the root; one at least is known. */
  relative: string | undefined
  absolute: string | undefined
  dataWriteGuid: string
  metadata: Metadata
}

/** A new image before it is written. Offsets and lengths in bytes. */
export interface NewImage {
  log: Region
  table: Region
  metadata: Region
  /** Where the first block lies. */
  dataOffset: number
  geometry: Geometry
  /** State of a block that has no place. */
  emptyState: number
  /** The first bytes of the metadata region; the rest is zeros. */
  metadataBytes: Uint8Array<ArrayBuffer>
}

const creator = 'moraine'
/** Bytes behind the metadata that QEMU leaves free. */
const gap = 4 * mib

/** Plans an image of `size` bytes. */
export function planImage(size: number, plan: VhdxPlan, parent?: NewParent): NewImage {
  const metadata: Omit<Metadata, 'parent'> = {
    blockSize: plan.blockSize,
    leaveAllocated: plan.fixed,
    virtualSize: size,
    virtualDiskId: parent?.metadata.virtualDiskId ?? newGuid(),
    logicalSector: parent?.metadata.logicalSector ?? 512,
    physicalSector: parent?.metadata.physicalSector ?? 512,
  }
  const geometry = geometryOf(metadata, parent !== undefined)
  // For a disk of no bytes QEMU counts down from 0, and opens only what has room for all of that.
  const counted = geometry.blocks > 0 ? geometry.entries : Math.floor(0xffff_ffff / geometry.perChunk)
  const log = { offset: mib, length: plan.logSize }
  const table = { offset: log.offset + log.length, length: roundUp(counted * 8, mib) }
  const region = { offset: table.offset + table.length, length: mib }
  const locator = parent === undefined ? undefined : encodeParentLocator(parent.dataWriteGuid, parent)
  return {
    log,
    table,
    metadata: region,
    dataOffset: region.offset + region.length + gap,
    geometry,
    emptyState: parent === undefined && plan.zeroState ? blockState.zero : blockState.notPresent,
    metadataBytes: encodeMetadata(metadata, locator),
  }
}

/** The first 192 KiB: who made it, and both headers. */
export function encodeHead({ log }: NewImage): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(places.regionTables[0])
  for (let i = 0; i < fileSignature.length; i++) bytes[i] = fileSignature.charCodeAt(i)
  bytes.set(utf16le(creator), places.creator)
  const header: Header = {
    sequence: 1n,
    fileWriteGuid: newGuid(),
    dataWriteGuid: newGuid(),
    logGuid: zeroGuid,
    logVersion: 0,
    logLength: log.length,
    logOffset: log.offset,
  }
  bytes.set(encodeHeader(header), places.headers[0])
  bytes.set(encodeHeader({ ...header, sequence: 2n }), places.headers[1])
  return bytes
}

/** Both region tables, one behind the other. */
export function encodeRegionTables({ table, metadata }: NewImage): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(2 * lengths.regionTable)
  const one = encodeRegions(table, metadata)
  bytes.set(one)
  bytes.set(one, lengths.regionTable)
  return bytes
}

/** The table in chunks of 1 MiB. `offsetOf` tells where a block lies, undefined where it has no place. */
export function* tableChunks(
  { table, geometry, emptyState }: NewImage,
  offsetOf: (block: number) => number | undefined,
): Generator<Uint8Array<ArrayBuffer>, void, undefined> {
  const { perChunk, entries } = geometry
  for (let start = 0; start < table.length; start += mib) {
    const chunk = new Uint8Array(mib)
    const view = viewOf(chunk)
    const first = start / 8
    const end = Math.min(entries, first + mib / 8)
    for (let index = first; index < end; index++) {
      // Between the blocks of two chunks stands the entry of a sector bitmap.
      if (index % (perChunk + 1) === perChunk) continue
      const block = index - Math.floor(index / (perChunk + 1))
      if (block >= geometry.blocks) continue
      const offset = offsetOf(block)
      const at = (index - first) * 8
      if (offset === undefined) view.setUint32(at, emptyState, true)
      else setU64le(view, at, offset + blockState.fullyPresent)
    }
    yield chunk
  }
}
