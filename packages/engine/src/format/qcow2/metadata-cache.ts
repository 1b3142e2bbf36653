/** Pages of L2 tables and refcount blocks: read on demand, kept by use, written back in a safe order. Tables are never held whole. */

import { viewOf } from '../../bytes/integers.ts'
import { type ByteSource, type ByteStore, readPadded } from '../../core/index.ts'

/** What a page is a part of; decides when it is written back. */
export type PageKind = 'l2' | 'refcount'

/** One page of metadata. */
export interface Page {
  /** Byte offset in the image file. */
  readonly offset: number
  readonly kind: PageKind
  readonly bytes: Uint8Array
  readonly view: DataView
  dirty: boolean
  /** It is on its way to the file, which tells what it was until then. */
  writing: boolean
  used: number
}

/** Longest run of neighbouring pages that is written in one request, in bytes. */
const writeRun = 1024 * 1024

/** A bounded cache of metadata pages of one image file. */
export class MetadataCache {
  readonly pageSize: number
  readonly #file: ByteSource
  readonly #capacity: number
  readonly #pages = new Map<number, Page>()
  readonly #loading = new Map<number, Promise<Page>>()
  #clock = 0
  #dirty = 0

  constructor(file: ByteSource, pageSize: number, cacheBytes: number) {
    this.#file = file
    this.pageSize = pageSize
    this.#capacity = Math.max(16, Math.floor(cacheBytes / pageSize))
  }

  /** Whether so many pages are dirty that they should be written back before more are touched. */
  get crowded(): boolean {
    return this.#dirty * 2 > this.#capacity
  }

  /** The page at this offset, if it is in memory. */
  peek(offset: number): Page | undefined {
    const page = this.#pages.get(offset)
    if (page !== undefined) page.used = ++this.#clock
    return page
  }

  /** The page at this offset, read from the file if need be; what lies past the file's end is zeros. */
  load(offset: number, kind: PageKind): Page | Promise<Page> {
    const page = this.peek(offset)
    if (page !== undefined) return page
    const running = this.#loading.get(offset)
    if (running !== undefined) return running
    const promise = this.#read(offset, kind).finally(() => this.#loading.delete(offset))
    this.#loading.set(offset, promise)
    return promise
  }

  async #read(offset: number, kind: PageKind): Promise<Page> {
    const bytes = new Uint8Array(this.pageSize)
    this.#file.debugEvent?.(kind === 'l2' ? 'l2_load' : 'refblock_load')
    await readPadded(this.#file, offset, bytes)
    // Someone may have made the page afresh in the meantime; theirs is newer.
    return this.#pages.get(offset) ?? this.#keep(offset, kind, bytes)
  }

  /** A page of a new table, all zeros and dirty; nothing is read. */
  fresh(offset: number, kind: PageKind): Page {
    const page = this.#keep(offset, kind, new Uint8Array(this.pageSize))
    this.touch(page)
    return page
  }

  /** Marks a page as changed. Only one writer at a time changes pages, so a page that was evicted in the meantime simply comes back. */
  touch(page: Page): void {
    if (page.dirty) return
    this.#pages.set(page.offset, page)
    page.dirty = true
    this.#dirty++
  }

  /** Forgets the pages of a table that is no longer one. */
  drop(offset: number, length: number): void {
    for (let at = offset; at < offset + length; at += this.pageSize) {
      const page = this.#pages.get(at)
      if (page === undefined) continue
      if (page.dirty) this.#dirty--
      page.dirty = false
      this.#pages.delete(at)
    }
  }

  /** Forgets every page, changed ones too: the file was changed by other means. */
  clear(): void {
    for (const page of this.#pages.values()) page.dirty = false
    this.#pages.clear()
    this.#dirty = 0
  }

  /** Whether pages of this kind wait to be written. */
  hasDirty(kind: PageKind): boolean {
    if (this.#dirty === 0) return false
    for (const page of this.#pages.values()) if (page.dirty && page.kind === kind) return true
    return false
  }

  /** Writes the changed pages of one kind; neighbours go in one request. Returns how many there were. */
  async writeBack(kind: PageKind, store: ByteStore): Promise<number> {
    if (this.#dirty === 0) return 0
    const pages = [...this.#pages.values()].filter((page) => page.dirty && page.kind === kind)
    pages.sort((a, b) => a.offset - b.offset)
    for (let first = 0; first < pages.length; ) {
      let end = first + 1
      const start = (pages[first] as Page).offset
      while (
        end < pages.length &&
        (pages[end] as Page).offset === start + (end - first) * this.pageSize &&
        (end - first + 1) * this.pageSize <= writeRun
      ) {
        end++
      }
      await this.#writeRun(pages.slice(first, end), store)
      first = end
    }
    return pages.length
  }

  async #writeRun(run: Page[], store: ByteStore): Promise<void> {
    const first = run[0] as Page
    let bytes = first.bytes
    if (run.length > 1) {
      bytes = new Uint8Array(run.length * this.pageSize)
      for (const [index, page] of run.entries()) bytes.set(page.bytes, index * this.pageSize)
    } else {
      // The caller may change the page while it is being written.
      bytes = bytes.slice()
    }
    for (const page of run) {
      page.dirty = false
      page.writing = true
      this.#dirty--
    }
    try {
      store.debugEvent?.(first.kind === 'l2' ? 'l2_update' : 'refblock_update_part')
      await store.write(first.offset, bytes)
    } catch (error) {
      for (const page of run) this.touch(page)
      throw error
    } finally {
      for (const page of run) page.writing = false
    }
  }

  #keep(offset: number, kind: PageKind, bytes: Uint8Array): Page {
    const old = this.#pages.get(offset)
    if (old?.dirty) this.#dirty--
    const page: Page = { offset, kind, bytes, view: viewOf(bytes), dirty: false, writing: false, used: ++this.#clock }
    this.#pages.set(offset, page)
    if (this.#pages.size > this.#capacity) this.#evict()
    return page
  }

  /** Drops the quarter of the clean pages that was used longest ago. */
  #evict(): void {
    const clean = [...this.#pages.values()].filter(({ dirty, writing }) => !dirty && !writing)
    clean.sort((a, b) => a.used - b.used)
    for (const page of clean.slice(0, Math.ceil(clean.length / 4))) this.#pages.delete(page.offset)
  }
}
