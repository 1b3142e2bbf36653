/** Committing an overlay: what it holds goes into a disk that it stands on. Behaviour: `qemu-img commit` of QEMU 7.2. */
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
import { Throttle } from './throttle.ts'
import { Window } from './window.ts'

const pieceBytes = 1024 * 1024
const piecesInFlight = 4

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
  const total = await lengthAbove(top, depth, options.signal)
  let done = 0
  options.onProgress?.({ done, total })
  try {
    for await (const batch of top.extents(0, top.size, options.signal)) {
      for (const extent of batch) {
        if (!isAbove(extent, depth)) continue
        for (let at = extent.offset; at < extent.offset + extent.length; at += pieceBytes) {
          throwIfCancelled(options.signal, top.name)
          const length = Math.min(pieceBytes, extent.offset + extent.length - at)
          await throttle?.pass(length, options.signal)
          if (!adopted) {
            // The first change gives the base another identity. Before there are more, the overlay knows it, so that a power cut leaves a chain that opens.
            await copyPiece(top, base, { offset: at, length, zero: extent.zero }, buffers, options.signal)
            await base.flush()
            await child?.adoptParent?.(base)
            adopted = true
            done += length
            options.onProgress?.({ done, total })
            continue
          }
          await window.push(async () => {
            await copyPiece(top, base, { offset: at, length, zero: extent.zero }, buffers, options.signal)
            done += length
            options.onProgress?.({ done, total })
            return undefined
          })
        }
      }
    }
    await window.firstOfAll()
  } finally {
    await window.settle()
  }
  await base.flush()
  await child?.adoptParent?.(base)
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

async function lengthAbove(top: Disk, depth: number, signal: AbortSignal | undefined): Promise<number> {
  let length = 0
  for await (const batch of top.extents(0, top.size, signal)) {
    for (const extent of batch) if (isAbove(extent, depth)) length += extent.length
  }
  return length
}

async function copyPiece(
  top: Disk,
  base: WritableDisk,
  { offset, length, zero }: { offset: number; length: number; zero: boolean },
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
