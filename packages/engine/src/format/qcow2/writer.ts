/** Changing the metadata of an open image, in an order that a power cut at any moment survives: counts before pointers, data before the
 *  entries that show it, pointers gone before counts drop. */

import { setU64be, viewOf } from '../../bytes/integers.ts'
import type { ByteStore } from '../../core/index.ts'
import { encodeHeader } from './header.ts'
import { switchHeader } from './header-switch.ts'
import { fault, hasDataFile, L1Table, type Qcow2Image } from './image.ts'
import { entry, field, type Header, hexOf, incompatible, knownAutoclear, readPackedSpan } from './layout.ts'
import type { Page } from './metadata-cache.ts'
import { MetadataGuard } from './metadata-guard.ts'
import { type HostRange, Refcounts } from './refcounts.ts'

/** An L2 entry: where it stands in memory. */
export interface EntryPlace {
  page: Page
  /** Byte offset within the page. */
  at: number
}

/** The writing side of an image. Its methods must be called one at a time. */
export class Qcow2Writer {
  readonly image: Qcow2Image
  readonly store: ByteStore
  readonly refcounts: Refcounts
  readonly guard: MetadataGuard
  readonly #dirtyL1 = new Set<number>()
  /** Ranges that nothing points to any more; their counts drop once the pointers are gone from the file. */
  #frees: HostRange[] = []
  /** Host bytes from here on were not in the file when it was opened. */
  readonly #cleanFrom: number
  /** The file must be at least this long. */
  #reach = 0

  private constructor(image: Qcow2Image, store: ByteStore, guard: MetadataGuard, refcounts: Refcounts) {
    this.image = image
    this.store = store
    this.guard = guard
    this.refcounts = refcounts
    this.#cleanFrom = store.kind === 'device' ? Number.POSITIVE_INFINITY : store.size
  }

  static async open(image: Qcow2Image, store: ByteStore): Promise<Qcow2Writer> {
    const guard = new MetadataGuard(image)
    return new Qcow2Writer(image, store, guard, await Refcounts.openForWriting(image, store, guard))
  }

  /** Whether a host range just allocated is known to read as zeros. The file will reach to the end of its first `used` bytes, whatever is
   *  written of them. */
  takeClean(offset: number, used: number): boolean {
    this.#reach = Math.max(this.#reach, offset + used)
    return offset >= Math.max(this.#cleanFrom, this.refcounts.freedUpTo)
  }

  /** The L2 entry of a guest offset, in a table that belongs to the active L1 alone; the table is made or copied first if need be. */
  async entryOf(guestOffset: number): Promise<EntryPlace> {
    const { geometry, l1, cache } = this.image
    if (cache.crowded) await this.writeBack()
    const index = Math.floor(guestOffset / geometry.l2Cover)
    if (index >= l1.size)
      throw fault(this.image, 'invalid', 'the offset is past the L1 table', 'offset', { value: guestOffset })
    const old = l1.l2Offset(index)
    if (!Number.isSafeInteger(old)) {
      throw fault(this.image, 'corrupt', `L2 table offset ${hexOf(old)} is past what a file can have`, 'L1 entry', {
        value: hexOf(old),
        rule: 'below 2^53',
      })
    }
    if (old === 0 || !l1.isCopied(index)) await this.#ownTable(index)
    const entryOffset = Math.floor((guestOffset % geometry.l2Cover) / geometry.clusterSize) * geometry.l2EntrySize
    const at = entryOffset % geometry.pageSize
    return { page: await cache.load(l1.l2Offset(index) + entryOffset - at, 'l2'), at }
  }

  async #ownTable(index: number): Promise<void> {
    const { geometry, l1, cache } = this.image
    const { clusterSize, pageSize } = geometry
    const old = l1.l2Offset(index)
    const offset = await this.refcounts.allocate(clusterSize)
    this.takeClean(offset, clusterSize)
    for (let at = 0; at < clusterSize; at += pageSize) {
      const source = old === 0 ? undefined : await cache.load(old + at, 'l2')
      const page = cache.fresh(offset + at, 'l2')
      if (source !== undefined) page.bytes.set(source.bytes)
    }
    l1.set(index, offset)
    this.guard.removeTable(old)
    this.guard.addTable(offset)
    this.#dirtyL1.add(index)
    if (old !== 0) this.free(old, clusterSize)
  }

