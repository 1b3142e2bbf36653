/** Counting what the entries of one L2 table refer to, with the rules each entry must keep. Behaviour and words: QEMU 7.2's `qemu-img check`. */

import { viewOf } from '../../bytes/integers.ts'
import type { ReferenceCounts } from './check-counts.ts'
import { type Allocation, type Findings, hex64 } from './check-findings.ts'
import { hasDataFile, type Qcow2Image } from './image.ts'
import { entry, readPackedSpan } from './layout.ts'

const fourGiB = 0x1_0000_0000
/** Lower bits of a standard entry that are reserved. */
const reservedLow = 0x1fe
/** Upper bits that make an entry more than an offset with COPIED. */
const oddHigh = (entry.compressed | entry.reservedHigh) >>> 0

/** How a table is counted. */
export interface TableVisit {
  /** Byte offset of the table. */
  offset: number
  /** Active tables say something about COPIED and about fragmentation. */
  active: boolean
  /** This table's clusters are part of the disk's statistics. */
  statistics: boolean
}

/** An entry that a repair replaces by "reads as zeros". */
export interface ZeroedEntry {
  /** Byte offset in the file. */
  offset: number
  bytes: Uint8Array
}

/** Counts entries into a window of reference counts. */
export class EntryCounter {
  readonly #image: Qcow2Image
  readonly #counts: ReferenceCounts
  readonly #findings: Findings
  readonly #fileSize: number
  /** Host clusters that the file has, a last one that is cut included. */
  readonly #clusters: number
  readonly #dataFile: boolean
  readonly allocation: Allocation = { allocated: 0, fragmented: 0, compressed: 0 }
  /** Entries were found that a repair shall replace; filled only when `repairing`. */
  zeroed: ZeroedEntry[] = []
  repairing = false
  /** Something about COPIED must be looked at entry by entry. */
  suspect = false
  /** The cluster that would follow without a break; 0 at the start of a table. */
  #next = 0
  /** Findings in the present table. */
  #faults = 0

  constructor(image: Qcow2Image, counts: ReferenceCounts, findings: Findings) {
    this.#image = image
    this.#counts = counts
    this.#findings = findings
    this.#fileSize = image.file.size
    this.#clusters = Math.ceil(image.file.size / image.geometry.clusterSize)
    this.#dataFile = hasDataFile(image)
  }

  /** Counts a table. Returns how many findings there were. */
  count(bytes: Uint8Array, visit: TableVisit): number {
    const { clusterSize, clusterBits, extended, l2EntrySize } = this.#image.geometry
    const { values, mask, cap, base, length, plain } = this.#counts
    const view = viewOf(bytes)
    const lowMask = (clusterSize - 1) & ~entry.zero
    const highEnd = 2 ** (clusterBits - 1)
    const highShift = 32 - clusterBits
    const clusters = this.#clusters
    const flag = visit.active ? plain : 0
    const slow = this.#dataFile
    let allocated = 0
    let fragmented = 0
    let next = 0
    this.#faults = 0
    for (let at = 0; at < bytes.length; at += l2EntrySize) {
      const upper = view.getUint32(at)
      const lower = view.getUint32(at + 4)
      const high = upper & entry.offsetHigh
      let odd = slow || (upper & oddHigh) !== 0 || (lower & lowMask) !== 0 || high >= highEnd
      const cluster = (high << highShift) | (lower >>> clusterBits)
      if (extended) {
        const subclusters = view.getUint32(at + 12)
        odd ||= cluster === 0 ? subclusters !== 0 : (subclusters & view.getUint32(at + 8)) !== 0
      }
      if (odd || cluster >= clusters) {
        this.#next = next
        this.#countOdd(view, at, visit)
        next = this.#next
        continue
      }
      if (cluster === 0) continue
      allocated++
      if (next !== 0 && cluster !== next) fragmented++
      next = cluster + 1
      const index = cluster - base
      if (index >= 0 && index < length) {
        const value = values[index] as number
        // The flag for COPIED is the one above the flag for its absence, and COPIED is the topmost bit.
        const own = flag << (upper >>> 31)
        if ((value & mask) < cap) values[index] = (value + 1) | own
        else this.#counts.add(cluster, 1, own)
        if (extended) continue
        // Most clusters lie in a row and are met for the first time: only the entry before has to be looked at closely.
        const stop = Math.min(at + (Math.min(clusters - cluster, length - index) - 1) * 8, bytes.length - 8)
        const start = at
        for (let expected = lower + clusterSize, i = index + 1; at < stop; expected += clusterSize, i++) {
          if (view.getUint32(at + 12) !== expected || view.getUint32(at + 8) !== upper || values[i] !== 0) break
          values[i] = 1 | own
          at += 8
        }
        allocated += (at - start) >>> 3
        next += (at - start) >>> 3
      } else {
        this.#counts.miss(cluster)
      }
    }
    if (visit.statistics) {
      this.allocation.allocated += allocated
      this.allocation.fragmented += fragmented
    }
    return this.#faults
  }

