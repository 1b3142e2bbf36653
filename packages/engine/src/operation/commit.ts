/** Committing an overlay: what it holds goes into a disk that it stands on. Behaviour: `qemu-img commit` of QEMU 7.2. */

import { roundUp } from '../bytes/integers.ts'
import {
  type Disk,
  type Extent,
  isWritable,
  MoraineError,
  type RunOptions,
  throwIfCancelled,
  type WritableDisk,
} from '../core/index.ts'
import { BufferPool } from './buffers.ts'
import { cutOfSource } from './segments.ts'
import { Throttle } from './throttle.ts'
import { Window } from './window.ts'

const pieceBytes = 1024 * 1024
const piecesInFlight = 4
/** Bounds of the unit by which QEMU's mirror job notes what is to be copied; within them it is the base's cluster. */
const leastUnit = 4096
const mostUnit = 65_536

/** How to commit. */
export interface CommitOptions extends RunOptions {
  /** Bytes a second. Default: as fast as it goes. */
  rate?: number | undefined
}

/** Writes into `base` whatever `top`, or a disk between the two, has over it; `base` grows where `top` is larger. `base` is one of the disks under `top`, opened
 *  for writing. Afterwards `base` shows what `top` shows.
 *  @throws MoraineError `invalid` when `base` is not under `top`; from reading and writing; `cancelled`. */
export async function commitDisk(top: Disk, base: WritableDisk, options: CommitOptions = {}): Promise<void> {
  const depth = depthOf(top, base)
  // What stands between the two is only read: it is of no use any more once the base was changed.
  const child = depth === 1 && isWritable(top) ? top : undefined
  let adopted = child === undefined
  if (base.size < top.size) await base.resize(top.size)
  const throttle = options.rate === undefined ? undefined : new Throttle(options.rate)
  const window = new Window<never>(piecesInFlight)
  const buffers = new BufferPool(piecesInFlight, Math.min(pieceBytes, top.size))
  const unit = unitOf(base)
  // QEMU asks one table of the overlay at a time: with clusters of 512 bytes it never sees a whole unit of zeros.
  const { sourceSpan: span = top.size } = cutOfSource(top)
  const cut = { unit, span, clusterSize: base.info().clusterSize ?? 1 }
  let total = 0
  for await (const { start, end } of runsAbove(top, depth, unit, options.signal)) total += end - start
  let done = 0
  options.onProgress?.({ done, total })
  const copy = async (piece: Piece): Promise<undefined> => {
    await copyPiece(top, base, piece, buffers, options.signal)
    done += piece.length
    options.onProgress?.({ done, total })
  }
  try {
    for await (const run of runsAbove(top, depth, unit, options.signal)) {
      for await (const piece of piecesOf(top, run, cut, options.signal)) {
        throwIfCancelled(options.signal, top.name)
        await throttle?.pass(piece.length, options.signal)
        if (adopted) {
          await window.push(() => copy(piece))
          continue
        }
        // The first change gives the base another identity. Before there are more, the overlay knows it, so that a power cut leaves a chain that opens.
        await copy(piece)
        await base.flush()
        await child?.adoptParent?.(base)
        adopted = true
      }
    }
    await window.firstOfAll()
  } finally {
    await window.settle()
  }
  await base.flush()
  await child?.adoptParent?.(base)
}

/** By how many bytes it is noted what is to be copied: QEMU copies such units whole. */
function unitOf(base: Disk): number {
  return Math.min(Math.max(base.info().clusterSize ?? mostUnit, leastUnit), mostUnit)
}

function depthOf(top: Disk, base: Disk): number {
  let depth = 0
  for (let disk: Disk | undefined = top; disk !== undefined; disk = disk.parent, depth++) {
    if (depth > 0 && (disk === base || disk.file.identity === base.file.identity)) return depth
  }
  throw new MoraineError('invalid', `'${base.name}' is not in the backing chain of '${top.name}'`, {
    path: top.name,
    field: 'base',
    value: base.name,
  })
}

function isAbove({ allocated, depth }: Extent, base: number): boolean {
  return allocated && depth < base
}

/** A range of the disk, in bytes. */
interface Run {
  start: number
  end: number
}

/** The units in which a disk over the base has anything, neighbours together. */
async function* runsAbove(top: Disk, depth: number, unit: number, signal: AbortSignal | undefined): AsyncIterable<Run> {
  let run: Run | undefined
  for await (const batch of top.extents(0, top.size, signal)) {
    for (const extent of batch) {
      if (!isAbove(extent, depth)) continue
      const start = extent.offset - (extent.offset % unit)
      const end = Math.min(roundUp(extent.offset + extent.length, unit), top.size)
      if (run !== undefined && start <= run.end) run.end = Math.max(run.end, end)
      else {
        if (run !== undefined) yield run
        run = { start, end }
      }
    }
  }
  if (run !== undefined) yield run
}

interface Piece {
  offset: number
  length: number
  zero: boolean
}

/** Cuts a run as QEMU does: whole units of zeros are zeroed, where they are whole clusters of the base; all else is copied. */
async function* piecesOf(
  top: Disk,
  { start, end }: Run,
  { unit, span, clusterSize }: { unit: number; span: number; clusterSize: number },
  signal: AbortSignal | undefined,
): AsyncIterable<Piece> {
  let offset = start
  for await (const batch of top.extents(start, end - start, signal)) {
    for (const extent of batch) {
      const last = extent.offset + extent.length
      while (offset < last) {
        const stop = Math.min(last, (Math.floor(offset / span) + 1) * span)
        const there = extent.data ? Math.min(stop - offset, pieceBytes) : stop - offset
        const whole = there - (there % unit)
        const length = Math.min(Math.max(whole, unit), end - offset)
        const zero = !extent.data && whole > 0 && offset % clusterSize === 0 && whole % clusterSize === 0
        if (zero) yield { offset, length, zero }
        else
          for (let at = 0; at < length; at += pieceBytes) {
            yield { offset: offset + at, length: Math.min(pieceBytes, length - at), zero }
          }
        offset += length
      }
    }
  }
}

async function copyPiece(
  top: Disk,
  base: WritableDisk,
  { offset, length, zero }: Piece,
  buffers: BufferPool,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (zero) return await base.zero(offset, length, 'unmap', signal)
  const buffer = await buffers.take()
  try {
    const bytes = buffer.subarray(0, length)
    await top.read(offset, bytes, signal)
    await base.write(offset, bytes, signal)
  } finally {
    buffers.give(buffer)
  }
}
