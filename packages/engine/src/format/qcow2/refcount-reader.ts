/** Reading reference counts: the table, and counts of any width within a block. Source: qcow2.txt, "Host cluster management". */

import { u64be, viewOf } from '../../bytes/integers.ts'
import { eachNonZero } from '../../bytes/zero.ts'
import { readPadded } from '../../core/index.ts'
import type { Qcow2Image } from './image.ts'
import { fault } from './image.ts'
import { hexOf } from './layout.ts'
import type { Page } from './metadata-cache.ts'

/** The count at `index` of a run of counts that begins at byte 0 of `bytes`. Widths under 8 are packed from the least significant bit. */
export function countAt(bytes: Uint8Array, view: DataView, order: number, index: number): number {
  switch (order) {
    case 4:
      return view.getUint16(index * 2)
    case 3:
      return bytes[index] ?? 0
    case 5:
      return view.getUint32(index * 4)
    case 6:
      return view.getUint32(index * 8) * 0x1_0000_0000 + view.getUint32(index * 8 + 4)
    default: {
      const perByte = 8 >> order
      const width = 1 << order
      return ((bytes[Math.floor(index / perByte)] ?? 0) >>> ((index % perByte) * width)) & ((1 << width) - 1)
    }
  }
}

/** Sets the count at `index`. */
export function setCountAt(bytes: Uint8Array, view: DataView, order: number, index: number, value: number): void {
  switch (order) {
    case 4:
      view.setUint16(index * 2, value)
      return
    case 3:
      bytes[index] = value
      return
    case 5:
      view.setUint32(index * 4, value)
      return
    case 6:
      view.setUint32(index * 8, Math.floor(value / 0x1_0000_0000))
      view.setUint32(index * 8 + 4, value % 0x1_0000_0000)
      return
    default: {
      const perByte = 8 >> order
      const width = 1 << order
      const at = Math.floor(index / perByte)
      const shift = (index % perByte) * width
      const mask = ((1 << width) - 1) << shift
      bytes[at] = ((bytes[at] ?? 0) & ~mask) | (value << shift)
    }
  }
}

/** Looks up stored reference counts. */
export class RefcountReader {
  protected readonly image: Qcow2Image
  /** Block offsets by index; 0 means that all counts are zero. */
  table: Float64Array
  /** Counts in one page of a block. */
  protected readonly perPage: number

  protected constructor(image: Qcow2Image, table: Float64Array) {
    this.image = image
    this.table = table
    this.perPage = (image.geometry.pageSize * 8) / image.geometry.refcountBits
  }

  /** Reads the refcount table (at most 8 MiB). */
  static async readTable(image: Qcow2Image): Promise<Float64Array> {
    const { header, geometry, file } = image
    const bytes = new Uint8Array(header.refcountTableClusters * geometry.clusterSize)
    const there = Math.max(0, Math.min(bytes.length, file.size - header.refcountTableOffset))
    if (there > 0) await readPadded(file, header.refcountTableOffset, bytes)
    const view = viewOf(bytes)
    const table = new Float64Array(bytes.length / 8)
    // (Minus zero has no bit of an offset.)
    eachNonZero(new Float64Array(bytes.buffer), (i) => {
      const offset = u64be(view, i * 8)
      table[i] = offset - (offset % 512)
    })
    return table
  }

  /** Opens the counts of an image for reading. */
  static async open(image: Qcow2Image): Promise<RefcountReader> {
    return new RefcountReader(image, await RefcountReader.readTable(image))
  }

  /** The count of a cluster; at once when its page is in memory.
   *  @throws MoraineError `corrupt` when the block's offset is unaligned. */
  get(cluster: number): number | Promise<number> {
    const page = this.pageOf(cluster)
    if (page === undefined) return 0
    if (page instanceof Promise) return page.then((loaded) => this.inPage(loaded, cluster))
    return this.inPage(page, cluster)
  }

  /** The page that holds a cluster's count, undefined where no block exists. */
  pageOf(cluster: number): Page | Promise<Page> | undefined {
    const { refcountsPerBlock, pageSize } = this.image.geometry
    const index = Math.floor(cluster / refcountsPerBlock)
    const block = index < this.table.length ? (this.table[index] ?? 0) : 0
    if (block === 0) return undefined
    if (block % this.image.geometry.clusterSize !== 0 || !Number.isSafeInteger(block)) return this.#refuseBlock(index)
    const inBlock = cluster - index * refcountsPerBlock
    return this.image.cache.load(block + Math.floor(inBlock / this.perPage) * pageSize, 'refcount')
  }

  /** @throws MoraineError `corrupt` with the offset as the file has it: it may be one that no number holds. */
  async #refuseBlock(index: number): Promise<never> {
    const { header, file } = this.image
    const bytes = new Uint8Array(8)
    await readPadded(file, header.refcountTableOffset + index * 8, bytes)
    const offset = viewOf(bytes).getBigUint64(0) & ~0x1ffn
    const aligned = offset % BigInt(this.image.geometry.clusterSize) === 0n
    throw fault(
      this.image,
      'corrupt',
      `Refblock offset 0x${offset.toString(16)} ${aligned ? 'is past 2^53 - 1' : 'unaligned'} (reftable index: ${hexOf(index)})`,
      'refcount table entry',
      { value: `0x${offset.toString(16)}`, rule: 'a multiple of the cluster size below 2^53' },
    )
  }

  /** The count of a cluster within its page. */
  inPage(page: Page, cluster: number): number {
    return countAt(page.bytes, page.view, this.image.header.refcountOrder, cluster % this.perPage)
  }
}
