/** A sparse extent of any kind: which grains it has, and where they lie. */
import type { ByteSource, Limits } from '../../core/index.ts'
import { MoraineError } from '../../core/index.ts'
import { type GrainDirectory, seSparseGrain } from './grain-directory.ts'
import { type GrainTable, GrainTables, type TableBudget } from './grain-tables.ts'
import { grainMarkerBytes, sectorBytes, zeroedEntry } from './layout.ts'

/** What lies at a range: `data` plain bytes, `packed` one compressed grain, `zero` zeros by an entry, `unallocated` nothing (the parent shows), `denied` an extent that
 *  nobody may read. */
export type RunKind = 'data' | 'packed' | 'zero' | 'unallocated' | 'denied'

/** A range of which one thing is true. */
export interface Run {
  kind: RunKind
  /** Bytes. */
  length: number
  /** Byte offset in `file`: of the bytes, or of the compressed grain with its marker. */
  host: number
  file: ByteSource | undefined
  /** For `packed`: most bytes that the compressed grain takes, marker and padding included. */
  packedLength: number
  /** For `packed`: bytes of the grain before this range. */
  skip: number
  /** For `packed`: bytes that the grain decodes to. */
  grainSize: number
}

/** What a sparse extent is. Bytes. */
export interface SparseShape {
  file: ByteSource
  kind: 'hosted' | 'cowd' | 'seSparse'
  /** Guest bytes that it covers. */
  size: number
  grainBytes: number
  /** Entries of a grain table. */
  tableEntries: number
  directory: GrainDirectory
  redundant?: GrainDirectory | undefined
  /** Header version of the hosted kind. */
  version: number
  compressed: boolean
  /** Compressed grains begin with their sector number and length. */
  markers: boolean
  zeroedGrains: boolean
  /** The directory stands behind the grains, so nothing can be added. */
  closed: boolean
  /** Where the grains of seSparse begin. */
  grains: number
}

const unallocated = -1
const zeroed = -2

/** One sparse extent. */
export class SparseExtent {
  readonly shape: SparseShape
  readonly tables: GrainTables
  /** Guest bytes that one table covers. */
  readonly tableCover: number
  readonly entryBytes: number

  constructor(shape: SparseShape, limits: Limits, budget?: TableBudget) {
    this.shape = shape
    this.entryBytes = shape.kind === 'seSparse' ? 8 : 4
    this.tableCover = shape.tableEntries * shape.grainBytes
    const tableBytes = shape.tableEntries * this.entryBytes
    this.tables = new GrainTables(shape.file, shape.directory, shape.redundant, tableBytes, limits.cacheBytes, budget)
  }

  /** What lies at `at` (bytes of this extent), for `length` bytes at most.
   *  @throws MoraineError `corrupt` for an entry that is none. */
  resolve(at: number, length: number): Run | Promise<Run> {
    const index = Math.floor(at / this.tableCover)
    const table = this.tables.get(index)
    if (table instanceof Promise) return table.then((loaded) => this.#runIn(loaded, index, at, length))
    return this.#runIn(table, index, at, length)
  }

  #runIn(table: GrainTable | undefined, index: number, at: number, length: number): Run {
    const { grainBytes, file } = this.shape
    const inTable = at - index * this.tableCover
    if (table === undefined) {
      const most = Math.ceil((inTable + length) / this.tableCover)
      const missing = Math.max(1, this.tables.directory.missingFrom(index, most))
      const covered = Math.min(length, missing * this.tableCover - inTable)
      return { kind: 'unallocated', length: covered, host: -1, file: undefined, packedLength: 0, skip: 0, grainSize: 0 }
    }
    const most = Math.min(length, this.tableCover - inTable)
    let grain = Math.floor(inTable / grainBytes)
    const skip = inTable - grain * grainBytes
    const first = this.entry(table, grain)
    if (first >= 0 && this.shape.compressed) return this.#packed(table, grain, first, at, skip, most)
    let covered = grainBytes - skip
    let next = first
    while (covered < most) {
      grain++
      if (first >= 0) next += grainBytes
      if (this.entry(table, grain) !== next) break
      covered += grainBytes
    }
    const kind = first === unallocated ? 'unallocated' : first === zeroed ? 'zero' : 'data'
    return {
      kind,
      length: Math.min(covered, most),
      host: first < 0 ? -1 : first + skip,
      file: first < 0 ? undefined : file,
      packedLength: 0,
      skip: 0,
      grainSize: 0,
    }
  }

  #packed(table: GrainTable, grain: number, host: number, at: number, skip: number, most: number): Run {
    const { grainBytes, file, size } = this.shape
    // A stream that does not shrink is a little longer than its grain.
    let packedLength = 2 * grainBytes + grainMarkerBytes
    for (let next = grain + 1; next < this.shape.tableEntries; next++) {
      const follower = this.entry(table, next)
      if (follower < 0) continue
      if (follower > host) packedLength = Math.min(packedLength, follower - host)
      break
    }
    return {
      kind: 'packed',
      length: Math.min(grainBytes - skip, most),
      host,
      file,
      packedLength: Math.max(0, Math.min(packedLength, file.size - host)),
      skip,
      // The last one may hold no more than the disk.
      grainSize: Math.min(grainBytes, size - (at - skip)),
    }
  }

  /** Byte offset of a grain in the file; −1 when it is not allocated, −2 when it is zeros. */
  entry(table: GrainTable, grain: number): number {
    if (this.shape.kind === 'seSparse') {
      const found = seSparseGrain(table.view, grain * 8, this.shape.grains, this.shape.grainBytes)
      if (!Number.isNaN(found) && found <= Number.MAX_SAFE_INTEGER) return found
      throw new MoraineError('corrupt', 'a grain table entry is invalid', {
        path: this.shape.file.name,
        format: 'vmdk',
        field: 'grain table',
        offset: table.offset + grain * 8,
      })
    }
    const sector = table.view.getUint32(grain * 4, true)
    if (sector === 0) return unallocated
    if (sector === zeroedEntry && this.shape.zeroedGrains) return zeroed
    return sector * sectorBytes
  }
}
