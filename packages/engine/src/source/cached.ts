/** A page cache over a slow source: least recently used pages, one request for neighbouring pages, reading ahead while reads are sequential. */
import { type ByteSource, type Extent, MoraineError } from '../core/index.ts'
import { checkRange } from './range.ts'

/** Bytes everywhere. */
export interface CacheOptions {
  /** Default 64 KiB. */
  pageBytes?: number | undefined
  /** Memory for pages, requests under way included as far as they are kept. Default 16 MiB. */
  cacheBytes?: number | undefined
  /** The most that is read beyond what was asked, when reads follow each other. Default 1 MiB; 0 turns it off. */
  readAheadBytes?: number | undefined
}

/** Reads of `source` through a page cache. Closing it closes the source. Reads of more than half the cache pass by it. */
export function cachedSource(source: ByteSource, options: CacheOptions = {}): ByteSource {
  return new CachedSource(source, options)
}

class CachedSource implements ByteSource {
  readonly #source: ByteSource
  readonly #pageBytes: number
  readonly #mostPages: number
  readonly #mostAhead: number
  /** By page number, the least recently used first. A promise is a page under way. */
  readonly #pages = new Map<number, Uint8Array | Promise<Uint8Array>>()
  /** Where the last read ended, and how far to read ahead of the next one that begins there. */
  #lastEnd = -1
  #ahead = 0

