/** Pages of the block table and of sector bitmaps: read on demand, kept by use. What was changed is known by sectors of 4 KiB, as the log takes them. */
import { viewOf } from '../../bytes/integers.ts'
import { type ByteSource, readPadded } from '../../core/index.ts'
import { lengths } from './layout.ts'
import type { Region } from './regions.ts'

/** Bytes of a page; tables begin at multiples of it. */
export const pageBytes = 64 * 1024

const sector = lengths.logSector

/** One page. */
export interface Page {
  /** Byte offset in the file. */
  readonly offset: number
  readonly bytes: Uint8Array
  readonly view: DataView
  /** A bit for each sector that was changed. */
  dirty: number
  used: number
}

/** A sector that was changed, as it was when it was taken. */
export interface DirtySector {
  offset: number
  bytes: Uint8Array
}

/** A bounded cache of pages of one file. Changed pages stay until they are taken. */
export class MetadataPages {
  readonly #file: ByteSource
  readonly #capacity: number
  readonly #table: Region
  readonly #pages = new Map<number, Page>()
  readonly #loading = new Map<number, Promise<Page>>()
  readonly #dirty = new Set<Page>()
  /** Pages with sectors that were taken and are not in the file yet. */
  readonly #held = new Set<Page>()
  #clock = 0

  /** `table`: the region of the block table. */
  constructor(file: ByteSource, table: Region, cacheBytes: number) {
    this.#file = file
    this.#table = table
    this.#capacity = Math.max(16, Math.floor(cacheBytes / pageBytes))
  }

  /** Whether so much is dirty that it should be written before more is touched. */
  get crowded(): boolean {
    return this.#dirty.size * 2 > this.#capacity
  }

  /** Whether anything waits to be written. */
  get dirty(): boolean {
    return this.#dirty.size > 0
  }

  /** The page that holds the byte at `offset`. */
  at(offset: number): Page | Promise<Page> {
    const start = offset - (offset % pageBytes)
    const page = this.#pages.get(start)
    if (page !== undefined) {
      page.used = ++this.#clock
      return page
    }
    const running = this.#loading.get(start)
    if (running !== undefined) return running
    const promise = this.#load(start).finally(() => this.#loading.delete(start))
    this.#loading.set(start, promise)
    return promise
  }

  async #load(offset: number): Promise<Page> {
    const bytes = new Uint8Array(pageBytes)
    await readPadded(this.#file, offset, bytes)
    const page: Page = { offset, bytes, view: viewOf(bytes), dirty: 0, used: ++this.#clock }
    this.#pages.set(offset, page)
    if (this.#pages.size > this.#capacity) this.#evict()
    return page
  }

  /** Says that bytes of a page were changed; `at` counts from the page's start. Only one writer at a time changes pages. */
  touch(page: Page, at: number, length: number): void {
    // It may have been dropped since it was looked up.
    this.#pages.set(page.offset, page)
    for (let i = Math.floor(at / sector); i * sector < at + length; i++) page.dirty |= 1 << i
    this.#dirty.add(page)
  }

  /** Copies of the changed sectors, up to `most`, in an order in which any number of them may reach the file: bitmaps before the table, and of the
   *  table the last first, as the entry of a bitmap stands behind those of the blocks that rely on it. `written` or `giveBack` must follow. */
  take(most: number): DirtySector[] {
    const taken: DirtySector[] = []
    const inTable = ({ offset }: Page): number =>
      offset >= this.#table.offset && offset < this.#table.offset + this.#table.length ? 1 : 0
    for (const page of [...this.#dirty].sort((a, b) => inTable(a) - inTable(b) || b.offset - a.offset)) {
      if (taken.length >= most) break
      this.#held.add(page)
      for (let i = pageBytes / sector - 1; i >= 0 && taken.length < most; i--) {
        if ((page.dirty & (1 << i)) === 0) continue
        page.dirty &= ~(1 << i)
        taken.push({ offset: page.offset + i * sector, bytes: page.bytes.slice(i * sector, (i + 1) * sector) })
      }
      if (page.dirty === 0) this.#dirty.delete(page)
    }
    return taken
  }

  /** The sectors that were taken are in the file. */
  written(): void {
    this.#held.clear()
  }

  /** The sectors that were taken could not be written: they are changed still. */
  giveBack(sectors: readonly DirtySector[]): void {
    for (const { offset } of sectors) {
      const page = this.#pages.get(offset - (offset % pageBytes))
      if (page !== undefined) this.touch(page, offset % pageBytes, sector)
    }
    this.#held.clear()
  }

  /** Forgets everything: the file was changed by other means. */
  clear(): void {
    this.#pages.clear()
    this.#dirty.clear()
    this.#held.clear()
  }

  /** Drops the quarter of the clean pages that was used longest ago. */
  #evict(): void {
    const clean = [...this.#pages.values()].filter((page) => page.dirty === 0 && !this.#held.has(page))
    clean.sort((a, b) => a.used - b.used)
    for (const page of clean.slice(0, Math.ceil(clean.length / 4))) this.#pages.delete(page.offset)
  }
}
