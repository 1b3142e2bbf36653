/** Reading a qcow image: its clusters, its facts. */
import type { ByteSource, Codecs, Disk, DiskInfo } from '../../core/index.ts'
import type { SectorCipher } from '../../crypt/sector-cipher.ts'
import { readEncrypted } from '../encrypted-data.ts'
import { type EntryPlace, EntryTables, placeOf, type TablePage } from '../entry-tables.ts'
import type { OpenContext } from '../format.ts'
import { MappedDisk, type MappedRun } from '../mapped-disk.ts'
import { geometryOf, packedFlag, packedSpan, type QcowGeometry, type QcowHeader, qcowFault } from './layout.ts'

/** An image with its header read. */
export interface QcowImage {
  readonly file: ByteSource
  readonly header: QcowHeader
  geometry: QcowGeometry
  /** The backing file's name as it stands in the image. */
  readonly backing: string | undefined
  readonly tables: EntryTables
  readonly context: OpenContext
  /** What clusters are encrypted with; absent too where the image was opened for its metadata alone. */
  cipher: SectorCipher | undefined
}

/** The image of a header.
 *  @throws MoraineError `limit` when the disk is larger than the caller allows. */
export function imageOf(
  file: ByteSource,
  header: QcowHeader,
  backing: string | undefined,
  context: OpenContext,
): QcowImage {
  const geometry = geometryOf(header)
  const { virtualSize, cacheBytes } = context.limits
  if (header.size > virtualSize) {
    const rule = `at most ${virtualSize} bytes`
    throw qcowFault(file.name, 'limit', 'Image is too big', { field: 'size', value: header.size, rule })
  }
  return {
    file,
    header,
    geometry,
    backing,
    tables: new EntryTables(file, cacheBytes, 'qcow'),
    context,
    cipher: undefined,
  }
}

/** The guest's view of a qcow image. */
export class QcowDisk extends MappedDisk {
  readonly format = 'qcow'
  readonly image: QcowImage

  constructor(image: QcowImage, parent: Disk | undefined) {
    super(image.file, parent)
    this.image = image
  }

  get size(): number {
    return this.image.geometry.virtualSize
  }

  protected override get lacksParent(): boolean {
    return this.parent === undefined && this.image.backing !== undefined
  }

  protected override get decidesUnallocated(): boolean {
    return false
  }

  protected override get encrypted(): boolean {
    return this.image.header.cryptMethod !== 0
  }

  protected override readData(host: number, offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    if (!this.encrypted) return super.readData(host, offset, into, signal)
    return readEncrypted(this.cipher, this.file, host, offset, into, signal)
  }

  /** What decrypts.
   *  @throws MoraineError `denied` when the image was opened without its key. */
  protected get cipher(): SectorCipher {
    const { cipher } = this.image
    if (cipher !== undefined) return cipher
    throw this.fault('denied', 'the image was opened without its key', { field: 'crypt_method' })
  }

  protected override get codecs(): Codecs {
    return this.image.context.codecs
  }

  protected override resolve(offset: number, length: number): MappedRun | Promise<MappedRun> {
    const { tables, geometry } = this.image
    const l1Index = Math.floor(offset / geometry.l2Cover)
    const l1Place = this.l1Place(l1Index)
    const l1 = tables.peek(l1Place)
    if (l1 === undefined) {
      // Past the end of the file there are only zeros, however much the header claims.
      if (l1Place.page >= this.file.size && !tables.dirty) return { kind: 'unallocated', host: -1, length }
      return this.#resolveLater(l1Place, offset, length)
    }
    const table = this.tableAt(l1, l1Place.at)
    const inTable = offset - l1Index * geometry.l2Cover
    if (table === 0) return this.#emptyTables(l1, l1Place.at, inTable, length)
    const place = this.l2Place(table, Math.floor(inTable / geometry.clusterSize))
    const l2 = tables.peek(place)
    if (l2 === undefined) return this.#resolveLater(place, offset, length)
    return this.#runIn(l2, place.at, offset % geometry.clusterSize, length)
  }