  constructor(source: ByteSource, options: CacheOptions) {
    this.#source = source
    this.#pageBytes = options.pageBytes ?? 64 * 1024
    this.#mostPages = Math.max(2, Math.floor((options.cacheBytes ?? 16 * 1024 * 1024) / this.#pageBytes))
    const ahead = Math.ceil((options.readAheadBytes ?? 1024 * 1024) / this.#pageBytes)
    this.#mostAhead = Math.min(ahead, Math.floor(this.#mostPages / 4))
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

  async read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    checkRange(this.name, this.size, offset, into.length, signal)
    if (into.length === 0) return
    const ahead = this.#planAhead(offset, into.length)
    if (into.length > (this.#mostPages * this.#pageBytes) / 2) {
      await this.#source.read(offset, into, signal)
      return
    }
    const first = Math.floor(offset / this.#pageBytes)
    const last = Math.floor((offset + into.length - 1) / this.#pageBytes)
    this.#request(first, last, ahead)
    const cancelled = signal === undefined ? undefined : whenAborted(signal, this.name)
    try {
      const wanted: (Uint8Array | Promise<Uint8Array>)[] = []
      for (let page = first; page <= last; page++) wanted.push(this.#touch(page))
      // After the touching, so that nothing of this read is thrown out for the rest of it.
      this.#evict()
      for (const [i, held] of wanted.entries()) {
        const bytes =
          held instanceof Uint8Array
            ? held
            : await (cancelled === undefined ? held : Promise.race([held, cancelled.fired]))
        const start = (first + i) * this.#pageBytes
        const from = Math.max(offset, start)
        const to = Math.min(offset + into.length, start + this.#pageBytes)
        into.set(bytes.subarray(from - start, to - start), from - offset)
      }
    } finally {
      cancelled?.stop()
    }
  }

  extents(offset: number, length: number, signal?: AbortSignal): AsyncIterable<Extent[]> {
    return this.#source.extents(offset, length, signal)
  }

  async allocatedSize(): Promise<number> {
    return (await this.#source.allocatedSize?.()) ?? this.size
  }

  async close(): Promise<void> {
    this.#pages.clear()
    await this.#source.close()
  }

  /** Pages to read ahead: none at first, then twice as many with each read that goes on where the last one ended. */
  #planAhead(offset: number, length: number): number {
    const sequential = offset === this.#lastEnd
    this.#lastEnd = offset + length
    this.#ahead = sequential ? Math.min(this.#mostAhead, Math.max(1, this.#ahead * 2)) : 0
    return this.#ahead
  }

  #touch(page: number): Uint8Array | Promise<Uint8Array> {
    const held = this.#pages.get(page)
    if (held === undefined) throw new MoraineError('io', 'Input/output error', { path: this.name, code: 'EIO' })
    this.#pages.delete(page)
    this.#pages.set(page, held)
    return held
  }

  /** Asks for what is missing of the pages `first` to `last`, and of `ahead` more once something is missing: one request for each run of neighbours. */
  #request(first: number, last: number, ahead: number): void {
    const lastOfSource = Math.floor((this.size - 1) / this.#pageBytes)
    let missing = false
    let start = -1
    for (let page = first; page <= last + 1; page++) {
      const needed = page <= last && !this.#pages.has(page)
      if (needed && start < 0) start = page
      if (!needed && start >= 0) {
        let stop = page
        // Only a run that reaches the end of what was asked is made longer.
        if (page > last) while (stop <= Math.min(last + ahead, lastOfSource) && !this.#pages.has(stop)) stop++
        this.#fetch(start, stop, page)
        missing = true
        start = -1
      }
    }
    if (!missing && ahead > 0) this.#fetchAhead(last + 1, Math.min(last + ahead, lastOfSource))
  }

  /** All that was asked is there: keep the next half window coming, so that a sequential reader does not wait at its end. */
  #fetchAhead(from: number, to: number): void {
    const middle = from + Math.floor((to - from) / 2)
    if (to < from || this.#pages.has(middle)) return
    let start = from
    while (start <= to && this.#pages.has(start)) start++
    let stop = start
    while (stop <= to && !this.#pages.has(stop)) stop++
    if (stop > start) this.#fetch(start, stop, start)
  }

  /** Reads the pages `[start, stop)`. Those from `needed` on are read ahead: when the request fails, the rest is tried without them. */
  #fetch(start: number, stop: number, needed: number): void {
    const whole = this.#load(start, stop)
    for (let page = start; page < stop; page++) {
      const wanted = page < needed
      const bytes = whole
        .catch((error: unknown) => {
          if (!wanted || needed === stop) throw error
          return this.#loadAgain(start, needed)
        })
        .then((all) => {
          const from = (page - start) * this.#pageBytes
          // A copy: one page that stays must not keep the whole run.
          const own = all.slice(from, from + this.#pageBytes)
          if (this.#pages.get(page) === bytes) this.#pages.set(page, own)
          return own
        })
      bytes.catch(() => {
        if (this.#pages.get(page) === bytes) this.#pages.delete(page)
      })
      this.#pages.set(page, bytes)
    }
  }

  readonly #retries = new Map<number, Promise<Uint8Array>>()

  #loadAgain(start: number, stop: number): Promise<Uint8Array> {
    const known = this.#retries.get(start)
    if (known !== undefined) return known
    const again = this.#load(start, stop).finally(() => this.#retries.delete(start))
    this.#retries.set(start, again)
    return again
  }

  async #load(start: number, stop: number): Promise<Uint8Array> {
    const from = start * this.#pageBytes
    const bytes = new Uint8Array(Math.min(stop * this.#pageBytes, this.size) - from)
    await this.#source.read(from, bytes)
    return bytes
  }

  /** Readers hold the pages that they wait for, so that anything may go. */
  #evict(): void {
    for (const page of this.#pages.keys()) {
      if (this.#pages.size <= this.#mostPages) return
      this.#pages.delete(page)
    }
  }
}

/** A promise that rejects with kind `cancelled` when the signal fires. `stop` ends the listening. */
function whenAborted(signal: AbortSignal, name: string): { fired: Promise<never>; stop(): void } {
  let listener = () => {}
  const fired = new Promise<never>((_resolve, reject) => {
    listener = () =>
      reject(new MoraineError('cancelled', 'the operation was cancelled', { path: name, cause: signal.reason }))
    signal.addEventListener('abort', listener, { once: true })
  })
  fired.catch(() => {})
  return { fired, stop: () => signal.removeEventListener('abort', listener) }
}
