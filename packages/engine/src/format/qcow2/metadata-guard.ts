/** Keeps guest data off the image's own metadata: counts that lie, or an L2 entry that points at a table, must not cost the image. The
 *  structures watched are those of QEMU's default overlap checks. */
import { fault, type Qcow2Image } from './image.ts'
import { hexOf } from './layout.ts'
import { storedTableBytes } from './snapshot-table.ts'

/** Past this many L2 tables they are not watched one by one; a set of them would cost more memory than the limit for caches. */
const mostTables = 262_144

interface Range {
  offset: number
  length: number
  what: string
}

/** Knows where the metadata of one image lies. */
export class MetadataGuard {
  readonly #image: Qcow2Image
  #ranges: Range[] | undefined
  #tables: Set<number> | undefined
  readonly #blocks = new Set<number>()
  /** An overlap was found: the image is corrupt and must not be written any more. */
  tripped = false

  constructor(image: Qcow2Image) {
    this.#image = image
  }

  /** Watches a refcount block. */
  addBlock(offset: number): void {
    this.#blocks.add(offset)
  }

  /** What was to be a refcount block did not become one. */
  removeBlock(offset: number): void {
    this.#blocks.delete(offset)
  }

  /** Watches an active L2 table. */
  addTable(offset: number): void {
    this.#tables?.add(offset)
  }

  /** An L2 table is not active any more. */
  removeTable(offset: number): void {
    this.#tables?.delete(offset)
  }

  /** A table that lies in one piece (L1, refcount table, snapshots, bitmap directory) has moved. */
  moved(): void {
    this.#ranges = undefined
  }

  /** Another L1 table is active. */
  switched(): void {
    this.#ranges = undefined
    this.#tables = undefined
  }

  /** Refuses a write of data, or an allocation, that would hit metadata.
   *  @throws MoraineError `corrupt`. */
  check(offset: number, length: number): void {
    if (this.tripped) throw this.#overlap('metadata that was hit before', offset)
    if (offset + length > Number.MAX_SAFE_INTEGER) {
      throw fault(this.#image, 'corrupt', `host offset ${hexOf(offset)} is past what a file can have`, 'L2 entry', {
        value: hexOf(offset),
        rule: 'below 2^53',
      })
    }
    this.#ranges ??= this.#fixedRanges()
    for (const range of this.#ranges) {
      if (offset < range.offset + range.length && offset + length > range.offset)
        throw this.#overlap(range.what, offset)
    }
    this.#tables ??= this.#activeTables()
    const { clusterSize } = this.#image.geometry
    for (let at = offset - (offset % clusterSize); at < offset + length; at += clusterSize) {
      if (this.#tables.has(at)) throw this.#overlap('active L2 table', offset)
      if (this.#blocks.has(at)) throw this.#overlap('refcount block', offset)
    }
  }

  #overlap(what: string, offset: number): Error {
    this.tripped = true
    return fault(this.#image, 'corrupt', `Preventing invalid write on metadata (overlaps with ${what})`, what, {
      offset,
      rule: 'data and metadata lie in different clusters',
    })
  }

  #fixedRanges(): Range[] {
    const { header, geometry, l1, snapshots } = this.#image
    const { clusterSize } = geometry
    const ranges: Range[] = [
      { offset: 0, length: clusterSize, what: 'qcow2_header' },
      { offset: l1.offset, length: l1.bytes.length, what: 'active L1 table' },
      {
        offset: header.refcountTableOffset,
        length: header.refcountTableClusters * clusterSize,
        what: 'refcount table',
      },
    ]
    if (snapshots.length > 0) {
      ranges.push({ offset: header.snapshotsOffset, length: storedTableBytes(snapshots), what: 'snapshot table' })
    }
    for (const { l1Offset, l1Size } of snapshots) {
      ranges.push({ offset: l1Offset, length: l1Size * 8, what: 'inactive L1 table' })
    }
    if (header.bitmaps !== undefined && this.#image.bitmapList.length > 0) {
      const { directoryOffset, directorySize } = header.bitmaps
      ranges.push({ offset: directoryOffset, length: directorySize, what: 'bitmap directory' })
    }
    return ranges.filter(({ length }) => length > 0)
  }

  #activeTables(): Set<number> {
    const tables = new Set<number>()
    const { l1 } = this.#image
    for (let index = 0; index < l1.size && tables.size < mostTables; index++) {
      const offset = l1.l2Offset(index)
      if (offset !== 0) tables.add(offset)
    }
    return tables
  }
}
