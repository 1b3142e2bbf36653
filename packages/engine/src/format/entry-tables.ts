/** The L1 and L2 tables of a qcow or QED image in pages: read on demand, kept by use, written back entry by entry where they changed. No page reaches
 *  past its table, as other bytes may follow right behind it. */
import { viewOf } from '../bytes/integers.ts'
import { type ByteSource, type ByteStore, MoraineError, readPadded } from '../core/index.ts'

/** Most bytes of one page. Smaller ones would cost QED's tables of 256 KiB a request for every few entries when a disk is walked. */
const pageBytes = 64 * 1024

/** Which table a page is a part of: L2 tables are written before the L1 table points at them. */
export type TableKind = 'l1' | 'l2'

/** A part of a table. */
export interface TablePage {
  /** Byte offset in the file. */
  readonly offset: number
  readonly kind: TableKind
  readonly bytes: Uint8Array
  readonly view: DataView
  /** Changed bytes lie in [from, to); nothing changed when `to` is 0. */
  from: number
  to: number
  /** It is on its way to the file, which tells what it was until then. */
  writing: boolean
}

/** Where an entry stands. */
export interface EntryPlace {
  /** Byte offset of its page in the file. */
  page: number
  /** Bytes of that page. */
  bytes: number
  /** Byte offset of the entry in the page. */
  at: number
  kind: TableKind
}

/** The place of entry `index` of a table at `table` with `entries` entries. */
export function placeOf(kind: TableKind, table: number, entries: number, index: number): EntryPlace {
  const at = index * 8
  const start = at - (at % pageBytes)
  return { page: table + start, bytes: Math.min(pageBytes, entries * 8 - start), at: at - start, kind }
}

/** The pages of one image file. */
export class EntryTables {
  readonly #file: ByteSource
  readonly #format: 'qcow' | 'qed'
  readonly #little: boolean
  /** Bytes of pages to keep. */
  readonly #capacity: number
  /** The one used longest ago comes first. */
  readonly #pages = new Map<number, TablePage>()
  readonly #loading = new Map<number, Promise<TablePage>>()
  #last: TablePage | undefined
  /** Bytes of all pages, and of those that wait to be written. */
  #held = 0
  #dirty = 0

  constructor(file: ByteSource, cacheBytes: number, format: 'qcow' | 'qed') {
    this.#file = file
    this.#format = format
    this.#little = format === 'qed'
    this.#capacity = Math.max(256 * 1024, cacheBytes)
  }

  /** Whether something waits to be written. */
  get dirty(): boolean {
    return this.#dirty > 0
  }

  /** Whether so much waits that it should be written before more does. */
  get crowded(): boolean {
    return this.#dirty * 2 > this.#capacity
  }

  /** The page, where it is in memory.
   *  @throws MoraineError `corrupt` when a shorter table begins there. */
  peek(place: EntryPlace): TablePage | undefined {
    const offset = place.page
    if (this.#last?.offset === offset) return this.#fitting(this.#last, place)
    const page = this.#pages.get(offset)
    if (page === undefined) return undefined
    this.#pages.delete(offset)
    this.#pages.set(offset, page)
    this.#last = page
    return this.#fitting(page, place)
  }

  /** The page, read if need be; what lies past the file's end is zeros.
   *  @throws MoraineError as `peek`. */
  async load(place: EntryPlace): Promise<TablePage> {
    return this.peek(place) ?? this.#fitting(await this.#load(place), place)
  }

  #load({ page: offset, bytes, kind }: EntryPlace): Promise<TablePage> {
    const running = this.#loading.get(offset)
    if (running !== undefined) return running
    const loading = this.read(offset, bytes)
      .then((read) => this.#pages.get(offset) ?? this.#keep(offset, kind, read))
      .finally(() => this.#loading.delete(offset))
    this.#loading.set(offset, loading)
    return loading
  }

  /** In a bent image a table may begin where another, shorter one does. */
  #fitting(page: TablePage, { bytes }: EntryPlace): TablePage {
    if (page.bytes.length >= bytes) return page
    throw new MoraineError('corrupt', 'an L2 table lies over the L1 table', {
      path: this.#file.name,
      format: this.#format,
      field: 'L1 entry',
      value: page.offset,
      rule: 'each table in a place of its own',
    })
  }

  /** The bytes of a page as they are now, without keeping it. */
  async read(offset: number, length: number): Promise<Uint8Array> {
    const known = this.#pages.get(offset)
    if (known !== undefined && known.bytes.length === length) return known.bytes
    const bytes = new Uint8Array(length)
    await readPadded(this.#file, offset, bytes)
    return bytes
  }

  /** The pages of a new table, all zeros, which waits to be written whole. */
  fresh(kind: TableKind, table: number, length: number): void {
    for (let at = 0; at < length; at += pageBytes) {
      const old = this.#pages.get(table + at)
      if (old !== undefined && old.to > 0) this.#dirty -= old.bytes.length
      const page = this.#keep(table + at, kind, new Uint8Array(Math.min(pageBytes, length - at)))
      this.touch(page, 0, page.bytes.length)
    }
  }

  /** Sets the entry at `at` of a page. One writer at a time. */
  set(page: TablePage, at: number, upper: number, lower: number): void {
    page.view.setUint32(this.#little ? at + 4 : at, upper, this.#little)
    page.view.setUint32(this.#little ? at : at + 4, lower, this.#little)
    this.touch(page, at, at + 8)
  }

  /** Says that bytes of a page were changed. */
  touch(page: TablePage, from: number, to: number): void {
    if (page.to === 0) {
      // It may have been dropped, and read again, while nobody had changed it.
      this.#put(page)
      this.#last = page
      this.#dirty += page.bytes.length
      page.from = from
      page.to = to
    } else {
      page.from = Math.min(page.from, from)
      page.to = Math.max(page.to, to)
    }
  }

  /** Writes what changed in tables of one kind. Returns whether there was anything. */
  async writeBack(kind: TableKind, store: ByteStore): Promise<boolean> {
    if (this.#dirty === 0) return false
    const pages = [...this.#pages.values()].filter((page) => page.kind === kind && page.to > 0)
    pages.sort((a, b) => a.offset - b.offset)
    for (const page of pages) {
      const { from, to } = page
      page.to = 0
      page.writing = true
      this.#dirty -= page.bytes.length
      try {
        await store.write(page.offset + from, page.bytes.slice(from, to))
      } catch (error) {
        this.touch(page, from, to)
        throw error
      } finally {
        page.writing = false
      }
    }
    return pages.length > 0
  }

  /** Forgets what is in memory; the file was changed by other means. */
  clear(): void {
    this.#pages.clear()
    this.#last = undefined
    this.#held = 0
    this.#dirty = 0
  }

  #keep(offset: number, kind: TableKind, bytes: Uint8Array): TablePage {
    const page: TablePage = { offset, kind, bytes, view: viewOf(bytes), from: 0, to: 0, writing: false }
    this.#put(page)
    this.#last = undefined
    if (this.#held > this.#capacity) {
      for (const [other, old] of this.#pages) {
        if (old.to > 0 || old.writing || old === page) continue
        this.#drop(other)
        if (this.#held <= this.#capacity) break
      }
    }
    return page
  }

  #put(page: TablePage): void {
    this.#drop(page.offset)
    this.#pages.set(page.offset, page)
    this.#held += page.bytes.length
  }

  #drop(offset: number): void {
    this.#held -= this.#pages.get(offset)?.bytes.length ?? 0
    this.#pages.delete(offset)
  }
}
