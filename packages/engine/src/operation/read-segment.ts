/** Reading the bytes of a piece, plain ones where they lie, damaged ones sector by sector. */
import { type Disk, isMoraineError, readPadded } from '../core/index.ts'
import type { Segment } from './segments.ts'

const sector = 512

/** Reads a piece of `disk` into a buffer of its length. */
export function readSegment(disk: Disk, segment: Segment, into: Uint8Array, signal?: AbortSignal): Promise<void> {
  const { extent } = segment
  const { host } = extent
  // The end of a file that is no whole number of sectors belongs to its last piece: the disk pads it.
  const inExtent = segment.offset + segment.length <= extent.offset + extent.length
  if (host === undefined || extent.encoded !== undefined || extent.zero || !inExtent) {
    return disk.read(segment.offset, into, signal)
  }
  host.source.debugEvent?.('read_aio')
  return readPadded(host.source, host.offset + segment.offset - extent.offset, into, signal)
}

/** As `readSegment`; what cannot be read is taken sector by sector, and a sector that cannot be read becomes zeros, with a warning. */
export async function salvageSegment(
  disk: Disk,
  segment: Segment,
  into: Uint8Array,
  warn: (message: string) => void,
  signal?: AbortSignal,
): Promise<void> {
  try {
    return await disk.read(segment.offset, into, signal)
  } catch (error) {
    if (isMoraineError(error, 'cancelled')) throw error
  }
  for (let at = 0; at < into.length; at += sector) {
    const bytes = into.subarray(at, Math.min(at + sector, into.length))
    try {
      await disk.read(segment.offset + at, bytes, signal)
    } catch (error) {
      if (isMoraineError(error, 'cancelled')) throw error
      const reason = isMoraineError(error) ? error.reason : String(error)
      warn(`error while reading offset ${segment.offset + at}: ${reason}`)
      bytes.fill(0)
    }
  }
}
