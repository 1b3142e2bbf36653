/** The shared state of one open VHD with blocks: footer, header, table, sector bitmaps. */
import { roundUp } from '../../bytes/integers.ts'
import { isZero } from '../../bytes/zero.ts'
import { type ByteSource, type ByteStore, readPadded } from '../../core/index.ts'
import { BlockTable } from '../block-table.ts'
import type { OpenContext } from '../format.ts'
import {
  type DynamicHeader,
  diskType,
  type Footer,
  footerBytes,
  headerBytes,
  locatorEntries,
  noBlock,
  parseDynamicHeader,
  sectorBytes,
  vhdFault,
} from './layout.ts'
import { reverseBits, type SectorBitmap, sectorBitmap } from './sector-bitmap.ts'
import { virtualSizeOf } from './size.ts'

/** Tables up to this many entries are looked through when an image is opened, as QEMU does: a file that was cut is refused then. */
const scannedEntries = 1024 * 1024
/** Blocks whose bitmaps are read at once. */
const readAhead = 32
/** Bytes of sector bitmaps that are kept. */
const bitmapCacheBytes = 4 * 1024 * 1024

/** An image with blocks. */
export class VhdImage {
  readonly file: ByteSource
  readonly context: OpenContext
  readonly footer: Footer
  readonly header: DynamicHeader
  table: BlockTable
  /** Virtual size in bytes. */
  size: number
  /** Bytes of the bitmap before each block. */
  readonly bitmapBytes: number
  /** Bitmaps that were read or changed, by the sector they stand in; the one used longest ago comes first. */
  readonly #bitmaps = new Map<number, SectorBitmap>()
  /** Those that are not in the file yet. */
  readonly #changed = new Map<number, SectorBitmap>()
  readonly #loading = new Map<number, Promise<SectorBitmap>>()
  readonly #fullBytes: Uint8Array
  readonly #emptyBytes: Uint8Array
  /** What bitmaps are read into. */
  readonly #spare: Uint8Array[] = []
  /** Where the next bitmap is asked for when blocks are read in order. */
  #expected = -1

  private constructor(file: ByteSource, context: OpenContext, footer: Footer, header: DynamicHeader) {
    this.file = file
    this.context = context
    this.footer = footer
    this.header = header
    this.bitmapBytes = roundUp(Math.ceil(header.blockSize / sectorBytes / 8), sectorBytes)
    this.size = virtualSizeOf(footer, header.entries * header.blockSize, context.vhdSize)
    this.table = this.#newTable()
    this.#fullBytes = new Uint8Array(this.bitmapBytes).fill(0xff)
    this.#emptyBytes = new Uint8Array(this.bitmapBytes)
  }

