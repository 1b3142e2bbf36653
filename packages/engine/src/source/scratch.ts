/** What would be written to a source, kept in memory: for trying a change without making it. */
import { roundUp } from '../bytes/integers.ts'
import { isZero } from '../bytes/zero.ts'
import {
  type ByteSource,
  type ByteStore,
  type Extent,
  MoraineError,
  type Preallocation,
  type ZeroMode,
} from '../core/index.ts'
import { allData, checkRange } from './range.ts'

const pageBytes = 65_536
/** What is counted for knowing that a page is zeros. */
const zeroCost = 64

/** How much a scratch store may keep. */
export interface ScratchOptions {
  /** Bytes of memory. A page of 64 KiB that is zeros counts as 64 bytes, and where the source shows nothing as none. Default 256 MiB. */
  limit?: number | undefined
}

/** A store that reads as `source` does and keeps in memory what is written to it. Closing it closes the source.
 *  Its methods throw as those of any store, and MoraineError `limit` when more would be kept than it may. */
export class ScratchStore implements ByteStore {
  readonly kind: 'file' | 'device' | 'memory'
  readonly name: string
  readonly identity: string | undefined
  readonly #source: ByteSource
  readonly #limit: number
  /** Pages that were written; undefined: zeros. */
  readonly #pages = new Map<number, Uint8Array | undefined>()
  #held = 0
  #size: number
  /** From here on the source is not looked at any more: the store was shorter once. */
  #end: number

  constructor(source: ByteSource & { kind?: ByteStore['kind'] }, options: ScratchOptions = {}) {
    this.kind = source.kind ?? 'file'
    this.name = source.name
    this.identity = source.identity
    this.#source = source
    this.#limit = options.limit ?? 256 * 1024 ** 2
    this.#size = source.size
    this.#end = source.size
  }

  /** Bytes. */
  get size(): number {
    return this.#size
  }

  async read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    checkRange(this.name, this.#size, offset, into.length, signal)
    for (const piece of pieces(offset, into.length)) {
      const part = into.subarray(piece.done, piece.done + piece.length)
      if (!this.#pages.has(piece.page)) await this.#readSource(offset + piece.done, part, signal)
      else {
        const page = this.#pages.get(piece.page)
        if (page === undefined) part.fill(0)
        else part.set(page.subarray(piece.skip, piece.skip + piece.length))
      }
    }
  }

  async write(offset: number, from: Uint8Array, signal?: AbortSignal): Promise<void> {
    this.#checkWrite(offset, from.length, signal)
    for (const piece of pieces(offset, from.length)) {
      const whole = piece.length === pageBytes
      const bytes = from.subarray(piece.done, piece.done + piece.length)
      if (whole && isZero(bytes)) this.#drop(piece.page)
      else (await this.#pageFor(piece.page, whole, signal)).set(bytes, piece.skip)
    }
    if (from.length > 0) this.#size = Math.max(this.#size, offset + from.length)
  }

  async zero(offset: number, length: number, _mode: ZeroMode, signal?: AbortSignal): Promise<void> {
    this.#checkWrite(offset, length, signal)
    const end = offset + length
    // Behind the source everything is zeros but the pages that were written.
    const beyond = Math.min(end, Math.max(offset, roundUp(this.#end, pageBytes)))
    for (const piece of pieces(offset, beyond - offset)) {
      if (piece.length === pageBytes) this.#drop(piece.page)
      else (await this.#pageFor(piece.page, false, signal)).fill(0, piece.skip, piece.skip + piece.length)
    }
    for (const [page, bytes] of this.#pages) {
      const start = page * pageBytes
      if (start + pageBytes <= beyond || start >= end) continue
      if (start >= beyond && start + pageBytes <= end) this.#drop(page)
      else bytes?.fill(0, Math.max(0, beyond - start), Math.min(pageBytes, end - start))
    }
    if (length > 0) this.#size = Math.max(this.#size, offset + length)
  }

  extents(offset: number, length: number, signal?: AbortSignal): AsyncIterable<Extent[]> {
    return allData(this, offset, length, signal)
  }

  async discard(): Promise<void> {}

  async resize(size: number, _preallocation: Preallocation = 'off'): Promise<void> {
    if (this.kind === 'device') {
      throw new MoraineError('unsupported', 'Cannot resize a device', { path: this.name, field: 'size', value: size })
    }
    this.#checkWrite(size, 0)
    if (size < this.#size) {
      for (const [page, bytes] of this.#pages) {
        if (page * pageBytes >= size) this.#forget(page)
        else bytes?.fill(0, Math.max(0, Math.min(pageBytes, size - page * pageBytes)))
      }
      this.#end = Math.min(this.#end, size)
    }
    this.#size = size
  }

  async flush(): Promise<void> {}

  async close(): Promise<void> {
    await this.#source.close()
  }

  #checkWrite(offset: number, length: number, signal?: AbortSignal): void {
    const end = this.kind === 'device' ? this.#size : Number.MAX_SAFE_INTEGER
    checkRange(this.name, end, offset, length, signal)
  }

  /** What the source still shows, and zeros behind it. */
  async #readSource(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    const there = Math.min(into.length, Math.max(0, this.#end - offset))
    into.fill(0, there)
    if (there > 0) await this.#source.read(offset, into.subarray(0, there), signal)
  }

  /** The page, to be changed. */
  async #pageFor(number: number, whole: boolean, signal?: AbortSignal): Promise<Uint8Array> {
    const known = this.#pages.get(number)
    if (known !== undefined) return known
    const bytes = new Uint8Array(pageBytes)
    if (!whole && !this.#pages.has(number)) {
      await this.#readSource(number * pageBytes, bytes, signal)
      // Another request may have made the page meanwhile.
      const made = this.#pages.get(number)
      if (made !== undefined) return made
      if (this.#pages.has(number)) bytes.fill(0)
    }
    this.#forget(number)
    this.#hold(pageBytes)
    this.#pages.set(number, bytes)
    return bytes
  }

  /** From now on the page is zeros. */
  #drop(page: number): void {
    this.#forget(page)
    if (page * pageBytes >= this.#end) return
    this.#hold(zeroCost)
    this.#pages.set(page, undefined)
  }

  #forget(page: number): void {
    if (!this.#pages.has(page)) return
    this.#held -= this.#pages.get(page) === undefined ? zeroCost : pageBytes
    this.#pages.delete(page)
  }

  #hold(bytes: number): void {
    this.#held += bytes
    if (this.#held <= this.#limit) return
    this.#held -= bytes
    throw new MoraineError('limit', 'more would be written than is kept in memory', {
      path: this.name,
      field: 'memory',
      value: this.#held,
      rule: `at most ${this.#limit} bytes`,
    })
  }
}

interface Piece {
  page: number
  /** Where in the page it begins. */
  skip: number
  /** Where in the whole it begins. */
  done: number
  length: number
}

function* pieces(offset: number, length: number): Generator<Piece> {
  for (let done = 0; done < length; ) {
    const page = Math.floor((offset + done) / pageBytes)
    const skip = offset + done - page * pageBytes
    const piece = Math.min(pageBytes - skip, length - done)
    yield { page, skip, done, length: piece }
    done += piece
  }
}
