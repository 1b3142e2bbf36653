/** Bytes in memory, kept in pages so that a sparse image of any size costs what it holds. For tests, browsers and small things. */
import {
  appendExtent,
  type ByteStore,
  type Extent,
  MoraineError,
  type Preallocation,
  type ZeroMode,
} from '../core/index.ts'
import { checkRange } from './range.ts'

let made = 0
const extentsInBatch = 1024

/** A store in memory. It grows like a file; pages that were never written, or were zeroed with `unmap`, are holes. */
export class MemoryStore implements ByteStore {
  readonly kind = 'memory'
  readonly name: string
  readonly identity: string
  readonly #pageBytes: number
  readonly #limit: number
  readonly #pages = new Map<number, Uint8Array>()
  #size: number

  /** `size` and `limit` in bytes: a write past `limit` fails as on a full disk (`ENOSPC`). `pageBytes`: the size of the smallest hole, default 4096. */
  constructor(options: { name?: string; size?: number; limit?: number; pageBytes?: number } = {}) {
    this.name = options.name ?? 'memory'
    this.identity = `memory:${made++}`
    this.#size = options.size ?? 0
    this.#limit = options.limit ?? Number.MAX_SAFE_INTEGER
    this.#pageBytes = options.pageBytes ?? 4096
  }

  /** A store holding a copy of `bytes`; whole pages of zeros become holes. */
  static from(bytes: Uint8Array, name = 'memory'): MemoryStore {
    const store = new MemoryStore({ name, size: bytes.length })
    const unit = store.#pageBytes
    for (let at = 0; at < bytes.length; at += unit) {
      const piece = bytes.subarray(at, at + unit)
      if (piece.some((byte) => byte !== 0)) store.#put(at, piece)
    }
    return store
  }

  /** Bytes. */
  get size(): number {
    return this.#size
  }

  /** A copy of this store as it is now. */
  clone(): MemoryStore {
    const copy = new MemoryStore({ name: this.name, size: this.#size, limit: this.#limit, pageBytes: this.#pageBytes })
    for (const [page, bytes] of this.#pages) copy.#pages.set(page, bytes.slice())
    return copy
  }

  /** All of it in one array: for small stores. */
  bytes(): Uint8Array {
    const all = new Uint8Array(this.#size)
    this.#get(0, all)
    return all
  }

  async read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    checkRange(this.name, this.#size, offset, into.length, signal)
    this.#get(offset, into)
  }

  async write(offset: number, from: Uint8Array, signal?: AbortSignal): Promise<void> {
    this.#checkWrite(offset, from.length, signal)
    this.#put(offset, from)
    this.#size = Math.max(this.#size, from.length === 0 ? 0 : offset + from.length)
  }

  async *extents(offset: number, length: number, signal?: AbortSignal): AsyncIterable<Extent[]> {
    checkRange(this.name, this.#size, offset, length, signal)
    const end = offset + length
    // Only what is there is walked: a hole costs nothing, however wide.
    const pages = [...this.#pages.keys()]
      .filter((page) => (page + 1) * this.#pageBytes > offset && page * this.#pageBytes < end)
      .sort((a, b) => a - b)
    let batch: Extent[] = []
    const add = (from: number, to: number, data: boolean) => {
      if (to > from)
        appendExtent(batch, { offset: from, length: to - from, allocated: true, data, zero: !data, depth: 0 })
    }
    let at = offset
    for (const page of pages) {
      const start = Math.max(at, page * this.#pageBytes)
      const stop = Math.min(end, (page + 1) * this.#pageBytes)
      add(at, start, false)
      if (batch.length >= extentsInBatch) {
        yield batch
        batch = []
      }
      add(start, stop, true)
      at = stop
    }
    add(at, end, false)
    if (batch.length > 0) yield batch
  }

  async zero(offset: number, length: number, mode: ZeroMode, signal?: AbortSignal): Promise<void> {
    this.#checkWrite(offset, length, signal)
    if (mode === 'unmap') this.#drop(offset, length)
    else {
      const unit = new Uint8Array(Math.min(length, 1024 * 1024))
      for (let done = 0; done < length; done += unit.length) {
        this.#put(offset + done, unit.subarray(0, Math.min(unit.length, length - done)))
      }
    }
    if (length > 0) this.#size = Math.max(this.#size, offset + length)
  }

  async discard(offset: number, length: number): Promise<void> {
    const end = Math.min(offset + length, this.#size)
    if (end > offset) this.#drop(offset, end - offset)
  }

  async resize(size: number, preallocation: Preallocation = 'off'): Promise<void> {
    this.#checkWrite(size, 0)
    if (size > this.#size && (preallocation === 'falloc' || preallocation === 'full')) {
      await this.zero(this.#size, size - this.#size, 'allocate')
    }
    if (size < this.#size) this.#drop(size, this.#size - size)
    this.#size = size
  }

  async flush(): Promise<void> {}

  async allocatedSize(): Promise<number> {
    return this.#pages.size * this.#pageBytes
  }

  async close(): Promise<void> {}

  #checkWrite(offset: number, length: number, signal?: AbortSignal): void {
    checkRange(this.name, Number.MAX_SAFE_INTEGER, offset, length, signal)
    if (offset + length > this.#limit) {
      throw new MoraineError('io', 'No space left on device', { path: this.name, offset, code: 'ENOSPC' })
    }
  }

  #get(offset: number, into: Uint8Array): void {
    for (let done = 0; done < into.length; ) {
      const page = Math.floor((offset + done) / this.#pageBytes)
      const skip = offset + done - page * this.#pageBytes
      const length = Math.min(this.#pageBytes - skip, into.length - done)
      const bytes = this.#pages.get(page)
      if (bytes === undefined) into.fill(0, done, done + length)
      else into.set(bytes.subarray(skip, skip + length), done)
      done += length
    }
  }

  #put(offset: number, from: Uint8Array): void {
    for (let done = 0; done < from.length; ) {
      const page = Math.floor((offset + done) / this.#pageBytes)
      const skip = offset + done - page * this.#pageBytes
      const length = Math.min(this.#pageBytes - skip, from.length - done)
      let bytes = this.#pages.get(page)
      if (bytes === undefined) {
        bytes = new Uint8Array(this.#pageBytes)
        this.#pages.set(page, bytes)
      }
      bytes.set(from.subarray(done, done + length), skip)
      done += length
    }
  }

  /** Makes a range zeros, giving back the pages that lie in it whole. */
  #drop(offset: number, length: number): void {
    const end = offset + length
    for (const [page, bytes] of this.#pages) {
      const start = page * this.#pageBytes
      const stop = start + this.#pageBytes
      if (stop <= offset || start >= end) continue
      // Past the size there is nothing to keep.
      if (start >= offset && (stop <= end || end >= this.#size)) this.#pages.delete(page)
      else bytes.fill(0, Math.max(0, offset - start), Math.min(this.#pageBytes, end - start))
    }
  }
}
