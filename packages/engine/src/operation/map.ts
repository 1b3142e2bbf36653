/** What lies where in a disk, in the terms of `qemu-img map`. Facts: `qemu-img map --output=json` of QEMU 7.2, measured. */
import { type Disk, type Extent, MoraineError, throwIfCancelled } from '../core/index.ts'

/** One line of `map`. Offsets and lengths are bytes. */
export interface MapEntry {
  start: number
  length: number
  /** Which disk of the chain decides: 0 is the one that was asked. */
  depth: number
  /** That disk decides because it has an entry for the range, not because nothing lies under it. */
  present: boolean
  zero: boolean
  data: boolean
  /** Where the bytes lie in the host file, when they lie there plain. */
  offset?: number
  /** The host file of `offset`. */
  filename?: string
}

/** The part of a disk to map, in bytes; all of it by default. */
export interface MapRange {
  start?: number | undefined
  length?: number | undefined
}

/** Maps a disk in batches, merged exactly as `qemu-img map` merges: neighbours that say the same and whose bytes lie side by side.
 *  A range that passes the end is cut.
 *  @throws MoraineError `invalid` for a negative range, and what reading the image's tables throws. */
export async function* mapDisk(disk: Disk, range: MapRange = {}, signal?: AbortSignal): AsyncIterable<MapEntry[]> {
  const start = range.start ?? 0
  if (start < 0 || (range.length ?? 0) < 0) {
    throw new MoraineError('invalid', 'the range to map is negative', { path: disk.name, field: 'range', value: start })
  }
  const end = Math.min(disk.size, range.length === undefined ? disk.size : start + range.length)
  if (start >= end) return
  let open: MapEntry | undefined
  for await (const batch of disk.extents(start, end - start, signal)) {
    throwIfCancelled(signal, disk.name)
    const done: MapEntry[] = []
    for (const extent of batch) {
      if (open !== undefined && isContinued(open, extent)) {
        open.length += extent.length
        continue
      }
      if (open !== undefined) done.push(open)
      open = entryOf(extent)
    }
    if (done.length > 0) yield done
  }
  if (open !== undefined) yield [open]
}

function entryOf(extent: Extent): MapEntry {
  const entry: MapEntry = {
    start: extent.offset,
    length: extent.length,
    depth: extent.depth,
    present: extent.allocated,
    zero: extent.zero,
    data: extent.data,
  }
  if (extent.host !== undefined && extent.encoded === undefined) {
    entry.offset = extent.host.offset
    entry.filename = extent.host.source.name
  }
  return entry
}

function isContinued(entry: MapEntry, extent: Extent): boolean {
  const host = extent.encoded === undefined ? extent.host : undefined
  return (
    entry.zero === extent.zero &&
    entry.data === extent.data &&
    entry.present === extent.allocated &&
    entry.depth === extent.depth &&
    (entry.offset === undefined
      ? host === undefined
      : host !== undefined && entry.filename === host.source.name && entry.offset + entry.length === host.offset)
  )
}
