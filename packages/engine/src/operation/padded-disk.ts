/** A disk with zeros behind its end: what a target that wants whole MiB is made from. */
import { type Disk, type Extent, MoraineError } from '../core/index.ts'
import type { DiskPatch } from '../guest/index.ts'

/** `disk` as one of `size` bytes, which are no fewer than it has; it is only borrowed, and itself where nothing is missing. `patches` show instead of what it has (see `moveGptEnd`); none lies
 *  over another.
 *  @throws MoraineError `invalid` for a smaller size. */
export function padDisk(disk: Disk, size: number, patches: readonly DiskPatch[] = []): Disk {
  if (size === disk.size && patches.length === 0) return disk
  if (size >= disk.size) return new PaddedDisk(disk, size, patches)
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
  /** By offset. */
  readonly #patches: readonly DiskPatch[]

  constructor(disk: Disk, size: number, patches: readonly DiskPatch[]) {
    this.#disk = disk
    this.size = size
    this.#patches = [...patches].sort((a, b) => a.offset - b.offset)
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
    for (const { offset: at, bytes } of this.#patches) {
      const from = Math.max(at, offset)
      const to = Math.min(at + bytes.length, offset + into.length)
      if (from < to) into.set(bytes.subarray(from - at, to - at), from - offset)
    }
  }

  async *extents(offset: number, length: number, signal?: AbortSignal): AsyncIterable<Extent[]> {
    this.#check(offset, length)
    const there = Math.max(0, Math.min(length, this.#disk.size - offset))
    if (there > 0) {
      for await (const batch of this.#disk.extents(offset, there, signal)) {
        yield this.#patches.length === 0 ? batch : batch.flatMap((extent) => this.#patched(extent))
      }
    }
    if (there < length) {
      const at = offset + there
      yield this.#patched({
        offset: at,
        length: length - there,
        allocated: false,
        data: false,
        zero: true,
        depth: 0,
      })
    }
  }

  /** An extent with the patches in it. */
  #patched(extent: Extent): Extent[] {
    const parts: Extent[] = []
    const end = extent.offset + extent.length
    let at = extent.offset
    for (const { offset, bytes } of this.#patches) {
      const from = Math.max(at, offset)
      const to = Math.min(end, offset + bytes.length)
      if (from >= to) continue
      if (from > at) parts.push(partOf(extent, at, from))
      parts.push({ offset: from, length: to - from, allocated: true, data: true, zero: false, depth: 0 })
      at = to
    }
    if (at === extent.offset) return [extent]
    if (at < end) parts.push(partOf(extent, at, end))
    return parts
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

/** A part of an extent. What is packed is read through the disk. */
function partOf({ host, packed: _packed, ...rest }: Extent, from: number, to: number): Extent {
  const part: Extent = { ...rest, offset: from, length: to - from }
  if (host !== undefined) part.host = { source: host.source, offset: host.offset + from - rest.offset }
  return part
}
