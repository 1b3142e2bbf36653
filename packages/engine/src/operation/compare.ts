/** Comparing what two disks hold. Semantics: `qemu-img compare` of QEMU 7.2, measured. */
import { isZero } from '../bytes/zero.ts'
import { type Disk, type Extent, isMoraineError, type RunOptions, retold, throwIfCancelled } from '../core/index.ts'
import { CompareProgress } from './compare-progress.ts'
import { firstDifference, firstNonZero } from './difference.ts'
import { type ExtentPair, pairExtents } from './extent-walk.ts'
import { cutOfSource } from './segments.ts'
import { Window } from './window.ts'

const sector = 512
const chunkBytes = 1024 * 1024
const chunksInFlight = 8

/** How to compare. */
export interface CompareOptions extends RunOptions {
  /** Sizes and block status must be the same too. */
  strict?: boolean | undefined
  /** Called when the sizes differ and what both have is the same: what follows is the search for anything but zeros in the rest. */
  onSizeMismatch?: (() => void) | undefined
}

/** The verdict. `sizeMismatch`: the sizes differ and what they have in common does not; the rest of the longer one must then be zeros.
 *  `offset` is the byte of the first sector (counted as QEMU counts) that differs; 0 when `reason` is `size`. */
export type Comparison =
  | { identical: true; sizeMismatch: boolean }
  | { identical: false; offset: number; reason: 'content' | 'size' | 'status'; sizeMismatch: boolean }

/** Compares two disks. Progress comes in guest order, in QEMU's steps, and stops before what differs. Ranges that read as zeros on both sides are not read; nor are ranges that lie at the same bytes of the same file.
 *  @throws MoraineError from reading either disk, with its path; `field` is `block status` when its tables could not be read; `cancelled`. */
export async function compareDisks(a: Disk, b: Disk, options: CompareOptions = {}): Promise<Comparison> {
  const strict = options.strict ?? false
  const total = Math.max(a.size, b.size)
  const shared = Math.min(a.size, b.size)
  options.onProgress?.({ done: 0, total })
  if (strict && a.size !== b.size) return { identical: false, offset: 0, reason: 'size', sizeMismatch: true }
  const progress = new CompareProgress([a, b], total, options.onProgress)
  const found = await compareShared(a, b, shared, strict, options.signal, progress)
  if (found !== undefined) return { identical: false, ...found, sizeMismatch: false }
  if (a.size === b.size) return { identical: true, sizeMismatch: false }
  options.onSizeMismatch?.()
  const first = a.size > b.size
  const tail = await findNonZeroTail(first ? a : b, first, shared, total, options.signal, progress)
  if (tail !== undefined) return { identical: false, offset: tail, reason: 'content', sizeMismatch: true }
  return { identical: true, sizeMismatch: true }
}

async function compareShared(
  a: Disk,
  b: Disk,
  length: number,
  strict: boolean,
  signal: AbortSignal | undefined,
  progress: CompareProgress,
): Promise<{ offset: number; reason: 'content' | 'status' } | undefined> {
  const window = new Window<number | undefined>(chunksInFlight)
  const buffers = new BufferPairs()
  const spans = strict ? ([spanOf(a), spanOf(b)] as const) : undefined
  let mismatch: number | undefined
  try {
    for await (const pair of statusErrors(pairExtents(a, b, length, signal))) {
      const status = spans === undefined ? undefined : statusMismatch(pair, length, spans)
      // What lies before a place whose status differs is judged first.
      const end = status ?? pair.offset + pair.length
      if (isSame(pair)) progress.piece([pair.a, pair.b], pair.offset, pair.offset, end)()
      else {
        for (let at = pair.offset; at < end; at += chunkBytes) {
          throwIfCancelled(signal, a.name)
          const size = Math.min(chunkBytes, end - at)
          mismatch = await window.push(async () => {
            const passed = progress.piece([pair.a, pair.b], pair.offset, at, at + size)
            const found = await compareChunk(a, b, pair, at, size, buffers, signal)
            if (found === undefined) passed()
            return found
          })
          if (mismatch !== undefined) return { offset: mismatch, reason: 'content' }
        }
      }
      if (status === undefined) continue
      mismatch = await window.firstOfAll()
      return mismatch === undefined ? { offset: status, reason: 'status' } : { offset: mismatch, reason: 'content' }
    }
    mismatch = await window.firstOfAll()
    return mismatch === undefined ? undefined : { offset: mismatch, reason: 'content' }
  } finally {
    await window.settle()
  }
}

