/** Changing a disk's size, as far as it is the same for formats that keep blocks in one file: which sizes there are, what the gained bytes read as, how bytes get out of
 *  the way of a table that grows. */
import { roundUp } from '../bytes/integers.ts'
import { isZero } from '../bytes/zero.ts'
import {
  type ByteStore,
  type Disk,
  type ErrorKind,
  MoraineError,
  type Preallocation,
  readPadded,
  type WritableDisk,
} from '../core/index.ts'

const pieceBytes = 1024 * 1024

/** A new size, as `WritableDisk.resize` takes it. Bytes. */
export interface SizeChange {
  size: number
  preallocation: Preallocation
  shrink: boolean
}

/** What a format takes. Bytes. */
export interface SizeRules {
  /** Sizes are multiples of it. */
  unit: number
  /** The largest disk of such an image. */
  most: number
  /** The largest that the caller allows. */
  limit: number
  /** Why such an image does not become smaller; absent where it does. */
  growsOnly?: string
}

/** Checks a change of size before anything is touched.
 *  @throws MoraineError `denied` for a smaller size without `shrink`, `unsupported` for a preallocation and where the format does not shrink, `invalid` for a size that the
 *  format does not have, `limit` for one that the caller does not allow. */
export function checkSizeChange(disk: Disk, { size, preallocation, shrink }: SizeChange, rules: SizeRules): void {
  const refuse = (kind: ErrorKind, field: string, value: number | string, reason: string, rule?: string): never => {
    throw new MoraineError(kind, reason, { path: disk.name, format: disk.format, field, value, rule })
  }
  if (size < disk.size && !shrink) {
    refuse('denied', 'size', size, 'Use the --shrink option to perform a shrink operation.')
  }
  if (preallocation !== 'off') {
    refuse('unsupported', 'preallocation', preallocation, `Unsupported preallocation mode '${preallocation}'`, 'off')
  }
  if (!Number.isSafeInteger(size) || size <= 0 || size % rules.unit !== 0) {
    refuse('invalid', 'size', size, 'Invalid image size specified', `a multiple of ${rules.unit}`)
  }
  if (size > rules.most) {
    refuse('invalid', 'size', size, 'the image cannot become so large', `at most ${rules.most} bytes`)
  }
  if (size > rules.limit) {
    refuse('limit', 'size', size, 'the virtual size is too large', `at most ${rules.limit} bytes`)
  }
  if (size < disk.size && rules.growsOnly !== undefined) {
    refuse('unsupported', 'size', size, `the image cannot become smaller: ${rules.growsOnly}`, `${disk.size} at least`)
  }
}

/** Makes the gained bytes of a disk read as zeros, before its file tells the new size. In memory it has it already.
 *  `from`: the old size. `unit`: bytes of a block; the last old one may hold anything behind the old end. `shown`: how far the disk below shows through, in guest bytes. */
export async function clearGained(
  disk: WritableDisk,
  { from, unit, shown }: { from: number; unit: number; shown: number },
): Promise<void> {
  const covered = Math.max(from, Math.min(disk.size, shown))
  if (covered > from) await disk.zero(from, covered - from, 'unmap')
  const end = Math.min(disk.size, roundUp(from, unit))
  const buffer = new Uint8Array(Math.max(0, Math.min(pieceBytes, end - covered)))
  for (let at = covered; at < end; at += pieceBytes) {
    const bytes = buffer.subarray(0, Math.min(pieceBytes, end - at))
    await disk.read(at, bytes)
    if (!isZero(bytes)) await disk.zero(at, bytes.length, 'unmap')
  }
}

/** Copies bytes within a file, to where nothing points yet. What lies past its end is zeros. */
export async function copyAside(store: ByteStore, from: number, to: number, length: number): Promise<void> {
  await new BlockCopier(store).copy(from, to, length)
}

/** Bytes of copies that are always allowed. */
const leastCopies = 64 * 1024 * 1024

/** Most bytes that a repair copies, of blocks that lie over others, in a file of so many bytes: tables may say that all of them lie at one place. */
export function mostCopies(fileSize: number): number {
  return Math.max(fileSize, leastCopies)
}

/** Copies many blocks within a file, through one buffer: a repair may copy as many bytes as the file has, faster than memory is collected. */
export class BlockCopier {
  readonly #store: ByteStore
  #buffer = new Uint8Array(0)

  constructor(store: ByteStore) {
    this.#store = store
  }

  /** As `copyAside`; one at a time. Nothing is flushed. */
  async copy(from: number, to: number, length: number): Promise<void> {
    if (this.#buffer.length < Math.min(length, pieceBytes)) this.#buffer = new Uint8Array(Math.min(length, pieceBytes))
    for (let at = 0; at < length; at += pieceBytes) {
      const bytes = this.#buffer.subarray(0, Math.min(pieceBytes, length - at))
      await readPadded(this.#store, from + at, bytes)
      await this.#store.write(to + at, bytes)
    }
  }
}

/** Writes a stretch of a table of 32-bit entries, `entryAt` giving each. */
export async function writeEntries(
  store: ByteStore,
  place: { offset: number; from: number; to: number; order: 'little' | 'big' },
  entryAt: (index: number) => number,
): Promise<void> {
  const buffer = new Uint8Array(Math.max(0, Math.min(pieceBytes, (place.to - place.from) * 4)))
  const view = new DataView(buffer.buffer)
  for (let first = place.from; first < place.to; first += pieceBytes / 4) {
    const count = Math.min(pieceBytes / 4, place.to - first)
    for (let i = 0; i < count; i++) view.setUint32(i * 4, entryAt(first + i), place.order === 'little')
    await store.write(place.offset + first * 4, buffer.subarray(0, count * 4))
  }
}
