/** A table of 32-bit entries, one for each block of a disk: VDI's block map, VHD's block allocation table. It is read in pages when it is asked
 *  for, kept by use and written back where it changed, so that the table of a disk of any size costs bounded memory. */
import { divideUp, viewOf } from '../bytes/integers.ts'
import { type ByteSource, type ByteStore, readPadded } from '../core/index.ts'

const entryBytes = 4
/** Entries of one page: 64 KiB. */
const pageEntries = 16_384
/** Entries that are written together at least: a sector. */
const sectorEntries = 128

interface Page {
  readonly number: number
  readonly entries: Uint32Array
  /** Changed entries lie in [from, to); nothing changed when `to` is 0. */
  from: number
  to: number
  /** It is on its way to the file, which tells what it was until then. */
  writing: boolean
}

/** Where a table lies. */
export interface BlockTablePlace {
  /** Byte offset in the file. */
  offset: number
  /** Number of entries. */
  entries: number
  order: 'little' | 'big'
  /** Bytes of pages to keep in memory; 1 MiB at least. */
  cacheBytes: number
}

/** The table of one image file. */
export class BlockTable {
  readonly #file: ByteSource
  readonly #place: BlockTablePlace
  readonly #capacity: number
  /** The one used longest ago comes first. */
  readonly #pages = new Map<number, Page>()
  readonly #loading = new Map<number, Promise<Page>>()
  #last: Page | undefined
  #dirty = 0

  constructor(file: ByteSource, place: BlockTablePlace) {
    this.#file = file
    this.#place = place
    this.#capacity = Math.max(16, Math.floor(place.cacheBytes / (pageEntries * entryBytes)))
  }

  /** Number of entries. */
  get entries(): number {
    return this.#place.entries
  }

  /** Whether an entry was set that is not in the file yet. */
  get dirty(): boolean {
    return this.#dirty > 0
  }

  /** Whether so much was set that it should be written back before more is. */
  get crowded(): boolean {
    return this.#dirty * 2 > this.#capacity
  }

  /** The entry, where its page is in memory. */
  peek(index: number): number | undefined {
    return this.#peekPage(index)?.entries[index % pageEntries]
  }

  /** The entry. `index` from 0 to `entries` − 1. */
  async get(index: number): Promise<number> {
    const page = this.#peekPage(index) ?? (await this.#load(Math.floor(index / pageEntries)))
    return page.entries[index % pageEntries] as number
  }

  /** How many entries from `index` on, at most `most`, are alike: each is the one before it plus `step`. Counts no further than the page that
   *  `index` lies in; its page must be in memory (`peek` or `get` said so). */
  run(index: number, most: number, step: number): number {
    const page = this.#peekPage(index)
    if (page === undefined) return 1
    const { entries } = page
    const first = index % pageEntries
    const end = Math.min(entries.length, first + most)
    let at = first + 1
    if (step === 0) {
      const value = entries[first]
      while (at < end && entries[at] === value) at++
    } else {
      while (at < end && entries[at] === (entries[at - 1] as number) + step) at++
    }
    return at - first
  }

  /** Sets an entry in memory, at once where its page is there. One writer at a time. */
  set(index: number, value: number): Promise<void> | undefined {
    const page = this.#peekPage(index)
    if (page === undefined)
      return this.#load(Math.floor(index / pageEntries)).then((loaded) => this.#setIn(loaded, index, value))
    this.#setIn(page, index, value)
    return undefined
  }

