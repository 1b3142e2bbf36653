/** Regular files: sparse, growing, with in-kernel copies. */
import {
  type ByteSource,
  type Extent,
  MoraineError,
  type Preallocation,
  throwIfCancelled,
  type ZeroMode,
} from '../../core/index.ts'
import { hostError } from './host-error.ts'
import { HostFile } from './host-file.ts'
import { fallocKeepSize, fallocPunchHole, fallocZeroRange, type Native } from './native.ts'

const extentsInBatch = 1024
// Long enough to be worth a system call, short enough to be cancelled soon.
const copyChunk = 64 * 1024 * 1024

/** Codes by which a file system says that it cannot do this at all, so that another way is tried. */
const cannot = new Set(['EOPNOTSUPP', 'ENOTSUP', 'ENOSYS', 'EINVAL', 'ENODEV', 'ENOTTY', 'EPERM', 'ETXTBSY', 'EXDEV'])

/** A regular file. Holes, reservations and in-kernel copies are used where the system calls are at hand; without them a file is
 *  one extent of data and zeros are written. */
export class FileStore extends HostFile {
  readonly kind = 'file'
  protected readonly grows = true
  readonly #refused = new Set<'punch' | 'zeroRange' | 'allocate' | 'seek'>()
  readonly #noCopy = new WeakSet<ByteSource>()

  override async *extents(offset: number, length: number, signal?: AbortSignal): AsyncIterable<Extent[]> {
    const native = this.#refused.has('seek') ? undefined : this.native()
    if (native === undefined || length <= 0 || offset < 0 || offset + length > this.size) {
      yield* super.extents(offset, length, signal)
      return
    }
    const end = offset + length
    let at = offset
    while (at < end) {
      throwIfCancelled(signal, this.name)
      const batch = await this.busy(async () => this.#findExtents(native, at, end))
      const last = batch[batch.length - 1]
      if (last === undefined) return
      at = last.offset + last.length
      yield batch
      // The searches are synchronous: let others run between batches.
      if (at < end) await new Promise((resolve) => setImmediate(resolve))
    }
  }

  #findExtents(native: Native, start: number, end: number): Extent[] {
    const batch: Extent[] = []
    const add = (from: number, to: number, data: boolean) => {
      if (to > from) batch.push({ offset: from, length: to - from, allocated: true, data, zero: !data, depth: 0 })
    }
    let at = start
    while (at < end && batch.length < extentsInBatch) {
      let data = native.seek(this.descriptor, at, 'data')
      // ENXIO: no data from here to the end of the file.
      if (data === 'ENXIO') data = end
      if (typeof data === 'string') {
        if (!cannot.has(data)) throw hostError(data, { path: this.name, offset: at })
        this.#refused.add('seek')
        add(at, end, true)
        break
      }
      add(at, Math.min(data, end), false)
      if (data >= end) break
      const hole = native.seek(this.descriptor, data, 'hole')
      // A file that became shorter meanwhile: call the rest data, so that reading it tells.
      const stop = typeof hole === 'string' || hole <= data ? end : Math.min(hole, end)
      add(data, stop, true)
      at = stop
    }
    return batch
  }

  protected async zeroRange(offset: number, length: number, mode: ZeroMode, signal?: AbortSignal): Promise<void> {
    const end = offset + length
    if (mode === 'unmap') {
      const inside = Math.min(end, this.size) - offset
      if (inside > 0 && !(await this.#punch(offset, inside))) await this.writeZeros(offset, inside, signal)
      await this.extendTo(end)
    } else if (!(await this.#zeroAllocated(offset, length))) {
      await this.writeZeros(offset, length, signal)
    }
  }

  /** Makes a range zeros that keep their space. False when the file system cannot. */
  async #zeroAllocated(offset: number, length: number): Promise<boolean> {
    if (await this.#allocate('zeroRange', fallocZeroRange, offset, length)) return true
    // tmpfs knows holes and reservations, but not the two in one.
    if (this.#refused.has('allocate') || !(await this.#punch(offset, length))) return false
    return this.#allocate('allocate', 0, offset, length)
  }

  #punch(offset: number, length: number): Promise<boolean> {
    return this.#allocate('punch', fallocPunchHole | fallocKeepSize, offset, length)
  }

  async #allocate(
    way: 'punch' | 'zeroRange' | 'allocate',
    mode: number,
    offset: number,
    length: number,
  ): Promise<boolean> {
    if (this.#refused.has(way)) return false
    const native = this.native()
    if (native === undefined) return false
    const grows = (mode & fallocKeepSize) === 0
    if (grows) this.growthBegins(offset + length)
    let code: string | undefined = 'EIO'
    try {
      code = await native.fallocate(this.descriptor, mode, offset, length)
    } finally {
      if (grows) this.growthEnds(code === undefined ? offset + length : 0)
    }
    if (code === undefined) return true
    if (!cannot.has(code)) throw hostError(code, { path: this.name, offset })
    this.#refused.add(way)
    return false
  }

  protected async discardRange(offset: number, length: number): Promise<void> {
    await this.#punch(offset, length)
  }

  protected async resizeTo(size: number, preallocation: Preallocation): Promise<void> {
    const before = this.size
    if (size < before) {
      if (preallocation !== 'off' && preallocation !== 'metadata') {
        throw new MoraineError('unsupported', "Preallocation can't be used for shrinking files", {
          path: this.name,
          field: 'preallocation',
          value: preallocation,
        })
      }
      await this.truncateTo(size)
      return
    }
    if (size === before) return
    if (preallocation === 'off' || preallocation === 'metadata') {
      await this.extendTo(size)
      return
    }
    try {
      if (preallocation === 'falloc') {
        if (!(await this.#allocate('allocate', 0, before, size - before))) await this.writeZeros(before, size - before)
      } else {
        await this.writeZeros(before, size - before)
        await this.flush()
      }
    } catch (error) {
      await this.truncateTo(before).catch(() => {})
      throw error
    }
  }

  protected async copyRange(
    source: ByteSource,
    from: number,
    sourceOffset: number,
    offset: number,
    length: number,
  ): Promise<number> {
    if (this.#noCopy.has(source)) return 0
    const native = this.native()
    if (native === undefined) return 0
    const asked = Math.min(length, copyChunk)
    this.growthBegins(offset + asked)
    let copied: number | string = 'EIO'
    try {
      copied = await native.copyFileRange(from, sourceOffset, this.descriptor, offset, asked)
    } finally {
      this.growthEnds(typeof copied === 'number' && copied > 0 ? offset + copied : 0)
    }
    if (typeof copied === 'string') {
      if (!cannot.has(copied)) throw hostError(copied, { path: this.name, offset })
      this.#noCopy.add(source)
      return 0
    }
    return copied
  }
}
