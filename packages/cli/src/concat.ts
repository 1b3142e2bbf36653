/** Several disks one after the other, read as one: the sources of `convert`. */
import { type ByteSource, type Disk, type DiskInfo, type Extent, MoraineError, throwIfCancelled } from '@moraine/engine'

/** One disk with its place in the whole. */
interface Part {
  disk: Disk
  /** Byte offset in the whole. */
  start: number
}

/** Reads `disks` as one, without owning them: closing it closes nothing. */
export class ConcatDisk implements Disk {
  readonly format = 'raw'
  readonly name: string
  readonly size: number
  readonly file: ByteSource
  private readonly parts: readonly Part[]

  constructor(disks: readonly Disk[]) {
    const [first] = disks
    if (first === undefined) throw new MoraineError('invalid', 'at least one disk is needed')
    let start = 0
    const parts: Part[] = []
    for (const disk of disks) {
      parts.push({ disk, start })
      start += disk.size
    }
    this.parts = parts
    this.size = start
    this.name = first.name
    this.file = first.file
  }

  async read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    for (const { disk, from, to, at } of this.cut(offset, into.length)) {
      await disk.read(from, into.subarray(at - offset, at - offset + to - from), signal)
    }
  }

  async *extents(offset: number, length: number, signal?: AbortSignal): AsyncIterable<Extent[]> {
    for (const { disk, from, to, at } of this.cut(offset, length)) {
      throwIfCancelled(signal, this.name)
      for await (const batch of disk.extents(from, to - from, signal)) {
        yield batch.map((extent) => ({ ...extent, offset: extent.offset - from + at }))
      }
    }
  }

  info(): DiskInfo {
    return { format: 'raw', virtualSize: this.size, snapshots: [] }
  }

  async close(): Promise<void> {}

  /** The pieces of a range: `from` to `to` in a disk, `at` in the whole. */
  private *cut(offset: number, length: number): Iterable<{ disk: Disk; from: number; to: number; at: number }> {
    const end = offset + length
    if (end > this.size) {
      throw new MoraineError('io', 'Input/output error', {
        path: this.name,
        offset,
        rule: `at most ${this.size} bytes`,
      })
    }
    for (const { disk, start } of this.parts) {
      const at = Math.max(offset, start)
      const to = Math.min(end, start + disk.size)
      if (at < to) yield { disk, from: at - start, to: to - start, at }
    }
  }
}
