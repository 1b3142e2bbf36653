/** The pieces of a conversion, cut as `qemu-img convert` cuts them: what a writer allocates, and in which order, follows from these cuts.
 *  Facts: QEMU 7.2, writes traced. */
import type { Disk, Extent } from '../core/index.ts'
import { ExtentCursor } from './extent-walk.ts'

const sector = 512

/** Most bytes that QEMU asks a block status for at once (2^31 − 1 bytes, in whole sectors). Chunks are counted anew from there. */
const statusBytes = 4_194_303 * sector

/** Bytes that one read takes at most. */
export const chunkBytes = 2 * 1024 * 1024

/** What happens to a piece: it is read and written, it reads as zeros, or the target's backing file already shows it. */
export type SegmentKind = 'data' | 'zero' | 'backing'

/** One piece, a whole number of sectors, all of it within one extent unless units are packed. */
export interface Segment {
  offset: number
  length: number
  kind: SegmentKind
  /** The extent that it was cut from; for a packed unit the one it begins with. */
  extent: Extent
}

/** How a source is cut. Bytes. */
export interface Cut {
  total: number
  /** The target has a backing file: what the source itself does not decide is left to it. */
  overBacking: boolean
  /** Virtual size of the target's backing file, when known: zeros after it need no writing. */
  backingSize?: number | undefined
  /** Cluster size of the source, so that status ranges end on whole clusters; 512 when it has none. */
  sourceAlignment: number
  /** Guest bytes that one L2 table of the source covers: its status never passes such a boundary. */
  sourceSpan?: number | undefined
  /** Unit of a compressed target: pieces of data are single units. */
  unit?: number | undefined
}

/** Cuts a source. Zero and backing pieces may be long; pieces of data are at most `chunkBytes`. */
export async function* cutSegments(
  extents: AsyncIterable<Extent[]>,
  cut: Cut,
): AsyncGenerator<Segment[], void, undefined> {
  const cursor = new ExtentCursor(extents)
  try {
    let batch: Segment[] = []
    let at = 0
    let extent: Extent | undefined
    while (at < cut.total) {
      while (extent === undefined || extent.offset + extent.length <= at) {
        const next = cursor.take()
        extent = next instanceof Promise ? await next : next
        if (extent === undefined) break
      }
      if (extent === undefined) break
      const before = batch.length
      at = cut.unit === undefined ? cutRun(extent, at, cut, batch) : cutUnits(extent, at, cut.unit, cut, batch)
      if (batch.length - before > 64 || batch.length > 256) {
        yield batch
        batch = []
      }
    }
    if (batch.length > 0) yield batch
  } finally {
    await cursor.close()
  }
}

/** One block status as QEMU would see it from `at` on: kind and end. */
function statusAt(extent: Extent, at: number, cut: Cut): { kind: SegmentKind; end: number } {
  let end = Math.min(cut.total, at + statusBytes)
  let pastBacking = false
  if (cut.backingSize !== undefined) {
    if (at >= cut.backingSize) pastBacking = true
    else end = Math.min(end, cut.backingSize)
  }
  if (cut.sourceSpan !== undefined) end = Math.min(end, (Math.floor(at / cut.sourceSpan) + 1) * cut.sourceSpan)
  end = Math.min(end, Math.ceil((extent.offset + extent.length) / sector) * sector)
  const tail = end % cut.sourceAlignment
  if (end - at > tail) end -= tail
  return { kind: kindOf(extent, cut.overBacking, pastBacking), end }
}

function kindOf(extent: Extent, overBacking: boolean, pastBacking: boolean): SegmentKind {
  if (overBacking && extent.depth > 0) return 'backing'
  if (extent.zero) return pastBacking ? 'backing' : 'zero'
  return 'data'
}

function cutRun(extent: Extent, at: number, cut: Cut, into: Segment[]): number {
  const { kind, end } = statusAt(extent, at, cut)
  if (kind !== 'data') {
    into.push({ offset: at, length: end - at, kind, extent })
    return end
  }
  for (let offset = at; offset < end; offset += chunkBytes) {
    into.push({ offset, length: Math.min(chunkBytes, end - offset), kind, extent })
  }
  return end
}

function cutUnits(extent: Extent, at: number, unit: number, cut: Cut, into: Segment[]): number {
  const { kind, end } = statusAt(extent, at, cut)
  const whole = Math.floor((end - at) / unit) * unit
  if (whole === 0) {
    const length = Math.min(unit, cut.total - at)
    into.push({ offset: at, length, kind: 'data', extent })
    return at + length
  }
  if (kind !== 'data') {
    into.push({ offset: at, length: whole, kind, extent })
    return at + whole
  }
  into.push({ offset: at, length: unit, kind, extent })
  return at + unit
}

/** How the source's own tables cut its block status, from what its `info` tells. */
export function cutOfSource(source: Disk): Pick<Cut, 'sourceAlignment' | 'sourceSpan'> {
  const { clusterSize, details } = source.info()
  if (clusterSize === undefined) return { sourceAlignment: sector }
  if (details?.type !== 'qcow2') return { sourceAlignment: clusterSize }
  const entryBytes = details.data['extended-l2'] === true ? 16 : 8
  return { sourceAlignment: clusterSize, sourceSpan: (clusterSize / entryBytes) * clusterSize }
}
