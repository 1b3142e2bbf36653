/** A disk as it is exported: its name, what clients may do with it, and what contexts tell about it. */
import { type Disk, isWritable, MoraineError, type WritableDisk } from '@moraine/engine'
import { allocationContext, allocationState, bitmapContext, depthContext, exportFlag } from '../wire/constants.ts'

/** What is exported. */
export interface Exported {
  name: string
  description: string | undefined
  disk: Disk
  /** The same disk, where clients may write. */
  writable: WritableDisk | undefined
  /** Transmission flags without those that depend on a client. */
  flags: number
  /** Names of contexts, in the order of their numbers. */
  contexts: string[]
  /** Dirty ranges by context, as starts and ends, ascending. */
  bitmaps: Map<string, number[]>
}

/** How a disk is exported. */
export interface ExportOptions {
  /** Default: the empty name, which clients ask for that name none. */
  exportName?: string | undefined
  /** For people, in the list of exports. */
  description?: string | undefined
  /** Default: whether the disk was opened so. */
  readOnly?: boolean | undefined
  /** Dirty bitmaps of the image that clients may ask for, as `qemu:dirty-bitmap:NAME`. The export must be read-only. */
  bitmaps?: readonly string[] | undefined
  /** Clients may ask in which image of the chain content lies: `qemu:allocation-depth`. */
  allocationDepth?: boolean | undefined
  /** Several clients may be connected: they are told that they see each other's writes. */
  shared?: boolean | undefined
}

/** Dirty ranges that are held in memory for one bitmap. */
const mostRanges = 4 * 1024 * 1024

/** Prepares a disk.
 *  @throws MoraineError `invalid`, `missing` (a bitmap), `denied` when it shall be written and was not opened so. */
export async function exportDisk(disk: Disk, options: ExportOptions): Promise<Exported> {
  const writable = isWritable(disk) && options.readOnly !== true ? disk : undefined
  if (options.readOnly === false && writable === undefined) {
    throw new MoraineError('denied', 'the disk was opened for reading', { path: disk.name, field: 'readOnly' })
  }
  const { exportName: name = '' } = options
  if (Buffer.byteLength(name) > 4096 || Buffer.byteLength(options.description ?? '') > 4096) {
    throw new MoraineError('invalid', 'the name or the description of an export is too long', {
      path: disk.name,
      field: 'exportName',
      rule: 'at most 4096 bytes',
    })
  }
  const contexts = [allocationContext]
  if (options.allocationDepth === true) contexts.push(depthContext)
  const bitmaps = new Map<string, number[]>()
  for (const bitmap of options.bitmaps ?? []) {
    if (writable !== undefined) {
      throw new MoraineError('invalid', 'bitmaps are exported of read-only exports only', {
        path: disk.name,
        field: 'bitmaps',
        value: bitmap,
      })
    }
    const context = bitmapContext + bitmap
    bitmaps.set(context, await dirtyRanges(disk, bitmap))
    contexts.push(context)
  }
  return {
    name,
    description: options.description,
    disk,
    writable,
    flags: flagsOf(writable, options),
    contexts,
    bitmaps,
  }
}

function flagsOf(writable: WritableDisk | undefined, { shared }: ExportOptions): number {
  const { hasFlags, readOnly, sendFlush, sendFua, sendTrim, sendWriteZeroes, canMultiConn } = exportFlag
  const rights = writable === undefined ? readOnly : sendFlush | sendFua | sendTrim | sendWriteZeroes
  return hasFlags | rights | (shared === true || writable === undefined ? canMultiConn : 0)
}

async function dirtyRanges(disk: Disk, name: string): Promise<number[]> {
  if (disk.bitmaps === undefined) {
    throw new MoraineError('missing', `Bitmap '${name}' is not found`, {
      path: disk.name,
      field: 'bitmaps',
      value: name,
    })
  }
  const bounds: number[] = []
  for await (const batch of disk.bitmaps.ranges(name)) {
    for (const { offset, length } of batch) bounds.push(offset, offset + length)
    if (bounds.length > 2 * mostRanges) {
      throw new MoraineError('limit', `bitmap '${name}' has too many ranges`, {
        path: disk.name,
        field: 'bitmaps',
        rule: `at most ${mostRanges}`,
      })
    }
  }
  return bounds
}

/** One extent in the words of a context. */
export interface Run {
  length: number
  flags: number
}

/** What a context says from `offset` on: at most `most` extents, together at most `length` bytes. */
export async function contextRuns(
  { disk, bitmaps }: Exported,
  context: string,
  range: { offset: number; length: number },
  most: number,
): Promise<Run[]> {
  const bounds = bitmaps.get(context)
  if (bounds !== undefined) return dirtyRuns(bounds, range, most)
  const runs: Run[] = []
  for await (const batch of disk.extents(range.offset, range.length)) {
    for (const { allocated, data, zero, depth, length } of batch) {
      const flags =
        context === depthContext
          ? allocated
            ? depth + 1
            : 0
          : (data ? 0 : allocationState.hole) | (zero ? allocationState.zero : 0)
      const last = runs[runs.length - 1]
      if (last !== undefined && last.flags === flags) last.length += length
      else if (runs.length === most) return runs
      else runs.push({ length, flags })
    }
  }
  return runs
}

function dirtyRuns(
  bounds: readonly number[],
  { offset, length }: { offset: number; length: number },
  most: number,
): Run[] {
  // The first bound behind `offset`: an odd one is the end of a dirty range.
  let low = 0
  let high = bounds.length
  while (low < high) {
    const middle = (low + high) >> 1
    if ((bounds[middle] as number) > offset) high = middle
    else low = middle + 1
  }
  const end = offset + length
  const runs: Run[] = []
  for (let at = offset; at < end && runs.length < most; low++) {
    const stop = Math.min(end, bounds[low] ?? end)
    if (stop > at) runs.push({ length: stop - at, flags: low % 2 })
    at = stop
  }
  return runs
}