  /** Counts a table that was counted before `times` times more. Nothing is said of it again. */
  countAgain(bytes: Uint8Array, times: number): void {
    const view = viewOf(bytes)
    const { silent } = this.#findings
    this.#findings.silent = true
    for (let at = 0; at < bytes.length; at += this.#image.geometry.l2EntrySize) {
      const upper = view.getUint32(at)
      const lower = view.getUint32(at + 4)
      if (upper === 0 && lower === 0) continue
      if ((upper & entry.compressed) !== 0) {
        const packed = this.#packedOf(view, at, upper, lower)
        if (packed !== undefined) this.countRange(packed.offset, packed.length, '', times)
      } else {
        const offset = (upper & entry.offsetHigh) * fourGiB + ((lower & entry.offsetLow) >>> 0)
        if (offset !== 0 && !this.#dataFile) this.countRange(offset, this.#image.geometry.clusterSize, '', times)
      }
    }
    this.#findings.silent = silent
  }

  /** Counts references to every cluster that a range touches. `hex` is the offset in the words of an error, where a number is not exact. */
  countRange(offset: number, length: number, hex = '', times = 1, flag = 0): void {
    if (length <= 0) return
    const { clusterSize } = this.#image.geometry
    if (!(offset + length - this.#fileSize < clusterSize)) {
      this.#fault(
        'ERROR: counting reference for region exceeding the end of the file by one cluster or more: ' +
          `offset 0x${hex === '' ? offset.toString(16) : hex} size 0x${length.toString(16)}`,
      )
      return
    }
    const last = Math.floor((offset + length - 1) / clusterSize)
    this.#counts.addRange(Math.floor(offset / clusterSize), last, times, flag)
  }

  #fault(line: string): void {
    this.#faults++
    this.suspect = true
    this.#findings.corruption(line)
  }

