/** Counts what is asked of a source: for budgets in tests and for statistics. */
import {
  type ByteSource,
  type ByteStore,
  type Extent,
  isStore,
  type Preallocation,
  type ZeroMode,
} from '../core/index.ts'

/** Calls and bytes so far. */
export interface RequestCounts {
  reads: number
  bytesRead: number
  writes: number
  bytesWritten: number
  zeros: number
  bytesZeroed: number
  discards: number
  resizes: number
  flushes: number
  copies: number
  bytesCopied: number
  /** Batches of extents handed out. */
  extentBatches: number
}

/** A source, or a store when `source` is one, that counts; `counts` grows as calls are made, whether or not they succeed. In-kernel copies *from* it
 *  go by its descriptor and are not seen: it shows none. */
export function countingSource<Source extends ByteSource>(
  source: Source,
): { source: Source extends ByteStore ? ByteStore : ByteSource; counts: RequestCounts } {
  const counts: RequestCounts = {
    reads: 0,
    bytesRead: 0,
    writes: 0,
    bytesWritten: 0,
    zeros: 0,
    bytesZeroed: 0,
    discards: 0,
    resizes: 0,
    flushes: 0,
    copies: 0,
    bytesCopied: 0,
    extentBatches: 0,
  }
  const counting = isStore(source) ? new CountingStore(source, counts) : new CountingSource(source, counts)
  return { source: counting as unknown as Source extends ByteStore ? ByteStore : ByteSource, counts }
}

class CountingSource implements ByteSource {
  protected readonly counts: RequestCounts
  readonly #source: ByteSource

  constructor(source: ByteSource, counts: RequestCounts) {
    this.#source = source
    this.counts = counts
  }

  get name(): string {
    return this.#source.name
  }

  get size(): number {
    return this.#source.size
  }

  get identity(): string | undefined {
    return this.#source.identity
  }

  read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    this.counts.reads++
    this.counts.bytesRead += into.length
    return this.#source.read(offset, into, signal)
  }

  async *extents(offset: number, length: number, signal?: AbortSignal): AsyncIterable<Extent[]> {
    for await (const batch of this.#source.extents(offset, length, signal)) {
      this.counts.extentBatches++
      yield batch
    }
  }

  async allocatedSize(): Promise<number> {
    return (await this.#source.allocatedSize?.()) ?? this.size
  }

  close(): Promise<void> {
    return this.#source.close()
  }
}

class CountingStore extends CountingSource implements ByteStore {
  readonly #store: ByteStore

  constructor(store: ByteStore, counts: RequestCounts) {
    super(store, counts)
    this.#store = store
  }

  get kind(): ByteStore['kind'] {
    return this.#store.kind
  }

  write(offset: number, from: Uint8Array, signal?: AbortSignal): Promise<void> {
    this.counts.writes++
    this.counts.bytesWritten += from.length
    return this.#store.write(offset, from, signal)
  }

  zero(offset: number, length: number, mode: ZeroMode, signal?: AbortSignal): Promise<void> {
    this.counts.zeros++
    this.counts.bytesZeroed += length
    return this.#store.zero(offset, length, mode, signal)
  }

  discard(offset: number, length: number): Promise<void> {
    this.counts.discards++
    return this.#store.discard(offset, length)
  }

  resize(size: number, preallocation?: Preallocation): Promise<void> {
    this.counts.resizes++
    return this.#store.resize(size, preallocation)
  }

  flush(): Promise<void> {
    this.counts.flushes++
    return this.#store.flush()
  }

  async copyFrom(source: ByteSource, sourceOffset: number, offset: number, length: number): Promise<number> {
    const copied = (await this.#store.copyFrom?.(source, sourceOffset, offset, length)) ?? 0
    this.counts.copies++
    this.counts.bytesCopied += copied
    return copied
  }
}