async function compareChunk(
  a: Disk,
  b: Disk,
  pair: ExtentPair,
  offset: number,
  size: number,
  buffers: BufferPairs,
  signal: AbortSignal | undefined,
): Promise<number | undefined> {
  const [left, right] = buffers.take()
  try {
    const x = left.subarray(0, size)
    const y = right.subarray(0, size)
    await Promise.all([
      pair.a.zero ? undefined : readExtent(a, pair.a, offset, x, signal),
      pair.b.zero ? undefined : readExtent(b, pair.b, offset, y, signal),
    ])
    const at = pair.a.zero ? firstNonZero(y) : pair.b.zero ? firstNonZero(x) : firstDifference(x, y)
    return at === undefined ? undefined : offset + at - (at % sector)
  } finally {
    buffers.give([left, right])
  }
}

/** `isFirst`: the disk is the first of the two. */
async function findNonZeroTail(
  disk: Disk,
  isFirst: boolean,
  start: number,
  end: number,
  signal: AbortSignal | undefined,
  progress: CompareProgress,
): Promise<number | undefined> {
  const buffer = new Uint8Array(Math.min(chunkBytes, end - start))
  const said = (extent: Extent): [Extent | undefined, Extent | undefined] => {
    return isFirst ? [extent, undefined] : [undefined, extent]
  }
  for await (const batch of statusErrors(disk.extents(start, end - start, signal))) {
    for (const extent of batch) {
      const last = extent.offset + extent.length
      if (extent.zero) progress.piece(said(extent), extent.offset, extent.offset, last)()
      else {
        for (let at = extent.offset; at < last; at += chunkBytes) {
          const bytes = buffer.subarray(0, Math.min(chunkBytes, last - at))
          await readExtent(disk, extent, at, bytes, signal)
          if (!isZero(bytes)) {
            const found = firstNonZero(bytes) ?? 0
            return at + found - (found % sector)
          }
          progress.piece(said(extent), extent.offset, at, at + bytes.length)()
        }
      }
    }
  }
  return undefined
}

/** Plain bytes are read where they lie: the disk need not look them up again. */
function readExtent(disk: Disk, extent: Extent, offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
  const { host } = extent
  if (host === undefined || extent.encoded !== undefined) return disk.read(offset, into, signal)
  const at = host.offset + offset - extent.offset
  if (at + into.length > host.source.size) return disk.read(offset, into, signal)
  host.source.debugEvent?.('read_aio')
  return host.source.read(at, into, signal)
}

function isSame({ a, b, offset }: ExtentPair): boolean {
  if (a.zero && b.zero) return true
  if (a.host === undefined || b.host === undefined || a.encoded !== undefined || b.encoded !== undefined) return false
  const { identity } = a.host.source
  const sameFile = a.host.source === b.host.source || (identity !== undefined && identity === b.host.source.identity)
  return sameFile && a.host.offset + offset - a.offset === b.host.offset + offset - b.offset
}

/** Where QEMU's block status differs first within a pair: what it is, whether it has an offset, and whether it reaches the disk's end. The
 *  last depends on how far one look at the tables goes: `spans`, the bytes that one L2 table maps. */
function statusMismatch(
  { a, b, offset, length }: ExtentPair,
  total: number,
  spans: readonly [number, number],
): number | undefined {
  const same = a.data === b.data && a.zero === b.zero && a.allocated === b.allocated && hasOffset(a) === hasOffset(b)
  if (!same) return offset
  for (let at = offset; at < offset + length; ) {
    const endOfA = Math.min(a.offset + a.length, nextMultiple(at, spans[0]))
    const endOfB = Math.min(b.offset + b.length, nextMultiple(at, spans[1]))
    if (endOfA >= total !== endOfB >= total) return at
    at = Math.min(endOfA, endOfB)
  }
  return undefined
}

/** The first multiple of `span` after `at`; a span may be endless. */
function nextMultiple(at: number, span: number): number {
  return Number.isFinite(span) ? (Math.floor(at / span) + 1) * span : span
}

function spanOf(disk: Disk): number {
  return cutOfSource(disk).sourceSpan ?? Number.POSITIVE_INFINITY
}

function hasOffset(extent: Extent): boolean {
  return extent.host !== undefined && extent.encoded === undefined
}

/** Marks errors of the tables, which `qemu-img compare` tells from read errors by its exit code. */
async function* statusErrors<T>(walk: AsyncIterable<T>): AsyncIterable<T> {
  try {
    yield* walk
  } catch (error) {
    if (!isMoraineError(error) || error.kind === 'cancelled') throw error
    throw retold(error, error.reason, { field: 'block status' })
  }
}

/** Buffers for the chunks in flight, used again and again. */
class BufferPairs {
  readonly #free: [Uint8Array, Uint8Array][] = []

  take(): [Uint8Array, Uint8Array] {
    return this.#free.pop() ?? [new Uint8Array(chunkBytes), new Uint8Array(chunkBytes)]
  }

  give(pair: [Uint8Array, Uint8Array]): void {
    this.#free.push(pair)
  }
}
