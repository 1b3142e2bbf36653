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
  const shared = base === undefined ? undefined : depthOf(disk, base)
  const buffers: Buffers = [new Uint8Array(Math.min(pieceBytes, total)), new Uint8Array(Math.min(pieceBytes, total))]
  // Progress counts what is compared, piece by piece, as if every piece were a whole one: QEMU's way.
  let done = 0
  const tell = () => options.onProgress?.({ done: Math.min(done, total), total })
  tell()
  for await (const { offset, length, zero } of inherited(disk, shared, options.signal)) {
    for (let at = offset; at < offset + length; ) {
      throwIfCancelled(options.signal, disk.name)
      const ends = [disk.parent?.size ?? 0, base?.size ?? 0].filter((end) => end > at)
      const size = Math.min(pieceBytes, offset + length - at, ...ends.map((end) => end - at))
      await copyPiece(disk, base, { offset: at, length: size, zero }, buffers, options)
      at += size
      done += pieceBytes
      tell()
    }
  }
}

interface Piece {
  offset: number
  length: number
  /** It reads as zeros. */
  zero: boolean
}

/** What the image has from below, save what `base` has too. Neighbours that are alike are one, whatever disk they come from. */
async function* inherited(
  disk: Disk,
  shared: number | undefined,
  signal: AbortSignal | undefined,
): AsyncIterable<Piece> {
  let open: Piece | undefined
  for await (const batch of disk.extents(0, disk.size, signal)) {
    for (const extent of batch) {
      const { offset, length, zero } = extent
      const skipped = isOwn(extent) || (shared !== undefined && extent.allocated && extent.depth >= shared)
      if (!skipped && open !== undefined && open.offset + open.length === offset && open.zero === zero) {
        open.length += length
        continue
      }
      if (open !== undefined) yield open
      open = skipped ? undefined : { offset, length, zero }
    }
  }
  if (open !== undefined) yield open
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

async function copyPiece(
  disk: WritableDisk,
  base: Disk | undefined,
  { offset, length, zero }: Piece,
  [old, fresh]: Buffers,
  { signal }: RunOptions,
): Promise<void> {
  if (zero && (await readsAsZero(base, offset, length, signal))) return
  const before = old.subarray(0, length)
  const after = fresh.subarray(0, length)
  if (zero) before.fill(0)
  else await disk.read(offset, before, signal)
  await readFrom(base, offset, after, signal)
  // Behind the end of what lay below there are zeros, which need no room of their own.
  const behind = offset >= (disk.parent?.size ?? 0)
  for (const { from, to } of differences(before, after)) {
    if (behind) await storeZeros(disk, offset + from, to - from, signal)
    else await disk.write(offset + from, before.subarray(from, to), signal)
  }
}

/** Zeros that the image itself holds: where its format leaves out what reads as zeros anyhow, they are written, as something else will show there later. */
async function storeZeros(
  disk: WritableDisk,
  offset: number,
  length: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  await disk.zero(offset, length, 'allocate', signal)
  const bare: Extent[] = []
  for await (const batch of disk.extents(offset, length, signal)) bare.push(...batch.filter((part) => !isOwn(part)))
  for (const part of bare) await disk.write(part.offset, new Uint8Array(part.length), signal)
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