  async #resolveLater(place: EntryPlace, offset: number, length: number): Promise<MappedRun> {
    await this.image.tables.load(place)
    return this.resolve(offset, length)
  }

  /** Where the L1 entry `index` stands. */
  protected l1Place(index: number): EntryPlace {
    return placeOf('l1', this.image.header.l1Offset, this.image.geometry.l1Entries, index)
  }

  /** Where entry `index` of an L2 table stands. */
  protected l2Place(table: number, index: number): EntryPlace {
    return placeOf('l2', table, this.image.geometry.l2Entries, index)
  }

  /** Byte offset of the L2 table of an L1 entry, 0 when there is none.
   *  @throws MoraineError `corrupt` for a place past 2^53 − 1. */
  protected tableAt(page: TablePage, at: number): number {
    const upper = page.view.getUint32(at)
    if (upper > 0x1f_ffff) {
      throw this.fault('corrupt', 'an L2 table lies past any file', { field: 'L1 entry', offset: page.offset + at })
    }
    return upper * 2 ** 32 + page.view.getUint32(at + 4)
  }

  /** A run over L1 entries of one page without tables. */
  #emptyTables(page: TablePage, at: number, inTable: number, length: number): MappedRun {
    const { l2Cover } = this.image.geometry
    let covered = l2Cover - inTable
    for (let i = at + 8; covered < length && i < page.bytes.length; i += 8) {
      if (page.view.getUint32(i) !== 0 || page.view.getUint32(i + 4) !== 0) break
      covered += l2Cover
    }
    return { kind: 'unallocated', host: -1, length: Math.min(covered, length) }
  }

  #runIn(page: TablePage, at: number, skip: number, length: number): MappedRun {
    const { view } = page
    const { clusterSize } = this.image.geometry
    const upper = view.getUint32(at)
    const lower = view.getUint32(at + 4)
    if (upper >= packedFlag) return this.#packedRun(page, at, skip, length)
    const end = page.bytes.length
    let covered = clusterSize - skip
    if (upper === 0 && lower === 0) {
      for (let i = at + 8; covered < length && i < end; i += 8) {
        if (view.getUint32(i) !== 0 || view.getUint32(i + 4) !== 0) break
        covered += clusterSize
      }
      return { kind: 'unallocated', host: -1, length: Math.min(covered, length) }
    }
    const host = upper * 2 ** 32 + lower
    if (upper > 0x1f_ffff || lower % 512 !== 0) {
      throw this.fault('corrupt', 'a cluster does not lie on a sector of the file', {
        field: 'L2 entry',
        value: `0x${upper.toString(16)}${lower.toString(16).padStart(8, '0')}`,
        offset: page.offset + at,
        rule: 'a multiple of 512 below 2^53',
      })
    }
    let next = host
    for (let i = at + 8; covered < length && i < end; i += 8) {
      next += clusterSize
      if (view.getUint32(i) * 2 ** 32 + view.getUint32(i + 4) !== next) break
      covered += clusterSize
    }
    return { kind: 'data', host: host + skip, length: Math.min(covered, length) }
  }

  #packedRun(page: TablePage, at: number, skip: number, length: number): MappedRun {
    const { clusterSize } = this.image.geometry
    const { clusterBits } = this.image.header
    const span = packedSpan(page.view.getUint32(at), page.view.getUint32(at + 4), clusterBits)
    if (!Number.isSafeInteger(span.offset + span.length)) {
      throw this.fault('corrupt', 'a packed cluster lies past any file', {
        field: 'L2 entry',
        offset: page.offset + at,
        rule: 'an offset below 2^53',
      })
    }
    const unit = { codec: 'deflate', packedLength: span.length, size: clusterSize, skip } as const
    return { kind: 'packed', host: span.offset, length: Math.min(clusterSize - skip, length), unit }
  }

  info(): DiskInfo {
    const { header, geometry, backing } = this.image
    const info: DiskInfo = {
      format: 'qcow',
      virtualSize: geometry.virtualSize,
      clusterSize: geometry.clusterSize,
      dirty: false,
      snapshots: [],
    }
    if (header.cryptMethod !== 0) info.encrypted = true
    if (backing !== undefined) info.backing = { name: backing }
    return info
  }
}
