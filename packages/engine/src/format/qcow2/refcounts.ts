/** Counting references and allocating host clusters. The order of allocation is QEMU's (first fit from the lowest cluster that was
 *  freed), because where things lie is part of compatibility. Source: behaviour of QEMU 7.2, measured on its files. */

import { divideUp, roundUp, setU64be, viewOf } from '../../bytes/integers.ts'
import { eachNonZero } from '../../bytes/zero.ts'
import { type ByteStore, retelling } from '../../core/index.ts'
import { fault, type Qcow2Image } from './image.ts'
import { bounds, field } from './layout.ts'
import type { Page } from './metadata-cache.ts'
import type { MetadataGuard } from './metadata-guard.ts'
import { RefcountReader, setCountAt } from './refcount-reader.ts'

/** Where the self-describing refcount structures of a new area lie. */
export interface RefcountMetadataSize {
  /** Refcount blocks. */
  blocks: number
  /** Clusters of the refcount table. */
  tableClusters: number
}

/** A range of host bytes. */
export interface HostRange {
  offset: number
  length: number
}

function appendRange(list: HostRange[] | undefined, offset: number, length: number): void {
  if (list === undefined) return
  const last = list[list.length - 1]
  if (last !== undefined && last.offset + last.length === offset) last.length += length
  else list.push({ offset, length })
}

/** How many refcount blocks and table clusters count `clusters` clusters and themselves. `generous` leaves room for half a table more. */
export function refcountMetadataSize(
  clusters: number,
  clusterSize: number,
  refcountBits: number,
  generous: boolean,
): RefcountMetadataSize {
  const perTableCluster = clusterSize / 8
  const perBlock = (clusterSize * 8) / refcountBits
  let counted = clusters
  let ample = generous
  let table = 0
  let blocks = 0
  for (let sum = 0, last = -1; sum !== last; ) {
    last = sum
    blocks = divideUp(counted + table + blocks, perBlock)
    table = divideUp(blocks, perTableCluster)
    sum = counted + blocks + table
    if (sum === last && ample) {
      counted += divideUp(table, 2)
      sum = 0
      ample = false
    }
  }
  return { blocks, tableClusters: table }
}

/** Reference counts that can be changed. Only one caller at a time may do so. */
export class Refcounts extends RefcountReader {
  readonly #store: ByteStore
  readonly #guard: MetadataGuard
  readonly #max: number
  /** Host bytes below this may hold what a freed cluster held. */
  freedUpTo = 0
  /** The lowest cluster that may be free. */
  #next = 0
  /** Where the next compressed cluster may begin within a partly used host cluster; 0 for none. */
  #nextByte = 0

  private constructor(image: Qcow2Image, store: ByteStore, guard: MetadataGuard, table: Float64Array) {
    super(image, table)
    this.#guard = guard
    eachNonZero(table, (i) => guard.addBlock(table[i] ?? 0))
    this.#store = store
    const { refcountBits } = image.geometry
    this.#max = refcountBits >= 53 ? Number.MAX_SAFE_INTEGER : 2 ** refcountBits - 1
  }

  /** Opens the counts of an image for changing. */
  static async openForWriting(image: Qcow2Image, store: ByteStore, guard: MetadataGuard): Promise<Refcounts> {
    store.debugEvent?.('reftable_load')
    const unread = (reason: string): string => `Could not initialize refcount handling: ${reason}`
    return new Refcounts(image, store, guard, await retelling(unread, () => RefcountReader.readTable(image)))
  }

  /** Allocates `bytes` (rounded up to clusters) in one piece; the counts become 1. Returns the host byte offset. */
  async allocate(bytes: number): Promise<number> {
    const { clusterSize } = this.image.geometry
    this.#store.debugEvent?.('cluster_alloc')
    for (;;) {
      const offset = await this.#find(divideUp(bytes, clusterSize))
      if (await this.update(offset, bytes, 1)) {
        if (offset === 0) throw this.#corruptZero('cluster')
        return offset
      }
    }
  }

