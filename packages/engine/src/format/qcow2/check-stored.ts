/** The reference counts as they are stored, compared block by block with those that the walk found, and corrected where a repair may.
 *  Behaviour and words: QEMU 7.2's `compare_refcounts`. */

import { viewOf } from '../../bytes/integers.ts'
import { type ByteStore, readPadded } from '../../core/index.ts'
import type { ReferenceCounts } from './check-counts.ts'
import { type Findings, hex64 } from './check-findings.ts'
import { readTables, tablePlan } from './check-tables.ts'
import type { Qcow2Image } from './image.ts'
import type { Page } from './metadata-cache.ts'
import { countAt, setCountAt } from './refcount-reader.ts'

/** So many clusters whose block cannot be read are named one by one; a hostile image may have 2^31 of them. */
const mostUnreadable = 100_000

/** The refcount table as it stands, reserved bits and all. */
export class StoredTable {
  readonly view: DataView
  readonly #clusterSize: number
  /** The page of counts that was asked for last; the next question is mostly about its neighbour. */
  #last: { first: number; end: number; page: Page } | undefined

  private constructor(bytes: Uint8Array, clusterSize: number) {
    this.view = viewOf(bytes)
    this.#clusterSize = clusterSize
  }

  /** Reads the table (at most 8 MiB). */
  static async read(image: Qcow2Image): Promise<StoredTable> {
    const { header, geometry, file } = image
    const bytes = new Uint8Array(header.refcountTableClusters * geometry.clusterSize)
    await readPadded(file, header.refcountTableOffset, bytes)
    return new StoredTable(bytes, geometry.clusterSize)
  }

  /** Number of entries. */
  get size(): number {
    return this.view.byteLength / 8
  }

  /** Byte offset of a block, 0 where there is none; past 2^53 it is not exact, but no file is that long. */
  blockOffset(index: number): number {
    if (index >= this.size) return 0
    return this.view.getUint32(index * 8) * 0x1_0000_0000 + ((this.view.getUint32(index * 8 + 4) & 0xffff_fe00) >>> 0)
  }

  /** Whether a block's offset can be read at all: aligned, and below 2^63. */
  isReadable(index: number): boolean {
    return this.isAligned(index) && this.view.getUint32(index * 8) < 0x8000_0000
  }

