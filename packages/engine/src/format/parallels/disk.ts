/** Reading a Parallels image: its clusters, its facts. */
import type { Bitmaps, ByteSource, DiskInfo } from '../../core/index.ts'
import { BlockTable } from '../block-table.ts'
import type { OpenContext } from '../format.ts'
import { MappedDisk, type MappedRun } from '../mapped-disk.ts'
import { type Extension, ParallelsBitmaps } from './extension.ts'
import { headerBytes, type ParallelsHeader, parallelsFault } from './layout.ts'

/** An image with its header read. */
export interface ParallelsImage {
  readonly file: ByteSource
  readonly header: ParallelsHeader
  table: BlockTable
  readonly extension: Extension | undefined
  readonly context: OpenContext
}

/** The table of a header.
 *  @throws MoraineError `corrupt` when the file ends within the table, `limit` when the disk is larger than the caller allows. */
export function tableOf(file: ByteSource, header: ParallelsHeader, { limits }: OpenContext): BlockTable {
  if (header.diskSize > limits.virtualSize) {
    const rule = `at most ${limits.virtualSize} bytes`
    throw parallelsFault(file.name, 'limit', 'Image is too big', { field: 'nb_sectors', value: header.diskSize, rule })
  }
  const end = headerBytes + header.entries * 4
  if (end > file.size) {
    throw parallelsFault(file.name, 'corrupt', 'the file ends within the table of clusters', {
      field: 'bat_entries',
      value: header.entries,
      rule: `a table up to byte ${end} in a file of ${file.size}`,
    })
  }
  const { entries } = header
  return new BlockTable(file, { offset: headerBytes, entries, order: 'little', cacheBytes: limits.cacheBytes })
}

/** The guest's view of a Parallels image. */
export class ParallelsDisk extends MappedDisk {
  readonly format = 'parallels'
  readonly image: ParallelsImage
  readonly bitmaps: Bitmaps | undefined
  /** Virtual size in bytes. */
  size: number

  constructor(image: ParallelsImage) {
    super(image.file, undefined)
    this.image = image
    this.size = image.header.diskSize
    if (image.extension !== undefined) this.bitmaps = new ParallelsBitmaps(image.file, image.header, image.extension)
  }

  protected override get decidesUnallocated(): boolean {
    return false
  }

  protected override resolve(offset: number, length: number): MappedRun | Promise<MappedRun> {
    const cluster = Math.floor(offset / this.image.header.clusterSize)
    // QEMU, too, reads zeros where the table has no entry.
    if (cluster >= this.image.header.entries) return { kind: 'unallocated', host: -1, length }
    const entry = this.image.table.peek(cluster)
    return entry === undefined
      ? this.#resolveLater(offset, length, cluster)
      : this.#runAt(offset, length, cluster, entry)
  }

  async #resolveLater(offset: number, length: number, cluster: number): Promise<MappedRun> {
    return this.#runAt(offset, length, cluster, await this.image.table.get(cluster))
  }

  #runAt(offset: number, length: number, cluster: number, entry: number): MappedRun {
    const { clusterSize, entryUnit } = this.image.header
    const skip = offset - cluster * clusterSize
    const most = Math.ceil((skip + length) / clusterSize)
    const count = this.image.table.run(cluster, most, entry === 0 ? 0 : clusterSize / entryUnit)
    const covered = Math.min(length, count * clusterSize - skip)
    if (entry === 0) return { kind: 'unallocated', host: -1, length: covered }
    const host = entry * entryUnit
    const end = this.fileEnd
    const tableEnd = headerBytes + this.image.header.entries * 4
    if (host < tableEnd || host > end) {
      throw this.fault('corrupt', `cluster ${cluster} lies ${host > end ? 'outside the image' : 'over the table'}`, {
        field: 'BAT entry',
        value: entry,
        offset: headerBytes + cluster * 4,
        rule: `a place from ${tableEnd} to ${end}`,
        hint: 'check -r all drops such clusters',
      })
    }
    // What follows a good entry may be a bad one; it is refused in its turn.
    const inside = Math.max(1, Math.floor((end - host) / clusterSize) + 1)
    return { kind: 'data', host: host + skip, length: Math.min(covered, inside * clusterSize - skip) }
  }

  /** Byte offset behind which no cluster begins. */
  protected get fileEnd(): number {
    return this.file.size
  }

  info(): DiskInfo {
    return { format: 'parallels', virtualSize: this.size, snapshots: [] }
  }
}
