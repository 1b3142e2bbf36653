/** The disk that a stream of packed units is made of: it takes whole units, each behind the one before it, and what they become comes out front to back. */
import { ChunkQueue } from '../bytes/chunk-queue.ts'
import { roundUp } from '../bytes/integers.ts'
import { Mutex } from '../bytes/mutex.ts'
import {
  type ByteSource,
  type DiskInfo,
  type Extent,
  MoraineError,
  type PackedCodec,
  type WritableDisk,
} from '../core/index.ts'
import type { PackedStream } from './format.ts'

/** Bytes of one chunk, and of what waits to be taken. */
const chunkBytes = 1024 * 1024
const waitingBytes = 4 * 1024 * 1024

/** What a target is told of the disk. */
export interface PackedShape {
  format: string
  /** Bytes of the disk. */
  size: number
  /** Bytes of a unit. */
  unit: number
  codec: PackedCodec
}

/** A target that lays a format out. Without a queue it only finds out where everything comes to lie. */
export abstract class PackedTarget implements WritableDisk {
  readonly name = 'stream'
  readonly kind = 'file'
  readonly compression = 'always'
  readonly format: string
  readonly size: number
  readonly packedUnit: number
  readonly packedCodec: PackedCodec
  readonly #queue: ChunkQueue | undefined
  readonly #order = new Mutex()
  #next = 0
  #length = 0
  #chunk = new Uint8Array(0)
  #filled = 0
  #begun = false
  #closed = false

  constructor({ format, size, unit, codec }: PackedShape, queue: ChunkQueue | undefined) {
    this.format = format
    this.size = size
    this.packedUnit = unit
    this.packedCodec = codec
    this.#queue = queue
  }

  /** Writes what stands before the first unit. */
  protected abstract begin(): Promise<void>

  /** Writes one unit: packed, or whole where it did not shrink. */
  protected abstract place(offset: number, bytes: Uint8Array, packed: boolean): Promise<void>

  /** Writes what stands behind the last unit. */
  protected abstract end(): Promise<void>

  /** Bytes of the stream so far. */
  protected get length(): number {
    return this.#length
  }

  get file(): ByteSource {
    return this
  }

  info(): DiskInfo {
    return { format: this.format, virtualSize: this.size, clusterSize: this.packedUnit, snapshots: [] }
  }

  /** Returns when there is room for more; calls are done in their order. */
  writePacked(offset: number, packed: Uint8Array): Promise<void> {
    return this.#take(offset, packed, true)
  }

  /** What did not shrink: one unit, or what the disk's end leaves of it. */
  async write(offset: number, from: Uint8Array): Promise<void> {
    if (from.length > this.packedUnit) throw this.fault('invalid', 'one unit at a time', offset)
    let whole = from
    if (from.length < this.packedUnit) {
      whole = new Uint8Array(this.packedUnit)
      whole.set(from)
    }
    await this.#take(offset, whole, false)
  }

  /** What is left out reads as zeros. */
  async zero(): Promise<void> {}

  async discard(): Promise<void> {}

  async flush(): Promise<void> {}

  read(offset: number): Promise<void> {
    return Promise.reject(this.fault('unsupported', 'a stream cannot be read back', offset))
  }

  async *extents(offset: number): AsyncIterable<Extent[]> {
    yield await Promise.reject(this.fault('unsupported', 'a stream cannot be read back', offset))
  }

  resize(size: number): Promise<void> {
    return Promise.reject(this.fault('unsupported', 'a stream keeps its size', size))
  }

  /** Ends the stream. */
  async close(): Promise<void> {
    if (this.#closed) return
    this.#closed = true
    await this.#order.run(async () => {
      await this.#start()
      await this.end()
      if (this.#filled > 0) await this.#queue?.put(this.#chunk.subarray(0, this.#filled))
      this.#queue?.end()
    })
  }

  #take(offset: number, bytes: Uint8Array, packed: boolean): Promise<void> {
    return this.#order.run(async () => {
      await this.#start()
      if (offset % this.packedUnit !== 0 || offset < this.#next || offset >= this.size) {
        throw this.fault('invalid', 'the units of a stream follow each other', offset)
      }
      this.#next = offset + this.packedUnit
      await this.place(offset, bytes, packed)
    })
  }

  async #start(): Promise<void> {
    if (this.#begun) return
    this.#begun = true
    await this.begin()
  }

  /** Writes bytes, which are copied. */
  protected async append(bytes: Uint8Array): Promise<void> {
    this.#length += bytes.length
    if (this.#queue === undefined) return
    for (let at = 0; at < bytes.length; ) {
      const room = await this.#room()
      const part = bytes.subarray(at, at + room.length)
      room.set(part)
      this.#filled += part.length
      at += part.length
    }
  }

  /** Writes zeros up to a multiple of `unit`. */
  protected async pad(unit: number): Promise<void> {
    const missing = roundUp(this.#length, unit) - this.#length
    if (missing > 0) await this.append(new Uint8Array(missing))
  }

  /** What is left of the current chunk. */
  async #room(): Promise<Uint8Array> {
    if (this.#filled === this.#chunk.length) {
      const full = this.#chunk
      this.#chunk = new Uint8Array(chunkBytes)
      this.#filled = 0
      if (full.length > 0) await this.#queue?.put(full)
    }
    return this.#chunk.subarray(this.#filled)
  }

  protected fault(kind: 'invalid' | 'unsupported' | 'limit' | 'io', reason: string, value: number): MoraineError {
    return new MoraineError(kind, reason, { path: this.name, format: this.format, field: 'offset', value })
  }
}

/** A stream out of the target that `make` gives. */
export function packedStream(make: (queue: ChunkQueue) => PackedTarget): PackedStream {
  const queue = new ChunkQueue(waitingBytes)
  return { target: make(queue), chunks: queue, fail: (error) => queue.fail(error) }
}
