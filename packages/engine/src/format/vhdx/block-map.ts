/** Where guest bytes lie: the block table, and the sector bitmaps of blocks that are there in part. Source: MS-VHDX 2.5. */
import { u64le } from '../../bytes/integers.ts'
import type { MappedRun as Run } from '../mapped-disk.ts'
import { bitmapPresent, blockState, lengths, mib, vhdxFault } from './layout.ts'
import type { Geometry } from './metadata.ts'
import { type MetadataPages, type Page, pageBytes } from './pages.ts'
import type { Region } from './regions.ts'
import { bitRun } from './sector-bits.ts'

/** One entry of the table. */
export interface Entry {
  state: number
  /** Byte offset in the file; Infinity past 2^53 − 1. */
  offset: number
}

/** Longest run, in bytes: what is asked for may be a whole disk of holes. */
const longestRun = 2 ** 40

/** The table of one image. */
export class BlockMap {
  readonly geometry: Geometry
  readonly pages: MetadataPages
  readonly #path: string
  readonly #table: Region
  readonly #size: number
  readonly #differencing: boolean
  readonly #fileSize: () => number
  /** What no block may lie over, by offset. */
  #taken: readonly Region[]

  constructor(options: {
    path: string
    table: Region
    taken: readonly Region[]
    geometry: Geometry
    size: number
    differencing: boolean
    pages: MetadataPages
    fileSize: () => number
  }) {
    this.#path = options.path
    this.#table = options.table
    this.#taken = options.taken
    this.geometry = options.geometry
    this.#size = options.size
    this.#differencing = options.differencing
    this.pages = options.pages
    this.#fileSize = options.fileSize
  }

  /** Where in the file the entry of a block stands. */
  entryOffset(block: number): number {
    return this.#table.offset + (block + Math.floor(block / this.geometry.perChunk)) * 8
  }

  /** Where in the file the entry of a sector bitmap stands. */
  bitmapEntryOffset(chunk: number): number {
    return this.#table.offset + ((chunk + 1) * this.geometry.perChunk + chunk) * 8
  }

  /** The entry at `offset` of a page that holds it. */
  entryIn(page: Page, offset: number): Entry {
    const at = offset - page.offset
    const state = page.view.getUint32(at, true) & 7
    const value = u64le(page.view, at)
    return { state, offset: Number.isFinite(value) ? value - (value % mib) : value }
  }

  /** What lies at `offset`, up to `length` bytes (more than 0); the run may be shorter. */
  resolve(offset: number, length: number): Run | Promise<Run> {
    const first = this.#piece(offset, length)
    if (first instanceof Promise) return first
    const most = Math.min(length, longestRun)
    while (first.length < most) {
      const next = this.#piece(offset + first.length, most - first.length)
      // Pages that are not there yet are waited for when they are asked for first.
      if (next instanceof Promise) {
        next.catch(() => {})
        break
      }
      if (next.kind !== first.kind) break
      if (next.kind === 'data' && next.host !== first.host + first.length) break
      first.length += next.length
    }
    return first
  }

