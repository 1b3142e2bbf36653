/** Giving an image another backing file while its guest sees what it saw before. Order of reads and writes: `img_rebase` of QEMU 7.2. */
import { defaultCodecs } from '#platform'
import { isZero } from '../bytes/zero.ts'
import {
  type Disk,
  type Extent,
  MoraineError,
  type RunOptions,
  throwIfCancelled,
  type WritableDisk,
} from '../core/index.ts'
import { recordedBacking } from './create.ts'

/** Bytes that are compared at once. */
const pieceBytes = 2 * 1024 * 1024
/** What differs is written by whole sectors. */
const sector = 512

/** Copies into `disk` whatever it shows of its present backing file and would not show of `base`, so that the one can take the place of the other. What lies
 *  in `disk` itself is not touched. `base` undefined: there will be no backing file. Where `base` is one of those under `disk`, what both have from it is not read.
 *  With `compress` whole units that differ are packed, where the format of the image can; what is less than a unit is written as it is.
 *  @throws MoraineError from reading either and from writing; `cancelled`. */
export async function copyFromBacking(
  disk: WritableDisk,
  base: Disk | undefined,
  options: RunOptions & { compress?: boolean } = {},
): Promise<void> {
  const packer = options.compress === true ? packerOf(disk) : undefined
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
      // A unit is to lie in one piece.
      const most = packer === undefined ? pieceBytes : pieceBytes - (at % packer.unit)
      const size = Math.min(most, offset + length - at, ...ends.map((end) => end - at))
      await copyPiece(disk, base, { offset: at, length: size, zero }, buffers, { ...options, packer })
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
  { signal, packer }: RunOptions & { packer?: Packer | undefined },
): Promise<void> {
  if (zero && (await readsAsZero(base, offset, length, signal))) return
  const before = old.subarray(0, length)
  const after = fresh.subarray(0, length)
  if (zero) before.fill(0)
  else await disk.read(offset, before, signal)
  await readFrom(base, offset, after, signal)
  // Behind the end of what lay below there are zeros, which need no room of their own.
  const behind = offset >= (disk.parent?.size ?? 0)
  const changes = [...differences(before, after)]
  const rest = packer === undefined || behind ? changes : await packer.store({ offset, bytes: before, changes })
  for (const { from, to } of rest) {
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

/** Bytes of a piece, from one up to another. */
interface Range {
  from: number
  to: number
}

/** Stores changes of a piece as packed units; gives back those that are none. */
interface Packer {
  unit: number
  store(piece: { offset: number; bytes: Uint8Array; changes: readonly Range[] }): Promise<Range[]>
}

function packerOf(disk: WritableDisk): Packer | undefined {
  const { packedUnit: unit, packedCodec: codec = 'deflate' } = disk
  const pack = defaultCodecs[codec]?.pack
  if (unit === undefined || pack === undefined) return undefined
  return {
    unit,
    async store({ offset, bytes, changes }) {
      const rest: Range[] = []
      let packedTo = 0
      let refused: number | undefined
      for (const part of cutAtUnits(changes, offset, unit)) {
        if (part.to <= packedTo) continue
        const start = Math.floor((offset + part.from) / unit) * unit
        const stop = Math.min(start + unit, disk.size)
        // What lies in part here and in part elsewhere is no whole unit of this piece.
        const isWhole = start >= offset && stop <= offset + bytes.length && start !== refused
        if (isWhole && (await storeUnit(start, bytes.subarray(start - offset, stop - offset)))) packedTo = stop - offset
        else {
          refused = start
          rest.push(part)
        }
      }
      return rest
    },
  }

  /** False where it does not shrink, or is nothing but zeros: then it is written as anything else is. */
  async function storeUnit(start: number, content: Uint8Array): Promise<boolean> {
    if (isZero(content) || unit === undefined) return false
    const whole = content.length === unit ? content : new Uint8Array(unit)
    if (whole !== content) whole.set(content)
    const packed = pack?.(whole, unit)
    if (packed === undefined) return false
    await disk.writePacked?.(start, packed)
    return true
  }
}

function* cutAtUnits(ranges: readonly Range[], offset: number, unit: number): Generator<Range> {
  for (const { from, to } of ranges) {
    for (let at = from; at < to; ) {
      const stop = Math.min(to, at + unit - ((offset + at) % unit))
      yield { from: at, to: stop }
      at = stop
    }
  }
}

function* differences(a: Uint8Array, b: Uint8Array): Generator<Range> {
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
  await disk.changeBacking(backing && recordedBacking(backing))
}