  /** Whether a block begins at a cluster. */
  isAligned(index: number): boolean {
    return (this.view.getUint32(index * 8 + 4) & 0xffff_fe00 & (this.#clusterSize - 1)) === 0
  }

  /** The offset in hex, as errors name it. */
  hexOf(index: number): string {
    return hex64(this.view.getUint32(index * 8), this.view.getUint32(index * 8 + 4) & 0xffff_fe00)
  }

  /** The stored count of a cluster; undefined where its block cannot be read. What lies past the end of the file is zero. Counts past 2^53 are
   *  rounded. What was read is believed from then on: a table is asked only while counts do not change. */
  countOf(image: Qcow2Image, cluster: number): number | undefined | Promise<number> {
    const { refcountOrder } = image.header
    const last = this.#last
    if (last !== undefined && cluster >= last.first && cluster < last.end) {
      return countAt(last.page.bytes, last.page.view, refcountOrder, cluster - last.first)
    }
    const place = this.#placeOf(image, cluster)
    if (place === undefined || place === 0) return place
    const inPage = (page: Page) => {
      const first = cluster - place.index
      this.#last = { first, end: first + (page.bytes.length * 8) / 2 ** refcountOrder, page }
      return countAt(page.bytes, page.view, refcountOrder, place.index)
    }
    const page = image.cache.load(place.offset, 'refcount')
    return page instanceof Promise ? page.then(inPage) : inPage(page)
  }

  /** The stored count of a cluster in digits, whatever its size. */
  async digitsOf(image: Qcow2Image, cluster: number): Promise<string> {
    const count = await this.countOf(image, cluster)
    const place = this.#placeOf(image, cluster)
    if (image.header.refcountOrder < 6 || place === undefined || place === 0) return String(count)
    return (await image.cache.load(place.offset, 'refcount')).view.getBigUint64(place.index * 8).toString()
  }

  #placeOf(image: Qcow2Image, cluster: number): { offset: number; index: number } | 0 | undefined {
    const { refcountsPerBlock, pageSize, refcountBits } = image.geometry
    const index = Math.floor(cluster / refcountsPerBlock)
    const block = this.blockOffset(index)
    if (block === 0) return 0
    if (!this.isReadable(index)) return undefined
    if (block >= image.file.size) return 0
    const inBlock = cluster - index * refcountsPerBlock
    const perPage = (pageSize * 8) / refcountBits
    return { offset: block + Math.floor(inBlock / perPage) * pageSize, index: inBlock % perPage }
  }

  /** Whether one of the blocks from `first` to `last` exists. */
  hasBlocks(first: number, last: number): boolean {
    const end = Math.min(last, this.size - 1)
    for (let index = first; index <= end; index++) if (this.blockOffset(index) !== 0) return true
    return false
  }
}

/** How counts are compared. */
export interface CompareOptions {
  /** What is corrected in the file; nothing without a store. `discard`: give the space of freed clusters back to the host.
   *  `guard`: refuses to write a block that is other metadata too. */
  fix:
    | { store: ByteStore; leaks: boolean; errors: boolean; discard: boolean; guard: (block: number) => Promise<void> }
    | undefined
  /** A block that cannot be read will have the image marked as corrupt (which changes QEMU's words). */
  marking: boolean
  signal: AbortSignal | undefined
}

/** Compares counts over one or several windows. */
export class CountComparison {
  readonly #image: Qcow2Image
  readonly #table: StoredTable
  readonly #counts: ReferenceCounts
  readonly #findings: Findings
  readonly #fix: CompareOptions['fix']
  readonly #marking: boolean
  readonly #signal: AbortSignal | undefined
  /** The highest cluster that is counted or referred to; 0 when there is none. */
  highest = 0
  /** A cluster is in use and its count is 0: the structures cannot be trusted. */
  rebuild = false
  /** A COPIED flag does not fit the count that is stored (now). */
  suspect = false
  /** Clusters whose block cannot be read. */
  unreadable = 0
  /** The changed bytes of the present block. */
  #changedFrom = Number.POSITIVE_INFINITY
  #changedTo = 0
  /** Clusters of the present block that nobody uses any more, in runs. */
  #freed: { first: number; end: number }[] = []

  constructor(
    image: Qcow2Image,
    table: StoredTable,
    counts: ReferenceCounts,
    findings: Findings,
    options: CompareOptions,
  ) {
    this.#image = image
    this.#table = table
    this.#counts = counts
    this.#findings = findings
    this.#fix = options.fix
    this.#marking = options.marking
    this.#signal = options.signal
  }

