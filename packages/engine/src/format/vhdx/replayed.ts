/** A file as it is once its log is replayed, without writing to it. */
import { type ByteSource, type Extent, readPadded } from '../../core/index.ts'
import type { LogChanges } from './log.ts'

/** Changes of a log, the oldest first, laid over the file. */
export class ReplayedSource implements ByteSource {
  readonly name: string
  readonly size: number
  readonly identity: string | undefined
  readonly #file: ByteSource
  readonly #changes: LogChanges

  /** `size`: bytes of the file once the log is replayed. */
  constructor(file: ByteSource, changes: LogChanges, size: number) {
    this.name = file.name
    this.identity = file.identity
    this.size = size
    this.#file = file
    this.#changes = changes
  }

  async read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    if (offset + into.length > this.size) return this.#file.read(offset, into, signal)
    await readPadded(this.#file, offset, into, signal)
    const { count, offsets, lengths } = this.#changes
    for (let i = 0; i < count; i++) {
      const start = offsets[i] as number
      const from = Math.max(offset, start)
      const to = Math.min(offset + into.length, start + (lengths[i] as number))
      if (from >= to) continue
      const bytes = this.#changes.bytes(i)
      if (bytes === undefined) into.fill(0, from - offset, to - offset)
      else into.set(bytes.subarray(from - start, to - start), from - offset)
    }
  }

  /** All of it counts as data: where the log writes is not worth telling. */
  async *extents(offset: number, length: number): AsyncIterable<Extent[]> {
    if (length > 0) yield [{ offset, length, allocated: true, data: true, zero: false, depth: 0 }]
  }

  allocatedSize(): Promise<number> {
    return this.#file.allocatedSize?.() ?? Promise.resolve(this.#file.size)
  }

  close(): Promise<void> {
    return this.#file.close()
  }
}
