/** Reading a QED image: its clusters, its facts. */
import type { ByteSource, Disk, DiskInfo } from '../../core/index.ts'
import { type EntryPlace, EntryTables, placeOf, type TablePage } from '../entry-tables.ts'
import type { OpenContext } from '../format.ts'
import { MappedDisk, type MappedRun } from '../mapped-disk.ts'
import { feature, geometryOf, type QedGeometry, type QedHeader, QedPlaces, qedFault } from './layout.ts'

/** The L2 entry of a cluster that reads as zeros. */
export const zeroEntry = 1

/** An image with its header read. */
export interface QedImage {
  readonly file: ByteSource
  readonly header: QedHeader
  readonly geometry: QedGeometry
  readonly places: QedPlaces
  /** The backing file as it stands in the image; the format only where it must not be probed. */
  readonly backing: { name: string; format: 'raw' | undefined; role: 'backing' } | undefined
  readonly tables: EntryTables
  readonly context: OpenContext
}

/** The image of a header.
 *  @throws MoraineError `limit` when the disk is larger than the caller allows. */
export function imageOf(
  file: ByteSource,
  header: QedHeader,
  backing: QedImage['backing'],
  context: OpenContext,
): QedImage {
  const { virtualSize, cacheBytes } = context.limits
  if (header.imageSize > virtualSize) {
    const place = { field: 'image_size', value: header.imageSize, rule: `at most ${virtualSize} bytes` }
    throw qedFault(file.name, 'limit', 'Image is too big', place)
  }
  return {
    file,
    header,
    geometry: geometryOf(header),
    places: new QedPlaces(header),
    backing,
    tables: new EntryTables(file, cacheBytes, 'qed'),
    context,
  }
}

/** The guest's view of a QED image. */
export class QedDisk extends MappedDisk {
  readonly format = 'qed'
  readonly image: QedImage

  constructor(image: QedImage, parent: Disk | undefined) {
    super(image.file, parent)
    this.image = image
  }

  get size(): number {
    return this.image.header.imageSize
  }

  /** Bytes of the file, with what is to come once it is written back. */
  protected get fileEnd(): number {
    return this.file.size
  }

  protected override get lacksParent(): boolean {
    return this.parent === undefined && this.image.backing !== undefined
  }

  protected override get decidesUnallocated(): boolean {
    return false
  }

  protected override resolve(offset: number, length: number): MappedRun | Promise<MappedRun> {
    const { tables, geometry, header } = this.image
    const l1Place = this.l1Place(Math.floor(offset / geometry.l2Cover))
    const l1 = tables.peek(l1Place)
    if (l1 === undefined) return this.#resolveLater(l1Place, offset, length)
    const table = this.tableAt(l1, l1Place.at)
    const inTable = offset % geometry.l2Cover
    if (table === 0) return this.#emptyTables(l1, l1Place.at, inTable, length)
    const place = this.l2Place(table, Math.floor(inTable / header.clusterSize))
    const l2 = tables.peek(place)
    if (l2 === undefined) return this.#resolveLater(place, offset, length)
    return this.#runIn(l2, place.at, offset % header.clusterSize, length)
  }

  async #resolveLater(place: EntryPlace, offset: number, length: number): Promise<MappedRun> {
    await this.image.tables.load(place)
    return this.resolve(offset, length)
  }

  /** Where the L1 entry `index` stands. */
  protected l1Place(index: number): EntryPlace {
    return placeOf('l1', this.image.header.l1Offset, this.image.geometry.entries, index)
  }

  /** Where entry `index` of an L2 table stands. */
  protected l2Place(table: number, index: number): EntryPlace {
    return placeOf('l2', table, this.image.geometry.entries, index)
  }

  /** Byte offset of the L2 table of an L1 entry, 0 when there is none.
   *  @throws MoraineError `corrupt` for a place where none can be. */
  protected tableAt(page: TablePage, at: number): number {
    const table = entryAt(page.view, at)
    if (table === 0 || this.image.places.holdsTable(table, this.fileEnd)) return table
    throw this.fault('corrupt', 'an L2 table lies where none can be', {
      field: 'L1 entry',
      value: `0x${page.view.getBigUint64(at, true).toString(16)}`,
      offset: page.offset + at,
      rule: `a multiple of ${this.image.header.clusterSize} behind the header, and the table within the file`,
    })
  }

  /** A run over L1 entries of one page without tables. */
  #emptyTables(page: TablePage, at: number, inTable: number, length: number): MappedRun {
    const { l2Cover } = this.image.geometry
    let covered = l2Cover - inTable
    for (let i = at + 8; covered < length && i < page.bytes.length; i += 8) {
      if (entryAt(page.view, i) !== 0) break
      covered += l2Cover
    }
    return { kind: 'unallocated', host: -1, length: Math.min(covered, length) }
  }

  #runIn(page: TablePage, at: number, skip: number, length: number): MappedRun {
    const { view } = page
    const { clusterSize } = this.image.header
    const first = entryAt(view, at)
    const end = page.bytes.length
    let covered = clusterSize - skip
    if (first === 0 || first === zeroEntry) {
      for (let i = at + 8; covered < length && i < end && entryAt(view, i) === first; i += 8) covered += clusterSize
      const kind = first === 0 ? 'unallocated' : 'zero'
      return { kind, host: -1, length: Math.min(covered, length) }
    }
    const { places } = this.image
    if (!places.holdsCluster(first, this.fileEnd)) {
      throw this.fault('corrupt', 'a cluster lies where none can be', {
        field: 'L2 entry',
        value: `0x${view.getBigUint64(at, true).toString(16)}`,
        offset: page.offset + at,
        rule: `a multiple of ${clusterSize} behind the header, and whole within the file`,
      })
    }
    let next = first
    for (let i = at + 8; covered < length && i < end; i += 8) {
      next += clusterSize
      if (entryAt(view, i) !== next || !places.holdsCluster(next, this.fileEnd)) break
      covered += clusterSize
    }
    return { kind: 'data', host: first + skip, length: Math.min(covered, length) }
  }

  info(): DiskInfo {
    const { header, backing } = this.image
    const info: DiskInfo = {
      format: 'qed',
      virtualSize: this.size,
      clusterSize: header.clusterSize,
      dirty: (header.features & feature.needCheck) !== 0,
      snapshots: [],
    }
    if (backing !== undefined) {
      info.backing = { name: backing.name }
      if (backing.format !== undefined) info.backing.format = backing.format
    }
    return info
  }
}

/** An entry as a number; what passes 2^53 − 1 is no multiple of anything. */
export function entryAt(view: DataView, at: number): number {
  const upper = view.getUint32(at + 4, true)
  return upper > 0x1f_ffff ? Number.POSITIVE_INFINITY : upper * 2 ** 32 + view.getUint32(at, true)
}
