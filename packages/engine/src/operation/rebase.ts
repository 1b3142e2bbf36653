/** Giving an image another backing file while its guest sees what it saw before. Order of reads and writes: `img_rebase` of QEMU 7.2. */
import {
  type Disk,
  type Extent,
  MoraineError,
  type RunOptions,
  throwIfCancelled,
  type WritableDisk,
} from '../core/index.ts'

/** Bytes that are compared at once. */
const pieceBytes = 2 * 1024 * 1024
/** What differs is written by whole sectors. */
const sector = 512

/** Copies into `disk` whatever it shows of its present backing file and would not show of `base`, so that the one can take the place of the other. What lies
 *  in `disk` itself is not touched. `base` undefined: there will be no backing file. Where `base` is one of those under `disk`, what both have from it is not read.
 *  @throws MoraineError from reading either and from writing; `cancelled`. */
export async function copyFromBacking(
  disk: WritableDisk,
  base: Disk | undefined,
  options: RunOptions = {},
): Promise<void> {
  const total = disk.size
  options.onProgress?.({ done: 0, total })
  const shared = base === undefined ? undefined : depthOf(disk, base)
  const buffers: Buffers = [new Uint8Array(Math.min(pieceBytes, total)), new Uint8Array(Math.min(pieceBytes, total))]
  for await (const batch of disk.extents(0, total, options.signal)) {
    for (const extent of batch) {
      if (!isOwn(extent) && !(shared !== undefined && extent.allocated && extent.depth >= shared)) {
        await copyExtent(disk, base, extent, buffers, options)
      }
      options.onProgress?.({ done: extent.offset + extent.length, total })
    }
  }
  options.onProgress?.({ done: total, total })
}

type Buffers = [Uint8Array, Uint8Array]

/** Whether the image decides by itself. */
function isOwn({ allocated, depth }: Extent): boolean {
  return allocated && depth === 0
}

/** How far below `disk` a disk of the same file stands. */
function depthOf(disk: Disk, base: Disk): number | undefined {
  let depth = 1
  for (let below = disk.parent; below !== undefined; below = below.parent, depth++) {
    if (below.file.identity !== undefined && below.file.identity === base.file.identity) return depth
  }
  return undefined
}

async function copyExtent(
  disk: WritableDisk,
  base: Disk | undefined,
  { offset, length, zero }: Extent,
  [old, fresh]: Buffers,
  { signal }: RunOptions,
): Promise<void> {
  for (let at = offset; at < offset + length; at += pieceBytes) {
    throwIfCancelled(signal, disk.name)
    const size = Math.min(pieceBytes, offset + length - at)
    const before = old.subarray(0, size)
    const after = fresh.subarray(0, size)
    if (zero && (await readsAsZero(base, at, size, signal))) continue
    if (zero) before.fill(0)
    else await disk.read(at, before, signal)
    await readFrom(base, at, after, signal)
    for (const { from, to } of differences(before, after))
      await disk.write(at + from, before.subarray(from, to), signal)
  }
}

async function readsAsZero(
  base: Disk | undefined,
  offset: number,
  length: number,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const there = base === undefined ? 0 : Math.min(length, base.size - offset)
  if (base === undefined || there <= 0) return true
  for await (const batch of base.extents(offset, there, signal)) if (batch.some(({ zero }) => !zero)) return false
  return true
}

/** What a disk shows, with zeros behind its end. */
async function readFrom(
  base: Disk | undefined,
  offset: number,
  into: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<void> {
  const there = base === undefined ? 0 : Math.max(0, Math.min(into.length, base.size - offset))
  into.fill(0, there)
  if (there > 0) await base?.read(offset, into.subarray(0, there), signal)
}

function* differences(a: Uint8Array, b: Uint8Array): Generator<{ from: number; to: number }> {
  let from: number | undefined
  for (let at = 0; at < a.length; at += sector) {
    const end = Math.min(at + sector, a.length)
    const same = sameBytes(a, b, at, end)
    if (!same) from ??= at
    else if (from !== undefined) {
      yield { from, to: at }
      from = undefined
    }
  }
  if (from !== undefined) yield { from, to: a.length }
}

function sameBytes(a: Uint8Array, b: Uint8Array, from: number, to: number): boolean {
  for (let at = from; at < to; at++) if (a[at] !== b[at]) return false
  return true
}

/** Records another backing file in an image; what the guest sees is the caller's concern. The opened disk goes on reading through the one that it was opened with.
 *  @throws MoraineError `unsupported` where the format has none, and what the format says to the name. */
export async function changeBacking(
  disk: WritableDisk,
  backing: { name: string; format?: string | undefined } | undefined,
): Promise<void> {
  if (disk.changeBacking === undefined) {
    throw new MoraineError('unsupported', 'Operation not supported', {
      path: disk.name,
      format: disk.format,
      field: 'backing file',
      code: 'ENOTSUP',
    })
  }
  await disk.changeBacking(backing)
}
