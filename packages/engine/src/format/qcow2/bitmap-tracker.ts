/** Keeping persistent dirty bitmaps right while the guest's bytes change: marked as in use before the first change, stored at the end. */

import { setU64be, u64be, viewOf } from '../../bytes/integers.ts'
import { readPadded } from '../../core/index.ts'
import { clearBitsFrom, readBitmapPart, setBits } from './bitmap-bits.ts'
import { type BitmapEntry, bitmapFlag, encodeBitmapDirectory } from './bitmap-directory.ts'
import { fault } from './image.ts'
import { knownAutoclear } from './layout.ts'
import type { Qcow2Writer } from './writer.ts'

/** The bits of one bitmap that were touched: whole clusters of it, by index. */
interface Tracked {
  entry: BitmapEntry
  table: DataView
  parts: Map<number, Uint8Array>
}

/** Follows the guest's writes in the enabled bitmaps of one image. Calls come one at a time. */
export class BitmapTracker {
  readonly #writer: Qcow2Writer
  #tracked: Tracked[] | undefined

  constructor(writer: Qcow2Writer) {
    this.#writer = writer
  }

  /** True once it is known that no write needs to be followed. */
  get quiet(): boolean {
    return this.#tracked !== undefined && this.#tracked.length === 0
  }

  /** Names of the bitmaps that are being followed. */
  names(): ReadonlySet<string> {
    return new Set(this.#tracked?.map(({ entry }) => entry.name))
  }

  /** Follows a change of guest bytes. */
  async mark(offset: number, length: number): Promise<void> {
    this.#tracked ??= await this.#start()
    for (const bitmap of this.#tracked) await this.#setBits(bitmap, offset, length)
  }

  /** Before the first change: what this engine does not know is no longer vouched for, and each bitmap is marked as in use. */
  async #start(): Promise<Tracked[]> {
    const { image, store } = this.#writer
    if ((image.header.autoclearFeatures & ~knownAutoclear) !== 0n) {
      image.header.autoclearFeatures &= knownAutoclear
      await this.#writer.writeFeatures()
    }
    const enabled = image.bitmapList.filter(
      ({ flags, type, extra }) =>
        type === 1 &&
        (flags & bitmapFlag.auto) !== 0 &&
        (flags & bitmapFlag.inUse) === 0 &&
        (extra.length === 0 || (flags & bitmapFlag.extraCompatible) !== 0),
    )
    if (enabled.length === 0) return []
    const tracked: Tracked[] = []
    for (const entry of enabled) {
      const bytes = new Uint8Array(entry.tableSize * 8)
      await readPadded(store, entry.tableOffset, bytes)
      tracked.push({ entry, table: viewOf(bytes), parts: new Map() })
      entry.flags |= bitmapFlag.inUse
    }
    await this.#writeDirectory()
    return tracked
  }

  async #writeDirectory(): Promise<void> {
    const { image, store } = this.#writer
    const { bitmaps } = image.header
    if (bitmaps === undefined) return
    await store.write(bitmaps.directoryOffset, encodeBitmapDirectory(image.bitmapList))
    await store.flush()
  }

