/** A disk with zeros behind its end: what a target that wants whole MiB is made from. */
import { type Disk, type Extent, MoraineError } from '../core/index.ts'

/** `disk` as one of `size` bytes, which are no fewer than it has; it is only borrowed, and itself where nothing is missing.
 *  @throws MoraineError `invalid` for a smaller size. */
export function padDisk(disk: Disk, size: number): Disk {
  if (size === disk.size) return disk
  if (size > disk.size) return new PaddedDisk(disk, size)
  throw new MoraineError('invalid', 'a disk cannot be padded to a smaller size', {
    path: disk.name,
    field: 'size',
    value: size,
    rule: `at least ${disk.size}`,
  })
}

class PaddedDisk implements Disk {
  readonly size: number
  readonly #disk: Disk

  constructor(disk: Disk, size: number) {
    this.#disk = disk
    this.size = size
  }

  get name(): string {
    return this.#disk.name
  }

  get format(): string {
    return this.#disk.format
  }

  get file(): Disk['file'] {
    return this.#disk.file
  }

  get parent(): Disk['parent'] {
    return this.#disk.parent
  }

  get bitmaps(): Disk['bitmaps'] {
    return this.#disk.bitmaps
  }

  async read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    this.#check(offset, into.length)
    const there = Math.max(0, Math.min(into.length, this.#disk.size - offset))
    into.fill(0, there)
    if (there > 0) await this.#disk.read(offset, into.subarray(0, there), signal)
  }

  async *extents(offset: number, length: number, signal?: AbortSignal): AsyncIterable<Extent[]> {
    this.#check(offset, length)
    const there = Math.max(0, Math.min(length, this.#disk.size - offset))
    if (there > 0) yield* this.#disk.extents(offset, there, signal)
    if (there < length) {
      const at = offset + there
      yield [{ offset: at, length: length - there, allocated: false, data: false, zero: true, depth: 0 }]
    }
  }

  info(): ReturnType<Disk['info']> {
    return { ...this.#disk.info(), virtualSize: this.size }
  }

  async close(): Promise<void> {}

  #check(offset: number, length: number): void {
    if (offset >= 0 && offset + length <= this.size) return
    throw new MoraineError('io', 'the range passes the end of the disk', { path: this.name, offset, code: 'EIO' })
  }
}
