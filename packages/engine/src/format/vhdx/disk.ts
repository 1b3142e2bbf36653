/** Reading a VHDX image: guest bytes, extents, facts. */
import type { Disk, DiskInfo } from '../../core/index.ts'
import { MappedDisk, type MappedRun } from '../mapped-disk.ts'
import type { VhdxImage } from './image.ts'
import { vhdxInfo } from './info.ts'

/** The guest's view of a VHDX image. */
export class VhdxDisk extends MappedDisk {
  readonly format = 'vhdx'
  readonly image: VhdxImage

  constructor(image: VhdxImage, parent: Disk | undefined) {
    super(image.file, parent)
    this.image = image
  }

  get size(): number {
    return this.image.metadata.virtualSize
  }

  info(): DiskInfo {
    return vhdxInfo(this.image)
  }

  protected override resolve(offset: number, length: number): MappedRun | Promise<MappedRun> {
    return this.image.map.resolve(offset, length)
  }

  protected override get lacksParent(): boolean {
    return this.image.metadata.parent !== undefined && this.parent === undefined
  }

  /** Blocks are large, and of fixed images all are there from the start. */
  protected override get asksFile(): boolean {
    return this.image.file === this.image.source
  }
}
