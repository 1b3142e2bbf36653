/** The pieces of a conversion, cut as `qemu-img convert` cuts them: what a writer allocates, and in which order, follows from these cuts.
 *  Facts: QEMU 7.2, writes traced. */
import type { Disk, Extent } from '../core/index.ts'
import { ExtentCursor } from './extent-walk.ts'

const sector = 512

/** Most bytes that QEMU asks a block status for at once (2^31 − 1 bytes, in whole sectors). Chunks are counted anew from there. */
const statusBytes = 4_194_303 * sector

/** Bytes that one read takes at most. */
export const chunkBytes = 2 * 1024 * 1024

const unitsInBatch = 256

/** What happens to a piece: it is read and written, it reads as zeros, or the target's backing file already shows it. */
export type SegmentKind = 'data' | 'zero' | 'backing'

/** One piece, a whole number of sectors. */
export interface Segment {
  offset: number
  length: number
  kind: SegmentKind
  /** The extent that it was cut from. It ends within the last sector where a file does, and within a unit that has `parts`. */
  extent: Extent
  /** For a unit to be packed that lies in several extents: all of them. */
  parts?: Extent[]
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

/** Cuts a source. Zero and backing pieces may be long; pieces of data are at most `chunkBytes`, or one unit. */
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
      if (cut.unit === undefined) at = cutRun(extent, at, cut, batch)
      else {
        const end = cutUnits(extent, at, cut.unit, cut, batch)
        if (end === at) {
          const mixed = mixedUnit(extent, at, cut.unit, cut)
          at += mixed.length
          extent = await readOn(cursor, mixed.parts, at)
          batch.push(mixed)
        } else at = end
      }
      if (batch.length > 256) {
        yield batch
        batch = []
      }
    }
    if (batch.length > 0) yield batch
  } finally {
    await cursor.close()
  }
}

/** Adds the extents that follow until `end` is covered; returns the last. */
async function readOn(cursor: ExtentCursor, parts: Extent[], end: number): Promise<Extent> {
  for (;;) {
    const last = parts[parts.length - 1] as Extent
    if (last.offset + last.length >= end) return last
    const next = await cursor.take()
    if (next === undefined) return last
    parts.push(next)
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

/** Cuts whole units from `at` on; returns `at` when the status there ends within the unit. Such a unit is data. */
function cutUnits(extent: Extent, at: number, unit: number, cut: Cut, into: Segment[]): number {
  const { kind, end } = statusAt(extent, at, cut)
  const whole = at + Math.floor((end - at) / unit) * unit
  if (kind !== 'data') {
    if (whole > at) into.push({ offset: at, length: whole - at, kind, extent })
    return whole
  }
  const stop = Math.min(whole, at + unitsInBatch * unit)
  for (let offset = at; offset < stop; offset += unit) into.push({ offset, length: unit, kind, extent })
  return stop
}

function mixedUnit(extent: Extent, at: number, unit: number, cut: Cut): Segment & { parts: Extent[] } {
  return { offset: at, length: Math.min(unit, cut.total - at), kind: 'data', extent, parts: [extent] }
}

/** How the source's own tables cut its block status, from what its `info` tells. */
export function cutOfSource(source: Disk): Pick<Cut, 'sourceAlignment' | 'sourceSpan'> {
  const { clusterSize, details } = source.info()
  if (clusterSize === undefined) return { sourceAlignment: sector }
  if (details?.type !== 'qcow2') return { sourceAlignment: clusterSize }
  const entryBytes = details.data['extended-l2'] === true ? 16 : 8
  return { sourceAlignment: clusterSize, sourceSpan: (clusterSize / entryBytes) * clusterSize }
}
