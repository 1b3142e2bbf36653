/** A member of a zip that is stored as it is: a window of the zip. Its checksum is not looked at, as it is read here and there. */
import type { ByteSource, Extent } from '../../core/index.ts'
import type { WrappingFacts } from './wrapped-source.ts'

/** The member's bytes. Closing it closes the zip. */
export class StoredMember implements ByteSource {
  readonly wrapping: WrappingFacts
  readonly #zip: ByteSource
  readonly #part: ByteSource

  constructor(zip: ByteSource, part: ByteSource, wrapping: WrappingFacts) {
    this.#zip = zip
    this.#part = part
    this.wrapping = wrapping
  }

  /** The zip. */
  get around(): ByteSource {
    return this.#zip
  }

  get name(): string {
    return this.#zip.name
  }

  get identity(): string | undefined {
    return this.#zip.identity
  }

  get size(): number {
    return this.#part.size
  }

  read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    return this.#part.read(offset, into, signal)
  }

  extents(offset: number, length: number, signal?: AbortSignal): AsyncIterable<Extent[]> {
    return this.#part.extents(offset, length, signal)
  }

  async allocatedSize(): Promise<number> {
    return this.#zip.allocatedSize?.() ?? this.#zip.size
  }

  close(): Promise<void> {
    return this.#zip.close()
  }
}