  /** Compares the clusters from the window's start to before `end`. */
  async run(end: number, onBlock: () => void = () => {}): Promise<void> {
    const { file, geometry } = this.#image
    const { clusterSize, refcountsPerBlock } = geometry
    const from = this.#counts.base
    const to = Math.min(end, from + this.#counts.length)
    if (to <= from) return
    const firstBlock = Math.floor(from / refcountsPerBlock)
    await readTables(
      file,
      clusterSize,
      Math.floor((to - 1) / refcountsPerBlock) - firstBlock + 1,
      (index) => {
        const offset = this.#table.blockOffset(firstBlock + index)
        return offset === 0 || offset >= file.size || !this.#table.isReadable(firstBlock + index)
          ? tablePlan.bare
          : offset
      },
      (index, bytes) => {
        onBlock()
        const block = firstBlock + index
        const start = Math.max(from, block * refcountsPerBlock)
        const stop = Math.min(to, (block + 1) * refcountsPerBlock)
        return this.#compareBlock(block, bytes, start, stop)
      },
      this.#signal,
    )
  }

  #compareBlock(block: number, bytes: Uint8Array | undefined, start: number, stop: number): void | Promise<void> {
    if (bytes === undefined) {
      if (this.#table.blockOffset(block) !== 0 && !this.#table.isReadable(block)) this.#cannotRead(block, start, stop)
      else this.#compareEmpty(start, stop)
      return
    }
    const first = block * this.#image.geometry.refcountsPerBlock
    if (this.#image.header.refcountOrder === 4) this.#compareWords(bytes, first, start, stop)
    else this.#compareAny(bytes, first, start, stop)
    if (this.#changedTo > 0) return this.#writeChanges(block, bytes)
  }

  /** All counts are zero here. */
  #compareEmpty(start: number, stop: number): void {
    const { values, base } = this.#counts
    for (let at = start - base; at < stop - base; at++) if (values[at] !== 0) this.#differ(base + at, 0)
  }

  /** How many clusters from `start` on are counted once and referred to once, with COPIED: nearly all of most images. */
  #usualRun(bytes: Uint8Array, first: number, start: number, stop: number): number {
    const { values, base, copied } = this.#counts
    if (values.BYTES_PER_ELEMENT !== 2 || bytes.byteOffset % 4 !== 0 || (start - base) % 2 !== 0) return 0
    const stored = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 2)
    const counted = new Uint32Array(values.buffer, 0, values.length >>> 1)
    const [storedOnce] = new Uint32Array(new Uint8Array([0, 1, 0, 1]).buffer)
    const [countedOnce] = new Uint32Array(new Uint16Array([copied | 1, copied | 1]).buffer)
    const most = (stop - start) >>> 1
    const inBlock = (start - first) >>> 1
    const inWindow = (start - base) >>> 1
    let pairs = 0
    while (pairs < most && stored[inBlock + pairs] === storedOnce && counted[inWindow + pairs] === countedOnce) pairs++
    return pairs * 2
  }

  /** The usual width, 16 bits. */
  #compareWords(bytes: Uint8Array, first: number, start: number, stop: number): void {
    const { values, base, mask, copied, plain } = this.#counts
    const view = viewOf(bytes)
    let highest = -1
    let suspect = false
    for (let cluster = start; cluster < stop; cluster++) {
      // Now and then it is worth to look for a long run.
      if (cluster % 64 === 0) {
        const run = this.#usualRun(bytes, first, cluster, stop)
        if (run > 0) {
          highest = cluster + run - 1
          cluster = highest
          continue
        }
      }
      const value = values[cluster - base] as number
      const count = value & mask
      const stored = view.getUint16((cluster - first) * 2)
      if (stored === count && count !== mask) {
        if (stored === 0) continue
        highest = cluster
        if ((value & (stored === 1 ? plain : copied)) !== 0) suspect = true
      } else {
        this.#differ(cluster, stored, bytes, first)
      }
    }
    if (highest > this.highest) this.highest = highest
    if (suspect) this.suspect = true
  }