  async #setBits(bitmap: Tracked, offset: number, length: number): Promise<void> {
    const { clusterSize } = this.#writer.image.geometry
    const unit = 2 ** bitmap.entry.granularityBits
    const perPart = clusterSize * 8
    const last = Math.floor((offset + length - 1) / unit)
    for (let bit = Math.floor(offset / unit); bit <= last; ) {
      const index = Math.floor(bit / perPart)
      const part = await this.#part(bitmap, index)
      const end = Math.min(last + 1, (index + 1) * perPart)
      setBits(part, bit % perPart, end - index * perPart)
      bit = end
    }
  }

  /** One cluster of a bitmap's bits, in memory. */
  async #part(bitmap: Tracked, index: number): Promise<Uint8Array> {
    const known = bitmap.parts.get(index)
    if (known !== undefined) return known
    const { image, store } = this.#writer
    const part = new Uint8Array(image.geometry.clusterSize)
    if (index * 8 >= bitmap.table.byteLength) {
      throw fault(image, 'corrupt', `the table of bitmap '${bitmap.entry.name}' is too short`, 'bitmap_table_size')
    }
    const { offset, ones } = readBitmapPart(image, bitmap.table, index, bitmap.entry.name)
    if (offset > 0) await readPadded(store, offset, part)
    else if (ones) part.fill(0xff)
    bitmap.parts.set(index, part)
    return part
  }

  /** Stores the bits that changed and takes the in-use marks away. The next change looks anew which bitmaps want to be followed. */
  async store(): Promise<void> {
    if (this.#tracked === undefined || this.#tracked.length === 0) {
      this.#tracked = undefined
      return
    }
    const { image, store, refcounts } = this.#writer
    const { clusterSize } = image.geometry
    for (const { entry, table, parts } of this.#tracked) {
      this.#clearTail(entry, parts)
      for (const [index, part] of parts) {
        const raw = u64be(table, index * 8)
        let offset = raw - (raw % 512)
        if (offset === 0) {
          offset = await refcounts.allocate(clusterSize)
          setU64be(table, index * 8, offset)
        }
        await store.write(offset, part)
      }
      await this.#writer.writeBack()
      await store.write(entry.tableOffset, new Uint8Array(table.buffer.slice(0)))
      entry.flags &= ~bitmapFlag.inUse
    }
    await store.flush()
    await this.#writeDirectory()
    this.#tracked = undefined
  }

  /** Bits past the disk's end are zero. */
  #clearTail(entry: BitmapEntry, parts: Map<number, Uint8Array>): void {
    const { geometry, size } = this.#writer.image
    const bits = Math.ceil(size / 2 ** entry.granularityBits)
    const perPart = geometry.clusterSize * 8
    const part = parts.get(Math.floor(bits / perPart))
    if (part !== undefined) clearBitsFrom(part, bits % perPart)
  }

  /** Fits every bitmap to a new size of the disk.
   *  @throws MoraineError `unsupported` when one of them cannot be trusted. */
  async resized(size: number): Promise<void> {
    const { image, store, refcounts } = this.#writer
    const { clusterSize } = image.geometry
    const followed = this.names()
    const broken = image.bitmapList.find(({ name, flags }) => (flags & bitmapFlag.inUse) !== 0 && !followed.has(name))
    if (broken !== undefined) {
      throw fault(image, 'unsupported', `Bitmap '${broken.name}' is inconsistent and cannot be used`, 'bitmap')
    }
    await this.store()
    for (const entry of image.bitmapList) {
      const needed = Math.ceil(Math.ceil(size / 2 ** entry.granularityBits) / 8 / clusterSize)
      const old = new Uint8Array(entry.tableSize * 8)
      await readPadded(store, entry.tableOffset, old)
      const table = new Uint8Array(Math.max(1, needed) * 8)
      table.set(old.subarray(0, table.length))
      for (let at = table.length; at < old.length; at += 8) {
        const raw = u64be(viewOf(old), at)
        if (raw >= 512) this.#writer.free(raw - (raw % 512), clusterSize)
      }
      await this.#cutTail(entry, viewOf(table), size)
      if (table.length === old.length) {
        await store.write(entry.tableOffset, table)
        continue
      }
      const offset = await refcounts.allocate(table.length)
      await store.write(offset, table)
      this.#writer.free(entry.tableOffset, old.length)
      entry.tableOffset = offset
      entry.tableSize = table.length / 8
    }
    if (image.bitmapList.length > 0) {
      await this.#writer.writeBack()
      await this.#writeDirectory()
    }
  }

  /** Clears the bits of the last cluster that lie past a new end. */
  async #cutTail(entry: BitmapEntry, table: DataView, size: number): Promise<void> {
    const { image, store } = this.#writer
    const { clusterSize } = image.geometry
    const perPart = clusterSize * 8
    const bits = Math.ceil(size / 2 ** entry.granularityBits)
    const index = Math.floor(bits / perPart)
    if (bits % perPart === 0 || (index + 1) * 8 > table.byteLength) return
    const raw = u64be(table, index * 8)
    if (raw === 0) return
    const part = new Uint8Array(clusterSize)
    if (raw >= 512) await readPadded(store, raw, part)
    else part.fill(0xff)
    clearBitsFrom(part, bits % perPart)
    let offset = raw
    if (raw < 512) {
      offset = await this.#writer.refcounts.allocate(clusterSize)
      setU64be(table, index * 8, offset)
    }
    await store.write(offset, part)
  }

  /** Everything may have changed: every bit of every enabled bitmap is set. */
  async markAll(): Promise<void> {
    const { size } = this.#writer.image
    if (size > 0) await this.mark(0, size)
  }
}
