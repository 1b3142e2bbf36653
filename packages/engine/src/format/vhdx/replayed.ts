/** A file as it is once its log is replayed, without writing to it. */
import { type ByteSource, type Extent, readPadded } from '../../core/index.ts'
import type { LogEntry } from './log.ts'

/** Changes of the entries, the oldest first, laid over the file. */
export class ReplayedSource implements ByteSource {
  readonly name: string
  readonly size: number
  readonly identity: string | undefined
  readonly #file: ByteSource
  readonly #changes: LogEntry['changes']

  /** `size`: bytes of the file once the log is replayed. */
  constructor(file: ByteSource, entries: readonly LogEntry[], size: number) {
    this.name = file.name
    this.identity = file.identity
    this.size = size
    this.#file = file
    this.#changes = entries.flatMap(({ changes }) => changes)
  }

  async read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    if (offset + into.length > this.size) return this.#file.read(offset, into, signal)
    await readPadded(this.#file, offset, into, signal)
    for (const change of this.#changes) {
      const from = Math.max(offset, change.offset)
      const to = Math.min(offset + into.length, change.offset + change.length)
      if (from >= to) continue
      if (change.bytes === undefined) into.fill(0, from - offset, to - offset)
      else into.set(change.bytes.subarray(from - change.offset, to - change.offset), from - offset)
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