  #compareAny(bytes: Uint8Array, first: number, start: number, stop: number): void {
    const { values, base } = this.#counts
    const { refcountOrder } = this.#image.header
    const view = viewOf(bytes)
    for (let cluster = start; cluster < stop; cluster++) {
      const stored = countAt(bytes, view, refcountOrder, cluster - first)
      if (stored !== 0 || values[cluster - base] !== 0) this.#differ(cluster, stored, bytes, first)
    }
  }

  /** A cluster that is counted or referred to: do both agree? */
  #differ(cluster: number, stored: number, bytes?: Uint8Array, first = 0): void {
    const counted = this.#counts.get(cluster)
    if (stored !== 0 || counted !== 0) this.highest = Math.max(this.highest, cluster)
    let now = stored
    if (stored !== counted) {
      const leak = stored > counted
      if (stored === 0) this.rebuild = true
      const fixed =
        stored !== 0 && bytes !== undefined && (leak ? this.#fix?.leaks === true : this.#fix?.errors === true)
      const verb = fixed ? 'Repairing' : leak ? 'Leaked' : 'ERROR'
      const exact = bytes === undefined ? '0' : this.#exact(bytes, cluster - first, stored)
      this.#findings.say(`${verb} cluster ${cluster} refcount=${exact} reference=${counted}`)
      if (fixed) {
        this.#setCount(bytes, cluster - first, counted)
        now = counted
        if (counted === 0 && this.#fix?.discard === true) this.#free(cluster)
        if (leak) this.#findings.leaksFixed++
        else this.#findings.corruptionsFixed++
      } else if (leak) this.#findings.leaks++
      else this.#findings.corruptions++
    }
    const value = this.#counts.values[cluster - this.#counts.base] as number
    if ((value & (now === 1 ? this.#counts.plain : this.#counts.copied)) !== 0) this.suspect = true
  }

  /** The stored count in digits; 64-bit counts pass what a number holds. */
  #exact(bytes: Uint8Array, index: number, stored: number): string {
    return this.#image.header.refcountOrder === 6
      ? viewOf(bytes)
          .getBigUint64(index * 8)
          .toString()
      : String(stored)
  }

  #setCount(bytes: Uint8Array, index: number, count: number): void {
    const { refcountOrder } = this.#image.header
    setCountAt(bytes, viewOf(bytes), refcountOrder, index, count)
    const bits = 2 ** refcountOrder
    this.#changedFrom = Math.min(this.#changedFrom, Math.floor((index * bits) / 8))
    this.#changedTo = Math.max(this.#changedTo, Math.ceil(((index + 1) * bits) / 8))
  }

  #free(cluster: number): void {
    const last = this.#freed[this.#freed.length - 1]
    if (last?.end === cluster) last.end++
    else this.#freed.push({ first: cluster, end: cluster + 1 })
  }

  /** Writes the sectors of a block that have changed. */
  async #writeChanges(block: number, bytes: Uint8Array): Promise<void> {
    const from = this.#changedFrom - (this.#changedFrom % 512)
    const to = Math.min(bytes.length, Math.ceil(this.#changedTo / 512) * 512)
    this.#changedFrom = Number.POSITIVE_INFINITY
    this.#changedTo = 0
    const freed = this.#freed
    this.#freed = []
    if (this.#fix === undefined) return
    const { store, guard } = this.#fix
    // At any other width a second use of the block's cluster shows in its count, and everything is built anew.
    if (this.#image.header.refcountOrder === 0) await guard(this.#table.blockOffset(block))
    await store.write(this.#table.blockOffset(block) + from, bytes.slice(from, to))
    const { clusterSize } = this.#image.geometry
    for (const { first, end } of freed) {
      const length = Math.min(end * clusterSize, store.size) - first * clusterSize
      if (length > 0) await store.discard(first * clusterSize, length)
    }
  }

  #cannotRead(block: number, start: number, stop: number): void {
    const { base, values, copied, plain } = this.#counts
    if (this.unreadable === 0 && !this.#table.isAligned(block)) {
      const where = `Refblock offset 0x${this.#table.hexOf(block)} unaligned (reftable index: ${
        block === 0 ? '0' : `0x${block.toString(16)}`
      })`
      this.#findings.say(
        this.#marking
          ? `qcow2: Marking image as corrupt: ${where}; further corruption events will be suppressed`
          : `qcow2: Image is corrupt: ${where}; further non-fatal corruption events will be suppressed`,
      )
    }
    this.#findings.checkErrors += stop - start
    for (let cluster = start; cluster < stop; cluster++) {
      if (this.unreadable++ < mostUnreadable) {
        this.#findings.say(`Can't get refcount for cluster ${cluster}: Input/output error`)
      }
      if (((values[cluster - base] as number) & (copied | plain)) !== 0) this.suspect = true
    }
    if (this.unreadable > mostUnreadable) {
      this.#findings.say(`Can't get refcount for the clusters up to ${stop - 1} either: Input/output error`)
    }
  }
}
