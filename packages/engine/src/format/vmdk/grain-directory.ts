/** A grain directory: where the grain tables are. Read a page at a time, so that one of any length opens in bounded memory. */
import { u64le, viewOf } from '../../bytes/integers.ts'
import { type ByteSource, type ByteStore, readPadded } from '../../core/index.ts'
import { sectorBytes } from './layout.ts'

const pageBytes = 64 * 1024

/** Pages in memory: 1 MiB. */
const keptPages = 16

/** What an entry means: byte offset of its table, 0 for none; Infinity for one that breaks the rules. */
type Decode = (view: DataView, at: number) => number

/** Entries of the hosted format and of COWD: sectors. */
export const hostedEntry: Decode = (view, at) => view.getUint32(at, true) * sectorBytes

/** Entries of seSparse: 0, or 0x10000000 in the upper half and the number of a table in the lower. */
export function seSparseEntry(tables: number, tableBytes: number): Decode {
  return (view, at) => {
    const upper = view.getUint32(at + 4, true)
    const lower = view.getUint32(at, true)
    if (upper === 0 && lower === 0) return 0
    return upper === 0x1000_0000 ? tables + lower * tableBytes : Number.POSITIVE_INFINITY
  }
}

/** What a seSparse grain table entry means. */
export function seSparseGrain(view: DataView, at: number, grains: number, grainBytes: number): number {
  const upper = view.getUint32(at + 4, true)
  switch (upper >>> 28) {
    case 0:
      return u64le(view, at) === 0 ? -1 : Number.NaN
    case 1: // Unmapped by the guest.
    case 2:
      return -2
    case 3: {
      // The number's upper 12 bits stand at its lower end.
      const low = (upper >>> 16) & 0xfff
      const high = (upper & 0xffff) * 2 ** 32 + view.getUint32(at, true)
      return grains + (high * 4096 + low) * grainBytes
    }
    default:
      return Number.NaN
  }
}

/** One grain directory. */
export class GrainDirectory {
  /** Byte offset in the file. */
  readonly offset: number
  readonly count: number
  readonly #file: ByteSource
  readonly #entryBytes: number
  readonly #decode: Decode
  readonly #pages = new Map<number, DataView>()
  readonly #loading = new Map<number, Promise<DataView>>()

  constructor(file: ByteSource, offset: number, count: number, decode: Decode = hostedEntry, entryBytes = 4) {
    this.#file = file
    this.offset = offset
    this.count = count
    this.#decode = decode
    this.#entryBytes = entryBytes
  }

  /** Byte offset of a table; 0 when there is none. */
  get(index: number): number | Promise<number> {
    const at = index * this.#entryBytes
    const page = Math.floor(at / pageBytes)
    const view = this.#pages.get(page)
    if (view !== undefined) return this.#decode(view, at - page * pageBytes)
    return this.#load(page).then((loaded) => this.#decode(loaded, at - page * pageBytes))
  }

  /** As `get`, of what is in memory; undefined otherwise. */
  peek(index: number): number | undefined {
    if (index >= this.count) return undefined
    const at = index * this.#entryBytes
    const page = Math.floor(at / pageBytes)
    const view = this.#pages.get(page)
    return view === undefined ? undefined : this.#decode(view, at - page * pageBytes)
  }

  /** How many tables from `index` on are missing, as far as is in memory, at most `most`. */
  missingFrom(index: number, most: number): number {
    let count = 0
    while (count < most && this.peek(index + count) === 0) count++
    return count
  }

  /** Points an entry of a hosted directory at a table. */
  async set(index: number, sector: number, store: ByteStore): Promise<void> {
    const page = Math.floor((index * 4) / pageBytes)
    const view = this.#pages.get(page) ?? (await this.#load(page))
    const bytes = new Uint8Array(4)
    viewOf(bytes).setUint32(0, sector, true)
    await store.write(this.offset + index * 4, bytes)
    view.setUint32(index * 4 - page * pageBytes, sector, true)
    // It may have been dropped, and read again as it was.
    this.#keep(page, view)
  }

  #load(page: number): Promise<DataView> {
    const running = this.#loading.get(page)
    if (running !== undefined) return running
    const loading = this.#read(page).finally(() => this.#loading.delete(page))
    this.#loading.set(page, loading)
    return loading
  }

  async #read(page: number): Promise<DataView> {
    const bytes = new Uint8Array(Math.min(pageBytes, this.count * this.#entryBytes - page * pageBytes))
    await readPadded(this.#file, this.offset + page * pageBytes, bytes)
    const view = viewOf(bytes)
    this.#keep(page, this.#pages.get(page) ?? view)
    return this.#pages.get(page) ?? view
  }

  #keep(page: number, view: DataView): void {
    this.#pages.set(page, view)
    if (this.#pages.size <= keptPages) return
    const [oldest] = this.#pages.keys()
    if (oldest !== undefined) this.#pages.delete(oldest)
  }
}
