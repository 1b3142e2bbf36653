/** Reading a VHD: a fixed one, which is its guest's bytes and a footer, and one with blocks. */
import type { ByteSource, Disk, DiskInfo } from '../../core/index.ts'
import { MappedDisk, type MappedRun } from '../mapped-disk.ts'
import type { VhdImage } from './image.ts'
import { type Footer, noBlock, sectorBytes } from './layout.ts'
import { bitRun, type SectorBitmap } from './sector-bitmap.ts'

/** The guest's view of a fixed VHD. */
export class FixedVhdDisk extends MappedDisk {
  readonly format = 'vhd'
  readonly footer: Footer
  /** Byte offset of the footer: here the guest's bytes end in the file. */
  footerOffset: number
  /** Virtual size in bytes; what passes the footer reads as zeros. */
  size: number

  constructor(file: ByteSource, footer: Footer, footerOffset: number, size: number) {
    super(file, undefined)
    this.footer = footer
    this.footerOffset = footerOffset
    this.size = size
  }

  protected override get asksFile(): boolean {
    return true
  }

  protected override resolve(offset: number, length: number): MappedRun {
    const there = Math.min(length, this.footerOffset - offset)
    if (there > 0) return { kind: 'data', host: offset, length: there }
    return { kind: 'zero', host: -1, length }
  }

  info(): DiskInfo {
    return { format: 'vhd', virtualSize: this.size, snapshots: [] }
  }
}

/** The guest's view of a VHD with blocks. */
export class DynamicVhdDisk extends MappedDisk {
  readonly format = 'vhd'
  readonly image: VhdImage
  /** What its parent is called, the likeliest name first; empty for a dynamic image. */
  readonly parentNames: readonly string[]

  constructor(image: VhdImage, parent: Disk | undefined, parentNames: readonly string[]) {
    super(image.file, parent)
    this.image = image
    this.parentNames = parentNames
  }

  get size(): number {
    return this.image.size
  }

  get footer(): Footer {
    return this.image.footer
  }

  protected override get lacksParent(): boolean {
    return this.parent === undefined && this.image.isDifferencing
  }

  protected override resolve(offset: number, length: number): MappedRun | Promise<MappedRun> {
    const { table, header } = this.image
    const block = Math.floor(offset / header.blockSize)
    const sector = table.peek(block)
    if (sector === undefined) return this.#resolveLater(block, offset, length)
    if (sector === noBlock) return this.#unallocated(block, offset, length)
    const bitmap = this.image.peekBitmap(sector)
    return bitmap === undefined ? this.#resolveLater(block, offset, length) : this.runIn(sector, bitmap, offset, length)
  }

  async #resolveLater(block: number, offset: number, length: number): Promise<MappedRun> {
    const sector = await this.image.table.get(block)
    if (sector === noBlock) return this.#unallocated(block, offset, length)
    this.image.hostOf(sector)
    const bitmap = this.image.peekBitmap(sector) ?? (await this.image.loadBitmap(block, sector))
    return this.runIn(sector, bitmap, offset, length)
  }

  #unallocated(block: number, offset: number, length: number): MappedRun {
    const { blockSize } = this.image.header
    const skip = offset - block * blockSize
    const count = this.image.table.run(block, Math.ceil((skip + length) / blockSize), 0)
    return { kind: 'unallocated', host: -1, length: Math.min(length, count * blockSize - skip) }
  }

  /** The run at `offset` within its block. */
  protected runIn(sector: number, bitmap: SectorBitmap, offset: number, length: number): MappedRun {
    const { blockSize } = this.image.header
    const skip = offset % blockSize
    const inBlock = Math.min(length, blockSize - skip)
    const host = this.image.hostOf(sector) + skip
    if (bitmap.full) return { kind: 'data', host, length: inBlock }
    const first = Math.floor(skip / sectorBytes)
    const end = Math.ceil((skip + inBlock) / sectorBytes)
    const run = bitRun(bitmap.bytes, first, end)
    const bytes = Math.min(inBlock, (first + run.length) * sectorBytes - skip)
    return run.set ? { kind: 'data', host, length: bytes } : { kind: 'unallocated', host: -1, length: bytes }
  }

  info(): DiskInfo {
    const info: DiskInfo = {
      format: 'vhd',
      virtualSize: this.size,
      clusterSize: this.image.header.blockSize,
      snapshots: [],
    }
    if (!this.image.isDifferencing) return info
    const [name] = this.parentNames
    if (name !== undefined) info.backing = { name }
    info.details = {
      type: 'vhd',
      data: { uuid: this.footer.uniqueId, 'parent-uuid': this.image.header.parentId },
    }
    return info
  }
}

/** Any VHD. */
export type VhdDisk = FixedVhdDisk | DynamicVhdDisk

/** Whether a disk is an opened VHD. */
export function isVhdDisk(disk: Disk): disk is VhdDisk {
  return disk instanceof FixedVhdDisk || disk instanceof DynamicVhdDisk
}