  /** Sets a standard entry, or the first half of an extended one. */
  setEntry({ page, at }: EntryPlace, upper: number, lower: number): void {
    page.view.setUint32(at, upper)
    page.view.setUint32(at + 4, lower)
    this.image.cache.touch(page)
  }

  /** Gives up what an entry points to (its cluster, its share of packed clusters), once the entry has changed. */
  freeEntry(upper: number, lower: number): void {
    const { geometry } = this.image
    if (hasDataFile(this.image)) return
    if ((upper & entry.compressed) !== 0) {
      const { offset, length } = readPackedSpan(upper, lower, geometry.clusterBits)
      this.free(offset, length)
      return
    }
    const host = (upper & entry.offsetHigh) * 0x1_0000_0000 + ((lower & entry.offsetLow) >>> 0)
    if (host !== 0) this.free(host, geometry.clusterSize)
  }

  /** Drops one reference to every cluster that the range touches, after the next write-back. */
  free(offset: number, length: number): void {
    this.#frees.push({ offset, length })
  }

  /** Takes back an allocation that nothing ever pointed to. */
  async abandon(offset: number, length: number): Promise<void> {
    await this.refcounts.update(offset, length, -1)
  }

  /** Marks an L1 entry as changed. */
  touchL1(index: number): void {
    this.#dirtyL1.add(index)
  }