  #setIn(page: Page, index: number, value: number): void {
    const at = index % pageEntries
    page.entries[at] = value
    if (page.to === 0) {
      // It may have been dropped while nobody had changed it.
      this.#pages.set(page.number, page)
      this.#dirty++
      page.from = at
      page.to = at + 1
    } else {
      page.from = Math.min(page.from, at)
      page.to = Math.max(page.to, at + 1)
    }
  }

  /** All entries in order, in pieces that must not be changed. What is in memory counts; the rest is read and not kept, unless `keeps` says that it is soon asked for again. */
  async *all(signal?: AbortSignal, keeps = false): AsyncIterable<{ first: number; entries: Uint32Array }> {
    for (let number = 0; number * pageEntries < this.entries; number++) {
      const page = this.#pages.get(number) ?? (await (keeps ? this.#load(number) : this.#read(number, signal)))
      yield { first: number * pageEntries, entries: page.entries }
    }
  }

  /** Writes what was set. What it points at must have reached the disk. */
  async writeBack(store: ByteStore): Promise<void> {
    if (this.#dirty === 0) return
    const pages = [...this.#pages.values()].filter(({ to }) => to > 0).sort((a, b) => a.number - b.number)
    const room = new Uint8Array(pageEntries * entryBytes)
    for (const page of pages) {
      const from = page.from - (page.from % sectorEntries)
      const to = Math.min(page.entries.length, divideUp(page.to, sectorEntries) * sectorEntries)
      const bytes = this.#encode(page.entries.subarray(from, to), room)
      const changed = { from: page.from, to: page.to }
      page.to = 0
      page.writing = true
      this.#dirty--
      try {
        await store.write(this.#place.offset + (page.number * pageEntries + from) * entryBytes, bytes)
      } catch (error) {
        if (page.to === 0) this.#dirty++
        page.from = page.to === 0 ? changed.from : Math.min(page.from, changed.from)
        page.to = Math.max(page.to, changed.to)
        throw error
      } finally {
        page.writing = false
      }
    }
  }

  /** Forgets what is in memory; the file was changed by other means. */
  clear(): void {
    this.#pages.clear()
    this.#last = undefined
    this.#dirty = 0
  }

  #peekPage(index: number): Page | undefined {
    const number = Math.floor(index / pageEntries)
    if (this.#last?.number === number) return this.#last
    const page = this.#pages.get(number)
    if (page === undefined) return undefined
    this.#pages.delete(number)
    this.#pages.set(number, page)
    this.#last = page
    return page
  }

  #load(number: number): Promise<Page> {
    const running = this.#loading.get(number)
    if (running !== undefined) return running
    const loading = this.#read(number)
      .then((page) => this.#keep(page))
      .finally(() => this.#loading.delete(number))
    this.#loading.set(number, loading)
    return loading
  }

  async #read(number: number, signal?: AbortSignal): Promise<Page> {
    const { offset, entries, order } = this.#place
    const count = Math.min(pageEntries, entries - number * pageEntries)
    const values = new Uint32Array(count)
    const bytes = new Uint8Array(values.buffer)
    await readPadded(this.#file, offset + number * pageEntries * entryBytes, bytes, signal)
    // Each entry is turned where it stands, into the order of this machine.
    const view = viewOf(bytes)
    const little = order === 'little'
    for (let i = 0; i < count; i++) values[i] = view.getUint32(i * entryBytes, little)
    return { number, entries: values, from: 0, to: 0, writing: false }
  }

  #keep(page: Page): Page {
    const known = this.#pages.get(page.number)
    if (known !== undefined) return known
    this.#pages.set(page.number, page)
    if (this.#pages.size > this.#capacity) {
      for (const [number, old] of this.#pages) {
        if (old.to > 0 || old.writing || old === page) continue
        this.#pages.delete(number)
        if (this.#last === old) this.#last = undefined
        if (this.#pages.size <= this.#capacity) break
      }
    }
    return page
  }

  #encode(entries: Uint32Array, into: Uint8Array): Uint8Array {
    const bytes = into.subarray(0, entries.length * entryBytes)
    const view = viewOf(bytes)
    const little = this.#place.order === 'little'
    for (let i = 0; i < entries.length; i++) view.setUint32(i * entryBytes, entries[i] as number, little)
    return bytes
  }
}