  /** An entry that is not a plain aligned offset inside the file. */
  #countOdd(view: DataView, at: number, visit: TableVisit): void {
    const { geometry } = this.#image
    const upper = view.getUint32(at)
    const lower = view.getUint32(at + 4)
    const zeros = geometry.extended ? view.getUint32(at + 8) : 0
    const subclusters = geometry.extended ? view.getUint32(at + 12) : 0
    if ((upper & entry.compressed) !== 0) {
      const packed = this.#packedOf(view, at, upper, lower)
      if (packed === undefined) return
      this.countRange(packed.offset, packed.length, packed.hex)
      if (!visit.statistics) return
      // Packed clusters are fragmented by their nature: they begin and end inside sectors.
      this.allocation.allocated++
      this.allocation.compressed++
      this.allocation.fragmented++
      return
    }
    if ((upper & entry.reservedHigh) !== 0 || (lower & reservedLow) !== 0) {
      this.#fault(`ERROR found l2 entry with reserved bits set: ${hex64(upper, lower)}`)
    }
    const offset = (upper & entry.offsetHigh) * fourGiB + ((lower & entry.offsetLow) >>> 0)
    const copied = upper >= entry.copied
    const zero = (lower & entry.zero) !== 0 && !geometry.extended
    // Offset 0 is a real cluster only in an external data file, where COPIED marks it.
    if (offset === 0 && (zero || !(this.#dataFile && copied))) {
      if (subclusters !== 0) this.#fault('ERROR: Unallocated cluster has non-zero subcluster allocation map')
      return
    }
    if ((zeros & subclusters) !== 0) {
      this.#fault(`ERROR offset=${offset.toString(16)}: Allocated cluster has corrupted subcluster allocation bitmap`)
    }
    if (offset % geometry.clusterSize !== 0) {
      const data = geometry.extended ? subclusters !== 0 : !zero
      if (this.#unaligned(offset, data) && this.repairing) {
        this.zeroed.push({ offset: visit.offset + at, bytes: zeroEntry(geometry.extended, zeros | subclusters) })
        return
      }
    }
    if (visit.statistics) {
      const cluster = offset / geometry.clusterSize
      this.allocation.allocated++
      if (this.#next !== 0 && cluster !== this.#next) this.allocation.fragmented++
      this.#next = cluster + 1
    }
    if (this.#dataFile) {
      if (visit.active && !copied) this.suspect = true
      return
    }
    const { copied: copiedFlag, plain } = this.#counts
    this.countRange(offset, geometry.clusterSize, '', 1, !visit.active ? 0 : copied ? copiedFlag : plain)
  }

  /** Says that an offset is not aligned. Returns whether nothing is lost when the entry reads as zeros instead. */
  #unaligned(offset: number, data: boolean): boolean {
    const where = `offset=${offset.toString(16)}`
    if (data) {
      this.#fault(`ERROR ${where}: Data cluster is not properly aligned; L2 entry corrupted.`)
      return false
    }
    const verb = this.repairing ? 'Repairing' : 'ERROR'
    this.#fault(`${verb} ${where}: Preallocated cluster is not properly aligned; L2 entry corrupted.`)
    return true
  }

  /** Where a packed cluster lies; undefined when the entry breaks a rule by which it counts for nothing. */
  #packedOf(
    view: DataView,
    at: number,
    flagged: number,
    lower: number,
  ): { offset: number; length: number; hex: string } | undefined {
    const { clusterBits, extended, l2EntrySize } = this.#image.geometry
    const shift = 62 - (clusterBits - 8) - 32
    const hex = hex64(flagged & (2 ** shift - 1), lower)
    if (flagged >= entry.copied) {
      this.#fault(`ERROR: coffset=0x${hex}: copied flag must never be set for compressed clusters`)
    }
    const upper = (flagged & ~entry.copied) >>> 0
    const index = at / l2EntrySize
    if (this.#dataFile) {
      this.#fault(`ERROR compressed cluster ${index} with data file, entry=0x${hex64(upper, lower)}`)
      return undefined
    }
    if (extended && (view.getUint32(at + 8) !== 0 || view.getUint32(at + 12) !== 0)) {
      this.#fault(
        `ERROR compressed cluster ${index} with non-zero subcluster allocation bitmap, entry=0x${hex64(upper, lower)}`,
      )
      return undefined
    }
    return { ...readPackedSpan(upper, lower, clusterBits), hex }
  }
}

/** An entry that reads as zeros where it was allocated or zero, and stores nothing. */
function zeroEntry(extended: boolean, subclusters: number): Uint8Array {
  if (!extended) return new Uint8Array([0, 0, 0, 0, 0, 0, 0, entry.zero])
  const bytes = new Uint8Array(16)
  viewOf(bytes).setUint32(8, subclusters)
  return bytes
}