  #newTable(): BlockTable {
    const { tableOffset: offset, entries } = this.header
    const { cacheBytes } = this.context.limits
    return new BlockTable(this.file, { offset, entries, order: 'big', cacheBytes })
  }

  /** Takes the table as the header says now; all of it is in the file. */
  renewTable(): void {
    this.table = this.#newTable()
  }

  /** Reads the header that the footer names, and checks both against the file. The words are QEMU's where it has them.
   *  @throws MoraineError `corrupt`, `invalid`, `unsupported`, `limit`, naming the field. */
  static async open(file: ByteSource, context: OpenContext, footer: Footer): Promise<VhdImage> {
    const path = file.name
    const { dataOffset } = footer
    // Of a header that is cut off, what is there is looked at first, as in QEMU.
    if (dataOffset >= file.size) {
      const place = { field: 'data_offset', value: dataOffset, rule: `a header within ${file.size} bytes` }
      throw vhdFault(path, 'corrupt', 'Error reading dynamic VHD header', place)
    }
    const bytes = new Uint8Array(headerBytes)
    await readPadded(file, dataOffset, bytes)
    const header = parseDynamicHeader(bytes, path)
    if (!header.sound) context.warn(`${path}: the checksum of the dynamic header is wrong`, 'advice')
    const image = new VhdImage(file, context, footer, header)
    const { tableOffset, entries, blockSize } = header
    if (image.size > context.limits.virtualSize) {
      const rule = `at most ${context.limits.virtualSize} bytes`
      throw vhdFault(path, 'limit', 'Image is too big', { field: 'current_size', value: image.size, rule })
    }
    if (entries * blockSize < image.size) {
      const place = { field: 'max_table_entries', value: entries, rule: `blocks for ${image.size} bytes` }
      throw vhdFault(path, 'invalid', 'Page table too small', place)
    }
    // Of a file that ends there, what the blocks say comes first, as in QEMU.
    if (tableOffset + entries * 4 > file.size) {
      if (entries <= scannedEntries) image.#refuseCut(await image.lastBlockEnd())
      const place = { field: 'table_offset', value: tableOffset, rule: `a table within ${file.size} bytes` }
      throw vhdFault(path, 'corrupt', 'Error reading pagetable', place)
    }
    const end = dataOffset + headerBytes
    if (entries > 0 && (tableOffset < footerBytes || (tableOffset < end && tableOffset + entries * 4 > dataOffset))) {
      const place = { field: 'table_offset', value: tableOffset, rule: 'a table behind footer and header' }
      throw vhdFault(path, 'corrupt', 'the block allocation table lies over the header', place)
    }
    if (context.purpose !== 'check' && entries <= scannedEntries) image.#refuseCut(await image.lastBlockEnd())
    return image
  }

  /** @throws MoraineError `corrupt` when blocks end at `end` and the file before. */
  #refuseCut(end: number): void {
    if (end <= this.file.size) return
    throw vhdFault(
      this.file.name,
      'corrupt',
      'block-vpc: free_data_block_offset points after the end of file. The image has been truncated.',
      { field: 'table entry', value: end, rule: `blocks within ${this.file.size} bytes` },
    )
  }

  get isDifferencing(): boolean {
    return this.footer.type === diskType.differencing
  }

  /** Bytes of a block with its bitmap. */
  get stride(): number {
    return this.bitmapBytes + this.header.blockSize
  }

  /** Where the header and the table end, whichever comes later. */
  get tableEnd(): number {
    const { tableOffset, entries } = this.header
    return Math.max(this.footer.dataOffset + headerBytes, tableOffset + entries * 4)
  }

  /** Where all structures end that lie before or between blocks: header, table, locators. */
  get metadataEnd(): number {
    let end = this.tableEnd
    for (const { offset, length } of locatorEntries(this.header)) {
      if (offset + length <= this.file.size) end = Math.max(end, offset + length)
    }
    return Math.max(end, this.#batmapEnd(end))
  }

  /** XenServer keeps a map of full blocks behind the table: a header of a sector, and what it says. */
  #batmapEnd(end: number): number {
    // Its map has a bit for each entry; a sector for the header.
    if (!this.footer.creator.startsWith('tap')) return end
    return roundUp(end, sectorBytes) + sectorBytes + roundUp(Math.ceil(this.header.entries / 8), sectorBytes)
  }

  /** Where a new block may lie: behind all blocks and other structures, on a sector.
   *  @throws MoraineError `corrupt` when a block passes the end of the file. */
  async firstFree(): Promise<number> {
    const end = await this.lastBlockEnd()
    this.#refuseCut(end)
    return roundUp(Math.max(this.metadataEnd, end), sectorBytes)
  }

  /** Where the last block ends in the file; 0 without blocks. */
  async lastBlockEnd(): Promise<number> {
    let last = -1
    for await (const { entries } of this.table.all(undefined, true)) {
      for (const sector of entries) if (sector !== noBlock && sector > last) last = sector
    }
    return last < 0 ? 0 : last * sectorBytes + this.stride
  }

  /** Byte offset of a block's first sector in the file.
   *  @throws MoraineError `corrupt` when the block does not lie in the file. */
  hostOf(sector: number): number {
    const start = sector * sectorBytes
    if (start + this.bitmapBytes > this.file.size && !this.#changed.has(sector)) {
      throw vhdFault(this.file.name, 'corrupt', 'a block lies past the end of the file', {
        field: 'table entry',
        value: sector,
        rule: `a sector within ${this.file.size} bytes`,
      })
    }
    return start + this.bitmapBytes
  }

  /** The bitmap of the block at a sector, where it is in memory. */
  peekBitmap(sector: number): SectorBitmap | undefined {
    return this.#changed.get(sector) ?? this.#bitmaps.get(sector)
  }

  /** The bitmap of the block at a sector; those of the blocks that follow are read along when blocks are read in order. */
  async loadBitmap(block: number, sector: number): Promise<SectorBitmap> {
    const loading = this.#load(sector)
    if (block >= this.#expected && block < this.#expected + readAhead) this.#loadAfter(block)
    else this.#expected = block + 1
    return loading
  }

  #loadAfter(block: number): void {
    const end = Math.min(block + Math.min(readAhead, this.#mostBitmaps / 2), this.header.entries)
    let next = block + 1
    for (; next < end; next++) {
      const sector = this.table.peek(next)
      if (sector === undefined) break
      if (sector === noBlock || this.peekBitmap(sector) !== undefined) continue
      this.#load(sector).catch(() => {}) // It is asked for again in its turn.
    }
    this.#expected = next
  }

  #load(sector: number): Promise<SectorBitmap> {
    const running = this.#loading.get(sector)
    if (running !== undefined) return running
    const loading = this.#read(sector).finally(() => this.#loading.delete(sector))
    this.#loading.set(sector, loading)
    return loading
  }

  async #read(sector: number): Promise<SectorBitmap> {
    // Most are all set or all clear, and a disk has millions of them: what they are read into is used again.
    const bytes = this.#spare.pop() ?? new Uint8Array(this.bitmapBytes)
    await readPadded(this.file, sector * sectorBytes, bytes)
    if (this.#countsBackwards) reverseBits(bytes)
    const known = this.peekBitmap(sector)
    const bitmap = known ?? this.#bitmapOf(bytes)
    if (this.#spare.length < readAhead) this.#spare.push(bytes)
    if (known === undefined) this.#keep(sector, bitmap)
    return bitmap
  }

  /** A bitmap of these bytes, which stay the caller's. */
  #bitmapOf(bytes: Uint8Array): SectorBitmap {
    const sectors = this.header.blockSize / sectorBytes
    const { full } = sectorBitmap(bytes, sectors)
    if (full) return { bytes: this.#fullBytes, full }
    // A writer changes bitmaps that are not full where they are.
    const isShared = this.context.mode !== 'write' && isZero(bytes)
    return { bytes: isShared ? this.#emptyBytes : bytes.slice(), full }
  }

  #keep(sector: number, bitmap: SectorBitmap): void {
    this.#bitmaps.set(sector, bitmap)
    for (const old of this.#bitmaps.keys()) {
      if (this.#bitmaps.size <= this.#mostBitmaps) break
      this.#bitmaps.delete(old)
    }
  }

  get #mostBitmaps(): number {
    return Math.max(8, Math.floor(bitmapCacheBytes / this.bitmapBytes))
  }

  /** Creator 0.1 of XenServer. */
  get #countsBackwards(): boolean {
    return this.footer.creator === 'tap\0' && this.footer.creatorVersion === 1
  }

  /** The bitmap of a new block: every sector is there, or none. */
  newBitmap(sector: number, full: boolean): SectorBitmap {
    const bitmap = { bytes: full ? this.#fullBytes : new Uint8Array(this.bitmapBytes), full }
    this.#changed.set(sector, bitmap)
    return bitmap
  }

  /** Says that a bitmap differs from the file. */
  touchBitmap(sector: number, bitmap: SectorBitmap): void {
    this.#changed.set(sector, bitmap)
    this.#bitmaps.delete(sector)
  }

  /** How many bitmaps are not in the file yet. */
  get changedBitmaps(): number {
    return this.#changed.size
  }

  /** Writes the changed bitmaps. The sectors they speak of must have reached the disk. */
  async writeBitmaps(store: ByteStore): Promise<void> {
    const batch: Promise<void>[] = []
    const results: PromiseSettledResult<void>[] = []
    for (const [sector, bitmap] of [...this.#changed]) {
      batch.push(this.#writeBitmap(store, sector, bitmap))
      if (batch.length >= 8) results.push(...(await Promise.allSettled(batch.splice(0))))
    }
    results.push(...(await Promise.allSettled(batch)))
    for (const result of results) if (result.status === 'rejected') throw result.reason
  }

  async #writeBitmap(store: ByteStore, sector: number, bitmap: SectorBitmap): Promise<void> {
    const bytes = this.#countsBackwards ? bitmap.bytes.slice() : bitmap.bytes
    if (bytes !== bitmap.bytes) reverseBits(bytes)
    await store.write(sector * sectorBytes, bytes)
    this.#changed.delete(sector)
    this.#keep(sector, bitmap)
  }

  /** Forgets what is in memory; the file was changed by other means. */
  clear(): void {
    this.table.clear()
    this.#bitmaps.clear()
    this.#changed.clear()
  }
}
