/** A window of another source: a partition, a member of a container, an image behind a header. */
import type { ByteSource, Extent } from '../core/index.ts'
import { checkRange } from './range.ts'

/** How a window is cut. */
export interface SliceOptions {
  /** The name in messages; default that of the source. */
  name?: string | undefined
  /** Closing the window closes the source too. Default: the source is only borrowed. */
  owns?: boolean | undefined
}

/** A read-only window of `length` bytes from `offset`; all offsets count from its start.
 *  @throws MoraineError `io` when the window passes the end of the source. */
export function sliceSource(
  source: ByteSource,
  offset: number,
  length: number,
  options: SliceOptions = {},
): ByteSource {
  checkRange(source.name, source.size, offset, length)
  return new SliceSource(source, offset, length, options)
}

class SliceSource implements ByteSource {
  readonly name: string
  readonly size: number
  readonly identity: string | undefined
  readonly descriptor: number | undefined
  readonly #source: ByteSource
  readonly #start: number
  readonly #owns: boolean

  constructor(source: ByteSource, start: number, size: number, options: SliceOptions) {
    this.name = options.name ?? source.name
    this.size = size
    this.identity = source.identity === undefined ? undefined : `${source.identity}[${start}+${size}]`
    // A descriptor promises the same bytes at the same offsets.
    this.descriptor = start === 0 ? source.descriptor : undefined
    this.#source = source
    this.#start = start
    this.#owns = options.owns ?? false
  }

  async read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    checkRange(this.name, this.size, offset, into.length, signal)
    await this.#source.read(this.#start + offset, into, signal)
  }

  async *extents(offset: number, length: number, signal?: AbortSignal): AsyncIterable<Extent[]> {
    checkRange(this.name, this.size, offset, length, signal)
    for await (const batch of this.#source.extents(this.#start + offset, length, signal)) {
      for (const extent of batch) extent.offset -= this.#start
      yield batch
    }
  }

  async close(): Promise<void> {
    if (this.#owns) await this.#source.close()
  }
}