  /** Allocates up to `clusters` clusters that lie exactly at `offset`. Returns how many were free there. */
  async allocateAt(offset: number, clusters: number): Promise<number> {
    const { clusterSize } = this.image.geometry
    const first = offset / clusterSize
    for (;;) {
      let free = 0
      for (; free < clusters; free++) {
        const found = this.get(first + free)
        if ((found instanceof Promise ? await found : found) !== 0) break
      }
      if (free > 0) this.#guard.check(offset, free * clusterSize)
      if (free === 0 || (await this.update(offset, free * clusterSize, 1))) return free
    }
  }

  /** Allocates `bytes` (at most a cluster) for a compressed cluster, right behind the last one where there is room. */
  async allocatePacked(bytes: number): Promise<number> {
    const { clusterSize } = this.image.geometry
    this.#store.debugEvent?.('cluster_alloc_bytes')
    let offset = this.#nextByte
    if (offset !== 0) {
      const found = this.get(Math.floor(offset / clusterSize))
      if ((found instanceof Promise ? await found : found) >= this.#max) offset = 0
    }
    let room = clusterSize - (offset % clusterSize)
    for (;;) {
      if (offset === 0 || room < bytes) {
        const fresh = await this.#find(1)
        if (fresh === 0) throw this.#corruptZero('compressed cluster')
        if (offset === 0 || roundUp(offset, clusterSize) !== fresh) {
          offset = fresh
          room = clusterSize
        } else {
          room += clusterSize
        }
      }
      if (await this.update(offset, bytes, 1)) break
      offset = 0
    }
    this.#nextByte = (offset + bytes) % clusterSize === 0 ? 0 : offset + bytes
    return offset
  }

  /** Adds `change` to the count of every cluster that the range touches. False when a refcount block had to be made first: nothing was
   *  changed, and whoever chose the range should choose again, since the block may lie in it.
   *  @param freed clusters whose count became 0 are added here; nobody may allocate before the caller is done with the list.
   *  @throws MoraineError `corrupt` when a count would leave its width. */
  async update(offset: number, length: number, change: number, freed?: HostRange[]): Promise<boolean> {
    if (length === 0) return true
    const { clusterSize } = this.image.geometry
    const first = Math.floor(offset / clusterSize)
    const last = Math.floor((offset + length - 1) / clusterSize)
    let cluster = first
    try {
      while (cluster <= last) {
        const found = this.pageOf(cluster)
        if (found === undefined) {
          if (change < 0) throw this.#overflow(cluster, 0, change)
          await this.#makeBlock(cluster)
          // The same clusters are tried first; they may still be free.
          this.#next = Math.min(this.#next, first)
          await this.#undo(first, cluster, change)
          return false
        }
        const page = found instanceof Promise ? await found : found
        const stop = Math.min(last, cluster + this.perPage - 1 - (cluster % this.perPage))
        for (; cluster <= stop; cluster++) {
          if (this.#change(page, cluster, change) === 0) {
            appendRange(freed, cluster * clusterSize, clusterSize)
            this.freedUpTo = Math.max(this.freedUpTo, (cluster + 1) * clusterSize)
          }
        }
      }
    } catch (error) {
      await this.#undo(first, cluster, change)
      throw error
    }
    return true
  }

  /** Changes one count; returns the new one. */
  #change(page: Page, cluster: number, change: number): number {
    const count = this.inPage(page, cluster)
    const next = count + change
    if (next < 0 || next > this.#max) throw this.#overflow(cluster, count, change)
    setCountAt(page.bytes, page.view, this.image.header.refcountOrder, cluster % this.perPage, next)
    this.image.cache.touch(page)
    if (next !== 0) return next
    if (cluster < this.#next) this.#next = cluster
    const { clusterSize } = this.image.geometry
    if (Math.floor(this.#nextByte / clusterSize) === cluster) this.#nextByte = 0
    this.image.cache.drop(cluster * clusterSize, clusterSize)
    return next
  }

  /** Takes back what `update` did to the clusters from `first` to before `end`. */
  async #undo(first: number, end: number, change: number): Promise<void> {
    for (let cluster = first; cluster < end; cluster++) {
      const found = this.pageOf(cluster)
      if (found !== undefined) this.#change(found instanceof Promise ? await found : found, cluster, -change)
    }
  }

  /** Finds `clusters` free clusters in a row, from the lowest that may be free; they are not counted yet. */
  async #find(clusters: number): Promise<number> {
    const { clusterSize } = this.image.geometry
    for (let run = 0; run < clusters; ) {
      const found = this.pageOf(this.#next)
      const page = found instanceof Promise ? await found : found
      const left = this.perPage - (this.#next % this.perPage)
      if (page === undefined) {
        // Nothing is counted here at all.
        const step = Math.min(left, clusters - run)
        run += step
        this.#next += step
        continue
      }
      for (let i = 0; i < left && run < clusters; i++) run = this.inPage(page, this.#next++) === 0 ? run + 1 : 0
    }
    const offset = (this.#next - clusters) * clusterSize
    if (this.#next * clusterSize > Number.MAX_SAFE_INTEGER) {
      throw fault(this.image, 'limit', 'File too large', 'host offset', { value: offset, rule: 'at most 2^53 − 1' })
    }
    this.#guard.check(offset, clusters * clusterSize)
    return offset
  }

  /** Makes the refcount block that counts `cluster`. */
  async #makeBlock(cluster: number): Promise<void> {
    this.#store.debugEvent?.('refblock_alloc')
    const { geometry, cache } = this.image
    const { clusterSize, refcountsPerBlock } = geometry
    const index = Math.floor(cluster / refcountsPerBlock)
    const block = await this.#find(1)
    if (block === 0) throw this.#corruptZero('refcount block')
    const blockCluster = block / clusterSize
    if (Math.floor(blockCluster / refcountsPerBlock) === index) {
      // The block counts itself.
      this.#freshBlock(block)
      const inBlock = blockCluster % refcountsPerBlock
      const page = await cache.load(block + Math.floor(inBlock / this.perPage) * geometry.pageSize, 'refcount')
      setCountAt(page.bytes, page.view, this.image.header.refcountOrder, blockCluster % this.perPage, 1)
      cache.touch(page)
    } else {
      // Counted by another block, which may have to be made in turn; that ends at one that counts itself.
      if (!(await this.update(block, clusterSize, 1))) return
      this.#freshBlock(block)
    }
    try {
      await this.#hookBlock(index, block, cluster)
    } catch (error) {
      if (this.table[index] !== block) this.#forgetBlock(block)
      throw error
    }
  }

  /** Writes a new refcount block, and points the table at it. */
  async #hookBlock(index: number, block: number, cluster: number): Promise<void> {
    const { geometry, cache } = this.image
    const { clusterSize, refcountsPerBlock } = geometry
    const blockCluster = block / clusterSize
    await cache.writeBack('refcount', this.#store)
    await this.#store.flush()
    if (index < this.table.length) {
      const entry = new Uint8Array(8)
      setU64be(viewOf(entry), 0, block)
      this.#store.debugEvent?.('refblock_alloc_hookup')
      await this.#store.write(this.image.header.refcountTableOffset + index * 8, entry)
      this.table[index] = block
      return
    }
    // A larger table is needed. It goes, with blocks of its own, behind everything that the blocks so far can count.
    const blocksUsed = divideUp(Math.max(cluster + 1, blockCluster), refcountsPerBlock)
    await this.buildArea(blocksUsed * refcountsPerBlock * clusterSize, 0, false, { index, block })
  }

  #freshBlock(block: number): void {
    const { clusterSize, pageSize } = this.image.geometry
    this.#guard.addBlock(block)
    for (let at = 0; at < clusterSize; at += pageSize) this.image.cache.fresh(block + at, 'refcount')
  }

  /** A new block was not written, or nothing in memory points at it: its place is looked at again. Where another block counts it, it stays counted: the file may point at it. */
  #forgetBlock(block: number): void {
    const { clusterSize } = this.image.geometry
    this.#guard.removeBlock(block)
    this.image.cache.drop(block, clusterSize)
    this.#next = Math.min(this.#next, block / clusterSize)
  }

  /** Builds a new refcount table at `start`, behind the blocks it needs to count itself and `additional` clusters, and switches the header to
   *  it. Nothing may be in use from `start` on. Returns the first byte behind the new structures. */
  async buildArea(
    start: number,
    additional: number,
    exact: boolean,
    hooked?: { index: number; block: number },
  ): Promise<number> {
    const { image } = this
    this.#store.debugEvent?.('reftable_grow')
    const { clusterSize, refcountsPerBlock, refcountBits } = image.geometry
    const needed = refcountMetadataSize(start / clusterSize + additional, clusterSize, refcountBits, !exact)
    const entries = roundUp(exact ? needed.blocks : needed.blocks + divideUp(needed.blocks, 2), clusterSize / 8)
    if (entries * 8 > bounds.refcountTableBytes) {
      throw fault(image, 'limit', 'File too large', 'refcount table', {
        value: entries * 8,
        rule: `at most ${bounds.refcountTableBytes} bytes`,
      })
    }
    const table = new Float64Array(entries)
    table.set(this.table.subarray(0, Math.min(entries, this.table.length)))
    if (hooked !== undefined) table[hooked.index] = hooked.block
    const firstIndex = Math.floor(start / clusterSize / refcountsPerBlock)
    const fresh: number[] = []
    let missing = 0
    for (let index = firstIndex; index < needed.blocks; index++) if (table[index] === 0) missing++
    const tableOffset = start + missing * clusterSize
    const end = tableOffset + entries * 8
    try {
      let blockOffset = start
      for (let index = firstIndex; index < needed.blocks; index++) {
        if (table[index] === 0) {
          this.#freshBlock(blockOffset)
          fresh.push(blockOffset)
          table[index] = blockOffset
          blockOffset += clusterSize
        }
        await this.#countArea(table, index, start / clusterSize, end / clusterSize)
      }
      await image.cache.writeBack('refcount', this.#store)
      const bytes = new Uint8Array(entries * 8)
      const view = viewOf(bytes)
      for (let i = 0; i < entries; i++) setU64be(view, i * 8, table[i] ?? 0)
      this.#store.debugEvent?.('refblock_alloc_write_table')
      await this.#store.write(tableOffset, bytes)
      await this.#store.flush()
      const header = new Uint8Array(12)
      setU64be(viewOf(header), 0, tableOffset)
      viewOf(header).setUint32(8, (entries * 8) / clusterSize)
      this.#store.debugEvent?.('refblock_alloc_switch_table')
      await this.#store.write(field.refcountTableOffset, header)
      await this.#store.flush()
    } catch (error) {
      for (const offset of fresh) this.#forgetBlock(offset)
      throw error
    }
    const old = { offset: image.header.refcountTableOffset, length: this.table.length * 8 }
    this.table = table
    image.header.refcountTableOffset = tableOffset
    image.header.refcountTableClusters = (entries * 8) / clusterSize
    this.#guard.moved()
    await this.update(old.offset, old.length, -1)
    return end
  }

  /** Counts the clusters from `first` to before `end`, as far as block `index` of `table` covers them, as used once. */
  async #countArea(table: Float64Array, index: number, first: number, end: number): Promise<void> {
    const { image } = this
    const { refcountsPerBlock, pageSize } = image.geometry
    const base = index * refcountsPerBlock
    const stop = Math.min(end - base, refcountsPerBlock)
    for (let at = Math.max(0, first - base); at < stop; at++) {
      const offset = (table[index] ?? 0) + Math.floor(at / this.perPage) * pageSize
      const page = await image.cache.load(offset, 'refcount')
      setCountAt(page.bytes, page.view, image.header.refcountOrder, at % this.perPage, 1)
      image.cache.touch(page)
    }
  }

  #corruptZero(what: string): Error {
    return fault(this.image, 'corrupt', `Preventing invalid allocation of ${what} at offset 0`, 'refcount', {
      rule: 'the header cluster is in use',
    })
  }

  #overflow(cluster: number, count: number, change: number): Error {
    // Too many references are the image's own narrow counts; too few are damage.
    const kind = change > 0 ? 'limit' : 'corrupt'
    return fault(this.image, kind, `reference count of cluster ${cluster} leaves its range`, 'refcount', {
      value: `${count} ${change < 0 ? '−' : '+'} ${Math.abs(change)}`,
      rule: `0 to ${this.#max}`,
      code: 'EINVAL',
    })
  }
}