  /** Writes the changed metadata: counts, barrier (with the data), L2 tables, barrier, L1 entries, barrier, and only then the counts that
   *  drop. The barriers cost nothing where the store was opened as unsafe. */
  async writeBack(): Promise<void> {
    const { cache, data } = this.image
    if (this.guard.tripped) await this.#markCorrupt()
    if (this.store.kind !== 'device' && this.store.size < this.#reach) await this.store.resize(this.#reach)
    await cache.writeBack('refcount', this.store)
    await this.store.flush()
    if (data !== this.image.file && 'flush' in data) await (data as ByteStore).flush()
    const tables = await cache.writeBack('l2', this.store)
    if (this.#dirtyL1.size > 0) {
      if (tables > 0) await this.store.flush()
      await this.#writeL1()
    } else if (tables === 0 && this.#frees.length === 0) return
    await this.store.flush()
    const frees = this.#frees
    this.#frees = []
    const freed: HostRange[] = []
    if (frees.length > 0) this.store.debugEvent?.('cluster_free')
    for (const { offset, length } of frees) await this.refcounts.update(offset, length, -1, freed)
    await this.giveBack(freed)
    if (frees.length > 0) await cache.writeBack('refcount', this.store)
  }

  /** An overlap was found: version 3 can say so, and nobody writes the image before it is repaired. */
  async #markCorrupt(): Promise<void> {
    const { header } = this.image
    if (header.version < 3 || (header.incompatibleFeatures & incompatible.corrupt) !== 0n) return
    header.incompatibleFeatures |= incompatible.corrupt
    await this.writeFeatures()
  }

  /** Gives the space of clusters that were just freed back to the host. */
  async giveBack(freed: readonly HostRange[]): Promise<void> {
    for (const { offset, length } of freed) {
      if (offset < this.store.size) await this.store.discard(offset, Math.min(length, this.store.size - offset))
    }
  }

  async #writeL1(): Promise<void> {
    const { l1 } = this.image
    const indexes = [...this.#dirtyL1].sort((a, b) => a - b)
    this.#dirtyL1.clear()
    for (let i = 0; i < indexes.length; ) {
      const first = indexes[i] as number
      let end = first + 1
      for (i++; indexes[i] === end; i++) end++
      try {
        this.store.debugEvent?.('l1_update')
        await this.store.write(l1.offset + first * 8, l1.bytes.slice(first * 8, end * 8))
      } catch (error) {
        for (const index of indexes) this.#dirtyL1.add(index)
        throw error
      }
    }
  }

  /** Gives the image another header with its extensions, while it is in use. What the old one pointed to and the new one does not can be
   *  freed afterwards. */
  async replaceHeader(header: Header): Promise<void> {
    header.autoclearFeatures &= knownAutoclear
    await switchHeader(this.store, header, encodeHeader(header, this.image.file.name))
    Object.assign(this.image.header, header)
  }

  /** Writes the header of an image that is being made, with its extensions. */
  async writeHeader(): Promise<void> {
    const { header } = this.image
    header.autoclearFeatures &= knownAutoclear
    await this.store.write(0, encodeHeader(header, this.image.file.name))
  }

  /** Writes the three 64-bit feature words. */
  async writeFeatures(): Promise<void> {
    const { header } = this.image
    const bytes = new Uint8Array(24)
    const view = viewOf(bytes)
    view.setBigUint64(0, header.incompatibleFeatures)
    view.setBigUint64(8, header.compatibleFeatures)
    view.setBigUint64(16, header.autoclearFeatures)
    await this.store.write(field.incompatibleFeatures, bytes)
  }

  /** Writes the virtual size. */
  async writeSize(size: number): Promise<void> {
    const bytes = new Uint8Array(8)
    setU64be(viewOf(bytes), 0, size)
    await this.store.write(field.size, bytes)
    this.image.header.size = size
    this.image.size = size
  }

  /** Gives the active L1 table at least `entries` entries, in a new place; the old one is freed. */
  async growL1(entries: number): Promise<void> {
    const { l1, header } = this.image
    if (entries <= l1.size) return
    if (entries * 8 > 32 * 1024 * 1024) {
      throw fault(this.image, 'limit', 'Failed to grow the L1 table: File too large', 'l1_size', {
        value: entries,
        rule: 'at most 32 MiB of entries',
      })
    }
    await this.writeBack()
    const bytes = new Uint8Array(entries * 8)
    bytes.set(l1.bytes)
    const offset = await this.refcounts.allocate(bytes.length)
    await this.image.cache.writeBack('refcount', this.store)
    await this.store.write(offset, bytes)
    await this.store.flush()
    await this.switchL1(new L1Table(offset, bytes))
    if (l1.size > 0 && l1.offset > 0) await this.refcounts.update(l1.offset, l1.bytes.length, -1)
    header.l1Size = entries
  }

  /** Cuts the file behind the last cluster in use. */
  async cutFile(): Promise<void> {
    if (this.store.kind === 'device') return
    const { clusterSize } = this.image.geometry
    let clusters = Math.ceil(this.store.size / clusterSize)
    for (; clusters > 0; clusters--) {
      const found = this.refcounts.get(clusters - 1)
      if ((found instanceof Promise ? await found : found) > 0) break
    }
    this.#reach = Math.min(this.#reach, clusters * clusterSize)
    if (clusters * clusterSize < this.store.size) await this.store.resize(clusters * clusterSize)
  }

  /** Points the header at another active L1 table, which is in the file already. */
  async switchL1(table: L1Table): Promise<void> {
    const bytes = new Uint8Array(12)
    const view = viewOf(bytes)
    view.setUint32(0, table.size)
    setU64be(view, 4, table.offset)
    await this.store.write(field.l1Size, bytes)
    await this.store.flush()
    this.#dirtyL1.clear()
    this.image.l1 = table
    this.image.header.l1Size = table.size
    this.image.header.l1TableOffset = table.offset
    this.guard.switched()
  }
}
