/** Reading a VDI image: its blocks, its facts. */
import { zeroGuid } from '../../bytes/guid.ts'
import { roundUp } from '../../bytes/integers.ts'
import type { ByteSource, Disk, DiskInfo } from '../../core/index.ts'
import { BlockTable } from '../block-table.ts'
import type { OpenContext } from '../format.ts'
import { MappedDisk, type MappedRun } from '../mapped-disk.ts'
import { entry, imageType, parentHint, type VdiHeader, vdiFault } from './layout.ts'
import { parentName } from './parent.ts'

/** An image with its header read. */
export interface VdiImage {
  readonly file: ByteSource
  readonly header: VdiHeader
  table: BlockTable
  readonly context: OpenContext
}

/** The image of a header.
 *  @throws MoraineError `corrupt` when the file ends within the block map, `limit` when the disk is larger than the caller allows. */
export function imageOf(file: ByteSource, header: VdiHeader, context: OpenContext): VdiImage {
  const { limits } = context
  if (header.diskSize > limits.virtualSize) {
    const rule = `at most ${limits.virtualSize} bytes`
    throw vdiFault(file.name, 'limit', 'Image is too big', { field: 'disk_size', value: header.diskSize, rule })
  }
  const end = header.mapOffset + header.blocks * 4
  if (end > file.size) {
    throw vdiFault(file.name, 'corrupt', 'the file ends within the block map', {
      field: 'blocks_in_image',
      value: header.blocks,
      rule: `a map up to byte ${end} in a file of ${file.size}`,
    })
  }
  return { file, header, table: tableOf(file, header, context), context }
}

/** The block map of a header. */
export function tableOf(file: ByteSource, { mapOffset, blocks }: VdiHeader, { limits }: OpenContext): BlockTable {
  return new BlockTable(file, { offset: mapOffset, entries: blocks, order: 'little', cacheBytes: limits.cacheBytes })
}

/** Whether the image lies over a parent. */
export function isDifferencing({ uuidLink }: VdiHeader): boolean {
  return uuidLink !== zeroGuid
}

/** The guest's view of a VDI image. */
export class VdiDisk extends MappedDisk {
  readonly format = 'vdi'
  readonly image: VdiImage
  /** Virtual size in bytes, rounded up to whole sectors: VBoxManage makes disks of any length. */
  size: number

  constructor(image: VdiImage, parent: Disk | undefined) {
    super(image.file, parent)
    this.image = image
    this.size = roundUp(image.header.diskSize, 512)
  }

  protected override get lacksParent(): boolean {
    return this.parent === undefined && isDifferencing(this.image.header)
  }

  protected override get asksFile(): boolean {
    return this.image.header.type === imageType.fixed
  }

  /** Byte offset in the file of a block's data, by its index in the map. */
  hostOf(index: number): number {
    const { dataOffset, blockSize, blockExtra } = this.image.header
    return dataOffset + index * (blockSize + blockExtra) + blockExtra
  }

  /** Whether a block may have this place: among as many as the map has entries, or behind them where the file has it whole. There a block lies while the map of a full image is made
   *  longer. QEMU does not ask. */
  isPlace(index: number): boolean {
    const { blocks, blockSize } = this.image.header
    return index < blocks || this.hostOf(index) + blockSize <= this.file.size
  }

  protected override resolve(offset: number, length: number): MappedRun | Promise<MappedRun> {
    const block = Math.floor(offset / this.image.header.blockSize)
    const index = this.image.table.peek(block)
    return index === undefined ? this.#resolveLater(offset, length) : this.#runAt(offset, length, block, index)
  }

  async #resolveLater(offset: number, length: number): Promise<MappedRun> {
    const block = Math.floor(offset / this.image.header.blockSize)
    return this.#runAt(offset, length, block, await this.image.table.get(block))
  }

  #runAt(offset: number, length: number, block: number, index: number): MappedRun {
    const { blockSize, blocks, blockExtra } = this.image.header
    const skip = offset - block * blockSize
    const most = Math.ceil((skip + length) / blockSize)
    if (index >= entry.discarded) {
      const count = this.image.table.run(block, most, 0)
      const kind = index === entry.discarded ? 'zero' : 'unallocated'
      return { kind, host: -1, length: Math.min(length, count * blockSize - skip) }
    }
    if (!this.isPlace(index)) {
      throw vdiFault(this.name, 'corrupt', `block ${block} lies past the image's blocks`, {
        field: 'block map entry',
        value: index,
        offset: this.image.header.mapOffset + block * 4,
        rule: `less than ${blocks}`,
      })
    }
    let count = blockExtra === 0 ? this.image.table.run(block, most, 1) : 1
    // What follows a good entry may be a bad one; it is refused in its turn.
    count = index < blocks ? Math.min(count, blocks - index) : 1
    return { kind: 'data', host: this.hostOf(index) + skip, length: Math.min(length, count * blockSize - skip) }
  }

  info(): DiskInfo {
    const { header } = this.image
    const info: DiskInfo = {
      format: 'vdi',
      virtualSize: this.size,
      clusterSize: header.blockSize,
      snapshots: [],
    }
    if (!isDifferencing(header)) return info
    info.backing = { name: parentHint(header) ?? parentName(header.uuidLink), format: 'vdi' }
    info.details = {
      type: 'vdi',
      data: {
        uuid: header.uuidImage,
        'parent-uuid': header.uuidLink,
        'parent-modification-uuid': header.uuidParentModification,
      },
    }
    return info
  }
}