  /** What lies at `offset`, up to the end of its block at most. */
  #piece(offset: number, length: number): Run | Promise<Run> {
    const block = Math.floor(offset / this.geometry.blockSize)
    const at = this.entryOffset(block)
    const page = this.pages.at(at)
    if (page instanceof Promise) return page.then(() => this.#piece(offset, length))
    const inBlock = offset - block * this.geometry.blockSize
    const piece = Math.min(length, this.geometry.blockSize - inBlock)
    const entry = this.entryIn(page, at)
    switch (entry.state) {
      case blockState.fullyPresent:
        return { kind: 'data', length: piece, host: this.checked(block, entry) + inBlock }
      case blockState.partiallyPresent:
        return this.#partial(block, this.checked(block, entry), inBlock, piece)
      case blockState.notPresent:
        return { kind: 'unallocated', length: piece, host: -1 }
      case blockState.undefined:
      case blockState.zero:
      case blockState.unmapped:
      case blockState.unmappedDraft:
        return { kind: 'zero', length: piece, host: -1 }
      default:
        throw vhdxFault(this.#path, 'corrupt', `state of block ${block}`, {
          value: entry.state,
          rule: '0 to 3, 6 or 7',
        })
    }
  }

  /** The file offset of a block that is there.
   *  @throws MoraineError `corrupt` when it lies over metadata or past the end of the file. */
  checked(block: number, { offset }: Entry): number {
    const { blockSize } = this.geometry
    const fault = (rule: string) =>
      vhdxFault(this.#path, 'corrupt', `offset of block ${block}`, { value: offset, rule }, 'Input/output error')
    if (offset < mib) throw fault('behind the first MiB')
    // The last block may end with the disk: old releases of QEMU wrote it so.
    const least = Math.min(blockSize, this.#size - block * blockSize)
    const fileSize = this.#fileSize()
    if (offset + least > fileSize) throw fault(`inside the file of ${fileSize} bytes`)
    if (this.liesOverMetadata(offset, blockSize)) throw fault('apart from the log and the regions')
    return offset
  }

  /** Says that a range is metadata from now on. */
  addTaken(region: Region): void {
    this.#taken = [...this.#taken, region].sort((a, b) => a.offset - b.offset)
  }

  /** Whether a range shares bytes with the log or a region. */
  liesOverMetadata(offset: number, length: number): boolean {
    let low = 0
    let high = this.#taken.length
    while (low < high) {
      const middle = (low + high) >>> 1
      const region = this.#taken[middle] as Region
      if (region.offset + region.length <= offset) low = middle + 1
      else high = middle
    }
    const region = this.#taken[low]
    return region !== undefined && region.offset < offset + length
  }

  #partial(block: number, host: number, inBlock: number, length: number): Run | Promise<Run> {
    if (!this.#differencing) {
      throw vhdxFault(this.#path, 'corrupt', `state of block ${block}`, { value: 7, rule: 'a differencing image' })
    }
    const at = this.bitOffset(block, inBlock)
    const bits = at instanceof Promise ? undefined : this.pages.at(at.byte)
    if (at instanceof Promise || bits === undefined || bits instanceof Promise) {
      return Promise.resolve(at)
        .then(({ byte }) => this.pages.at(byte))
        .then(() => this.#partial(block, host, inBlock, length))
    }
    const { logicalSector } = this.geometry
    const from = (at.byte - bits.offset) * 8 + at.bit
    const skip = inBlock % logicalSector
    const to = Math.min(pageBytes * 8, from + Math.ceil((skip + length) / logicalSector))
    const { set, count } = bitRun(bits.bytes, from, to)
    const run = Math.min(length, count * logicalSector - skip)
    if (set) return { kind: 'data', length: run, host: host + inBlock }
    return { kind: 'unallocated', length: run, host: -1 }
  }

  /** Where in the file the bit of a sector stands: the byte, and the bit in it.
   *  @throws MoraineError `corrupt` when the sector bitmap is not there or not in the file. */
  bitOffset(block: number, inBlock: number): { byte: number; bit: number } | Promise<{ byte: number; bit: number }> {
    const { perChunk, blockSize, logicalSector } = this.geometry
    const chunk = Math.floor(block / perChunk)
    const at = this.bitmapEntryOffset(chunk)
    const page = this.pages.at(at)
    if (page instanceof Promise) return page.then(() => this.bitOffset(block, inBlock))
    const entry = this.entryIn(page, at)
    const fault = (value: number, rule: string) =>
      vhdxFault(this.#path, 'corrupt', `sector bitmap ${chunk}`, { value, rule }, 'Input/output error')
    if (entry.state !== bitmapPresent) throw fault(entry.state, 'a bitmap that is there')
    const fits = entry.offset >= mib && entry.offset + lengths.sectorBitmap <= this.#fileSize()
    if (!fits || this.liesOverMetadata(entry.offset, lengths.sectorBitmap)) {
      throw fault(entry.offset, 'inside the file, apart from the log and the regions')
    }
    const sector = ((block % perChunk) * blockSize + inBlock - (inBlock % logicalSector)) / logicalSector
    return { byte: entry.offset + Math.floor(sector / 8), bit: sector & 7 }
  }
}
