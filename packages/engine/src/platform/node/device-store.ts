/** Block devices: a fixed size, stale content, zeros and discards by the kernel. Facts: Linux block/ioctl.c, block/fops.c; QEMU 7.2
 *  `block/file-posix.c` for which call is trusted for what. */
import fs from 'node:fs'
import { MoraineError, type Preallocation, throwIfCancelled, type ZeroMode } from '../../core/index.ts'
import { hostError } from './host-error.ts'
import { HostFile, type HostFileFacts } from './host-file.ts'
import { fallocKeepSize, fallocPunchHole, type Native } from './native.ts'

/** Bytes: a call of the kernel cannot be cancelled, and a slow device may really write the zeros. */
const mostAtOnce = 1024 * 1024 * 1024

/** A block device. */
export class DeviceStore extends HostFile {
  readonly kind = 'device'
  protected readonly grows = false
  /** Bytes of a logical block: what BLKZEROOUT and BLKDISCARD count in. */
  readonly #block: number
  readonly #refused = new Set<'punch' | 'zero' | 'discard'>()

  constructor(facts: HostFileFacts, block: number) {
    super(facts)
    this.#block = block
  }

  protected async zeroRange(offset: number, length: number, mode: ZeroMode, signal?: AbortSignal): Promise<void> {
    const end = offset + length
    const start = Math.min(end, Math.ceil(offset / this.#block) * this.#block)
    const stop = Math.max(start, Math.floor(end / this.#block) * this.#block)
    if (start > offset) await this.writeZeros(offset, start - offset, signal)
    for (let at = start; at < stop; at += mostAtOnce) {
      throwIfCancelled(signal, this.name)
      const part = Math.min(mostAtOnce, stop - at)
      if (!(await this.#zeroBlocks(at, part, mode))) await this.writeZeros(at, part, signal)
    }
    if (end > stop) await this.writeZeros(stop, end - stop, signal)
  }

  async #zeroBlocks(offset: number, length: number, mode: ZeroMode): Promise<boolean> {
    const native = this.native()
    if (native === undefined) return false
    // On a device this is "zeros, and unmap if zeros come of it": refused where the device cannot promise that. BLKDISCARD promises nothing.
    const punch = () => native.fallocate(this.descriptor, fallocPunchHole | fallocKeepSize, offset, length)
    if (mode === 'unmap' && (await this.#try('punch', offset, punch))) return true
    return this.#try('zero', offset, () => native.zeroBlocks(this.descriptor, offset, length))
  }

  async #try(
    way: 'punch' | 'zero' | 'discard',
    offset: number,
    call: () => Promise<string | undefined>,
  ): Promise<boolean> {
    if (this.#refused.has(way)) return false
    const code = await call()
    if (code === undefined) return true
    if (code === 'EIO' || code === 'ENOSPC') throw hostError(code, { path: this.name, offset })
    this.#refused.add(way)
    return false
  }

  protected async discardRange(offset: number, length: number): Promise<void> {
    const native = this.native()
    if (native === undefined) return
    const start = Math.ceil(offset / this.#block) * this.#block
    const stop = Math.floor((offset + length) / this.#block) * this.#block
    if (stop > start)
      await this.#try('discard', start, () => native.discardBlocks(this.descriptor, start, stop - start))
  }

  protected async resizeTo(size: number, preallocation: Preallocation): Promise<void> {
    if (preallocation === 'falloc' || preallocation === 'full') {
      throw new MoraineError('unsupported', `Preallocation mode '${preallocation}' unsupported for non-regular files`, {
        path: this.name,
        field: 'preallocation',
        value: preallocation,
      })
    }
    if (size > this.size) {
      throw new MoraineError('unsupported', 'Cannot grow device files', {
        path: this.name,
        field: 'size',
        value: size,
        rule: `at most ${this.size} bytes`,
      })
    }
  }

  /** copy_file_range(2) wants regular files. */
  protected copyRange(): Promise<number> {
    return Promise.resolve(0)
  }
}

/** Bytes of an open block device and of its logical block, from the kernel or, without system calls, from sysfs.
 *  @throws MoraineError `unsupported` when neither tells. */
export function deviceGeometry(
  descriptor: number,
  name: string,
  rdev: number,
  native: Native | undefined,
): { size: number; block: number } {
  if (native !== undefined) {
    const size = native.deviceSize(descriptor)
    const block = native.blockSize(descriptor)
    if (typeof size === 'number') return { size, block: typeof block === 'number' ? block : 512 }
  }
  // Numbers of a device in st_rdev: glibc's gnu_dev_major and gnu_dev_minor.
  const high = Math.floor(rdev / 2 ** 32)
  const low = rdev % 2 ** 32
  const major = ((low >>> 8) & 0xfff) | (high & ~0xfff)
  const minor = (low & 0xff) | ((low >>> 12) & ~0xff)
  try {
    const sectors = Number(fs.readFileSync(`/sys/dev/block/${major}:${minor}/size`, 'latin1'))
    if (Number.isSafeInteger(sectors * 512)) return { size: sectors * 512, block: 4096 }
  } catch {
    // No sysfs: told below.
  }
  throw new MoraineError('unsupported', 'the size of this device cannot be found out here', {
    path: name,
    hint: 'Install the optional package koffi, or mount /sys.',
  })
}
