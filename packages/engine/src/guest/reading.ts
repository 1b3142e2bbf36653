/** How guest structures are read: a reading yields the regions that it wants and gets their bytes. So the same code serves a file that is read here and there, a disk of any format,
 *  and a stream that passes by once (an inspection). */
import type { ByteSource } from '../core/index.ts'

/** A region that is asked for, in bytes from the beginning of what is read. */
export interface RegionWish {
  offset: number
  length: number
}

/** A reading: what it yields it gets, cut where the bytes end, empty where they cannot be had. */
export type Reading<Result> = Generator<RegionWish, Result, Uint8Array>

/** What every reading may see without a cost, in bytes. */
export const readingHead = 128 * 1024

/** Asks for a region. */
export function* regionAt(offset: number, length: number): Reading<Uint8Array> {
  return yield { offset, length }
}

/** A reading of a part, as if it stood alone: it sees nothing outside of `[start, start + length)`. */
export function* readingWithin<Result>(reading: Reading<Result>, start: number, length: number): Reading<Result> {
  let step = reading.next()
  while (step.done !== true) {
    const { offset, length: wanted } = step.value
    const most = Math.min(wanted, length - offset)
    step = reading.next(isRange(offset, most) ? yield { offset: start + offset, length: most } : new Uint8Array(0))
  }
  return step.value
}

/** Runs a reading over a source. The head is read once. `within`: what lies from there on is not read (a source that must be unpacked to that place, say).
 *  @throws what reading throws. */
export async function readFrom<Result>(
  source: ByteSource,
  reading: Reading<Result>,
  options: { signal?: AbortSignal | undefined; within?: number | undefined } = {},
): Promise<Result> {
  const end = Math.min(source.size, options.within ?? source.size)
  const read = async (offset: number, length: number): Promise<Uint8Array> => {
    const bytes = new Uint8Array(Math.max(0, Math.min(length, end - offset)))
    if (bytes.length > 0) await source.read(offset, bytes, options.signal)
    return bytes
  }
  let head: Uint8Array | undefined
  let step = reading.next()
  while (step.done !== true) {
    const { offset, length } = step.value
    let bytes: Uint8Array = new Uint8Array(0)
    if (isRange(offset, length)) {
      if (offset + length <= readingHead) {
        head ??= await read(0, readingHead)
        bytes = head.subarray(offset, offset + length)
      } else bytes = await read(offset, length)
    }
    step = reading.next(bytes)
  }
  return step.value
}

/** Runs a reading over bytes that are all there is to see. */
export function readBytes<Result>(reading: Reading<Result>, bytes: Uint8Array): Result {
  let step = reading.next()
  while (step.done !== true) {
    const { offset, length } = step.value
    step = reading.next(bytes.subarray(offset, offset + length))
  }
  return step.value
}

function isRange(offset: number, length: number): boolean {
  return Number.isSafeInteger(offset) && Number.isSafeInteger(offset + length) && offset >= 0 && length > 0
}
