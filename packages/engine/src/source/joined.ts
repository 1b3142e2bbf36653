/** Several sources as one, one after the other: the chunks of a file that was cut in pieces. */
import type { ByteSource, Extent } from '../core/index.ts'
import { checkRange } from './range.ts'

/** All bytes of the parts, in order. Closing it closes them. */
export function joinedSource(name: string, parts: readonly ByteSource[]): ByteSource {
  return new JoinedSource(name, parts)
}

class JoinedSource implements ByteSource {
  readonly name: string
  readonly size: number
  readonly #parts: { source: ByteSource; start: number }[] = []

  constructor(name: string, parts: readonly ByteSource[]) {
    this.name = name
    let at = 0
    for (const source of parts) {
      this.#parts.push({ source, start: at })
      at += source.size
    }
    this.size = at
  }

  async read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    checkRange(this.name, this.size, offset, into.length, signal)
    for (const { source, from, to } of this.#within(offset, into.length)) {
      await source.source.read(from - source.start, into.subarray(from - offset, to - offset), signal)
    }
  }

  async *extents(offset: number, length: number, signal?: AbortSignal): AsyncIterable<Extent[]> {
    checkRange(this.name, this.size, offset, length, signal)
    for (const { source, from, to } of this.#within(offset, length)) {
      for await (const batch of source.source.extents(from - source.start, to - from, signal)) {
        for (const extent of batch) extent.offset += source.start
        yield batch
      }
    }
  }

  async close(): Promise<void> {
    for (const { source } of this.#parts) await source.close()
  }

  *#within(offset: number, length: number) {
    const end = offset + length
    for (const source of this.#parts) {
      const from = Math.max(offset, source.start)
      const to = Math.min(end, source.start + source.source.size)
      if (from < to) yield { source, from, to }
    }
  }
}
