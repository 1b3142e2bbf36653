/** The walk of `check` over everything that refers to host clusters: header, L1 and L2 tables of the disk and its snapshots, the tables
 *  themselves, bitmaps, refcount structures. Order, rules and words: QEMU 7.2's `calculate_refcounts`.
 *
 *  Each L2 table is read once, however often it is referred to; what many L1 entries share is counted for them together. So the work is
 *  bounded by the file's size also where tables are made to point at one another. */

import { viewOf } from '../../bytes/integers.ts'
import { readPadded, throwIfCancelled } from '../../core/index.ts'
import type { ReferenceCounts } from './check-counts.ts'
import { EntryCounter, type ZeroedEntry } from './check-entries.ts'
import { type Findings, hex64 } from './check-findings.ts'
import type { CheckedSnapshots } from './check-snapshots.ts'
import type { StoredTable } from './check-stored.ts'
import { readTables, TableSet, tablePlan } from './check-tables.ts'
import { fault, hasDataFile, type L1Table, type Qcow2Image, readL1 } from './image.ts'
import { autoclear, bounds, entry } from './layout.ts'

/** Entries of tables walked once more only to say again what is wrong with them. */
const mostAgain = 2 * 1024 * 1024
/** Entries of L2 tables that begin inside a cluster: each of these tables may overlap all others. */
const mostUnaligned = 2 * 1024 * 1024
/** Lines about clusters that are referred to too often. */
const mostOverflowLines = 1_000_000
const reservedL1 = { upper: 0x7f00_0000, lower: 0x1ff }

/** What the walk is to do besides counting. */
export interface WalkMode {
  /** Say what is wrong with entries. Off when they were walked before. */
  entries: boolean
  /** Say what is wrong with the counts of this window. */
  counts: boolean
  /** Replaces entries by "reads as zeros"; present when the walk may repair. Returns once they are in the file. */
  zero?: ((entries: ZeroedEntry[], active: boolean) => Promise<void>) | undefined
  /** All errors are to be repaired (which changes QEMU's words). */
  repairing: boolean
}

/** What a walk works on. */
export interface WalkSubject {
  image: Qcow2Image
  counts: ReferenceCounts
  stored: StoredTable
  snapshots: CheckedSnapshots
  findings: Findings
  signal: AbortSignal | undefined
  /** Told how far the walk over the active tables is, from 0 to 1. */
  onProgress: (share: number) => void
}

/** One walk for each window of counts. */
export class ReferenceWalk {
  readonly #subject: WalkSubject
  readonly entries: EntryCounter
  /** The refcount structures are broken and must be built anew before anything else can be repaired. */
  rebuild = false
  #mode: WalkMode = { entries: true, counts: true, repairing: false }
  #tables = new TableSet()
  /** Tables with findings: how many. */
  #noisy = new Map<number, number>()
  #again = 0
  #unaligned = 0
  #overflowLines = 0
  /** Bytes of tables (snapshot L1, bitmap tables) that were read in one piece. */
  #linear = 0

  constructor(subject: WalkSubject) {
    this.#subject = subject
    this.entries = new EntryCounter(subject.image, subject.counts, subject.findings)
  }

  /** Counts everything into the present window. */
  async run(mode: WalkMode): Promise<void> {
    const { image, counts, findings, snapshots } = this.#subject
    const { header, geometry } = image
    this.#mode = mode
    this.#tables = new TableSet()
    this.#noisy.clear()
    this.#linear = 0
    findings.silent = !mode.entries
    counts.onOverflow = (cluster, times) => this.#overflow(cluster, times)
    try {
      this.entries.countRange(0, geometry.clusterSize)
      await this.#countL1(image.l1, true)
      await this.#countSnapshots()
      this.entries.countRange(snapshots.offset, snapshots.length)
      this.entries.countRange(header.refcountTableOffset, header.refcountTableClusters * geometry.clusterSize)
      if (header.crypto !== undefined) this.entries.countRange(header.crypto.offset, header.crypto.length)
      await this.#countBitmaps()
      await this.#countRepeated()
      this.#countBlocks()
    } finally {
      findings.silent = false
    }
  }

  #overflow(cluster: number, times: number): void {
    const { findings, image } = this.#subject
    if (!this.#mode.counts) return
    const { silent } = findings
    findings.silent = false
    this.entries.suspect = true
    const offset = cluster * image.geometry.clusterSize
    const lines = Math.min(times, mostOverflowLines - this.#overflowLines)
    this.#overflowLines += lines
    for (let line = 0; line < lines; line++) {
      findings.corruption(`ERROR: overflow cluster offset=0x${offset.toString(16)}`)
      findings.say(
        'Use qemu-img amend to increase the refcount entry width or qemu-img convert to create a clean copy if the image cannot be opened for writing',
      )
    }
    findings.corruptions += times - lines
    findings.silent = silent
  }

  async #countSnapshots(): Promise<void> {
    const { image, snapshots, findings } = this.#subject
    const { list } = snapshots
    if (hasDataFile(image) && list.length > 0) {
      findings.corruption(`ERROR ${list.length} snapshots in image with data file`)
    }
    for (const { id, name, l1Offset, l1OffsetHex, l1Size } of list) {
      const who = `ERROR snapshot ${id} (${name})`
      if (!(l1Offset % image.geometry.clusterSize === 0)) {
        findings.corruption(
          `${who} l1_offset=0x${l1OffsetHex}: L1 table is not cluster aligned; snapshot table entry corrupted`,
        )
      } else if (l1Size > bounds.l1TableBytes / 8) {
        findings.corruption(
          `${who} l1_size=0x${l1Size.toString(16)}: L1 table is too large; snapshot table entry corrupted`,
        )
      } else if (l1Size > 0) {
        this.#takeLinear(l1Size * 8, `snapshot ${id}`)
        await this.#countL1(await readL1(image.file, l1Offset, l1Size), false)
      }
    }
  }

  /** Tables that lie in one piece cannot be longer together than the file, unless they overlap. */
  #takeLinear(bytes: number, what: string): void {
    const { image, signal } = this.#subject
    throwIfCancelled(signal, image.file.name)
    this.#linear += bytes
    const most = Math.max(2 * image.file.size, 64 * 1024 * 1024)
    if (this.#linear > most) {
      throw fault(image, 'limit', 'the tables of snapshots or bitmaps overlap too much to be followed', what, {
        value: this.#linear,
        rule: `at most ${most} bytes of tables`,
      })
    }
  }

  async #countL1(l1: L1Table, active: boolean): Promise<void> {
    const { image, signal, onProgress } = this.#subject
    const { clusterSize } = image.geometry
    this.entries.countRange(l1.offset, l1.bytes.length)
    const step = Math.max(1, Math.floor(l1.size / 64))
    await readTables(
      image.file,
      clusterSize,
      l1.size,
      (index) => this.#planTable(l1, index),
      (index, bytes) => {
        if (active && index % step === 0) onProgress(index / l1.size)
        return this.#countEntry(l1, index, bytes, active)
      },
      signal,
    )
  }

  #planTable(l1: L1Table, index: number): number {
    const { image } = this.#subject
    const upper = l1.view.getUint32(index * 8)
    const lower = l1.view.getUint32(index * 8 + 4)
    if (upper === 0 && lower === 0) return tablePlan.pass
    const offset = offsetOf(upper, lower)
    if (offset >= image.file.size) return tablePlan.bare
    const { clusterSize } = image.geometry
    if (offset % clusterSize !== 0) return this.#takeUnaligned() ? offset : tablePlan.bare
    return this.#tables.visit(offset / clusterSize) === 0 ? offset : tablePlan.bare
  }

  #takeUnaligned(): boolean {
    this.#unaligned += this.#subject.image.geometry.l2Entries
    return this.#unaligned <= mostUnaligned
  }

  #countEntry(l1: L1Table, index: number, bytes: Uint8Array | undefined, active: boolean): void | Promise<void> {
    const { image, counts, findings } = this.#subject
    const { clusterSize } = image.geometry
    const upper = l1.view.getUint32(index * 8)
    const lower = l1.view.getUint32(index * 8 + 4)
    const offset = offsetOf(upper, lower)
    if ((upper & reservedL1.upper) !== 0 || (lower & reservedL1.lower) !== 0) {
      this.entries.suspect = true
      findings.corruption(`ERROR found L1 entry with reserved bits set: ${hex64(upper, lower)}`)
    }
    const flag = !active ? 0 : upper >= entry.copied ? counts.copied : counts.plain
    this.entries.countRange(offset, clusterSize, '', 1, flag)
    if (offset % clusterSize !== 0) {
      this.entries.suspect = true
      findings.corruption(`ERROR l2_offset=${offset.toString(16)}: Table is not cluster aligned; L1 entry corrupted`)
    }
    if (bytes !== undefined) return this.#countTable(bytes, offset, active)
    if (offset < image.file.size && offset % clusterSize === 0) return this.#countAgain(offset, active)
  }

  #countTable(bytes: Uint8Array, offset: number, active: boolean): void | Promise<void> {
    const { image, findings } = this.#subject
    const { zero, repairing } = this.#mode
    this.entries.repairing = repairing && zero !== undefined && !findings.silent && offset % 8 === 0
    const faults = this.entries.count(bytes, { offset, active, statistics: active && !findings.silent })
    if (faults > 0) this.#noisy.set(offset / image.geometry.clusterSize, faults)
    if (this.entries.zeroed.length > 0 && zero !== undefined) return this.#zero(zero, active)
  }

  async #zero(zero: NonNullable<WalkMode['zero']>, active: boolean): Promise<void> {
    const { findings } = this.#subject
    const { zeroed } = this.entries
    this.entries.zeroed = []
    await zero(zeroed, active)
    findings.corruptions -= zeroed.length
    findings.corruptionsFixed += zeroed.length
  }

  /** A table that was met before. Where there is something to say about it (or statistics to take), it is walked again while that is cheap;
   *  otherwise it is counted with all others at the end. */
  async #countAgain(offset: number, active: boolean): Promise<void> {
    const { image, findings } = this.#subject
    const { clusterSize, l2Entries } = image.geometry
    const cluster = offset / clusterSize
    const faults = this.#noisy.get(cluster) ?? 0
    if (findings.silent || (faults === 0 && !active)) return
    if (this.#again + l2Entries > mostAgain) {
      findings.corruptions += faults
      return
    }
    this.#again += l2Entries
    this.#tables.unvisit(cluster)
    const bytes = new Uint8Array(clusterSize)
    await readPadded(image.file, offset, bytes)
    await this.#countTable(bytes, offset, active)
  }

  /** Adds what was put off: tables that several L1 entries share. */
  async #countRepeated(): Promise<void> {
    const { image, signal } = this.#subject
    const { clusterSize } = image.geometry
    const repeated = this.#tables.repeated()
    await readTables(
      image.file,
      clusterSize,
      repeated.length,
      (index) => (repeated[index]?.cluster ?? 0) * clusterSize,
      (index, bytes) => {
        if (bytes !== undefined) this.entries.countAgain(bytes, repeated[index]?.again ?? 0)
      },
      signal,
    )
  }

  async #countBitmaps(): Promise<void> {
    const { image, findings } = this.#subject
    const { header, geometry, bitmapList, file } = image
    if (header.bitmaps === undefined || (header.autoclearFeatures & autoclear.bitmaps) === 0n) return
    this.entries.countRange(header.bitmaps.directoryOffset, header.bitmaps.directorySize)
    for (const { name, tableOffset, tableSize } of bitmapList) {
      this.entries.countRange(tableOffset, tableSize * 8)
      this.#takeLinear(tableSize * 8, `bitmap '${name}'`)
      const bytes = new Uint8Array(Math.min(tableSize * 8, 1024 * 1024))
      for (let start = 0; start < tableSize * 8 && tableOffset + start < file.size; start += bytes.length) {
        const part = bytes.subarray(0, Math.min(bytes.length, tableSize * 8 - start))
        await readPadded(file, tableOffset + start, part)
        const view = viewOf(part)
        for (let at = 0; at < part.length; at += 8) {
          const upper = view.getUint32(at)
          const lower = view.getUint32(at + 4)
          if (upper === 0 && lower <= 1) continue
          const offset = offsetOf(upper, lower)
          const reserved = upper > entry.offsetHigh || (lower & 0x1ff) !== 0
          if (reserved || offset % geometry.clusterSize !== 0) {
            findings.corruption(
              `ERROR bitmap '${name}' table entry ${(start + at) / 8} is invalid: ${hex64(upper, lower)}`,
            )
          } else {
            this.entries.countRange(offset, geometry.clusterSize)
          }
        }
      }
    }
  }

  #countBlocks(): void {
    const { image, stored, findings, counts } = this.#subject
    const { clusterSize } = image.geometry
    const clusters = Math.ceil(image.file.size / clusterSize)
    for (let index = 0; index < stored.size; index++) {
      const upper = stored.view.getUint32(index * 8)
      const lower = stored.view.getUint32(index * 8 + 4)
      if (upper === 0 && lower === 0) continue
      if ((lower & 0x1ff) !== 0) {
        findings.corruption(`ERROR refcount table entry ${index} has reserved bits set`)
        this.rebuild = true
        continue
      }
      if ((lower & (clusterSize - 1)) !== 0) {
        findings.corruption(`ERROR refcount block ${index} is not cluster aligned; refcount table entry corrupted`)
        this.rebuild = true
        continue
      }
      const cluster = stored.blockOffset(index) / clusterSize
      if (cluster >= clusters) {
        findings.corruption(`${this.#mode.repairing ? 'Repairing' : 'ERROR'} refcount block ${index} is outside image`)
        // QEMU makes the file longer instead, by as much as the entry asks for; only past 2^63 that is no length.
        if (this.#mode.repairing) {
          this.rebuild = true
          if (upper >= 0x8000_0000) findings.say('ERROR could not resize image: Invalid argument')
        }
        continue
      }
      this.entries.countRange(cluster * clusterSize, clusterSize)
      const inside = cluster >= counts.base && cluster < counts.base + counts.length
      if (!inside || counts.get(cluster) === 1) continue
      this.rebuild = true
      if (!this.#mode.counts) continue
      const { silent } = findings
      findings.silent = false
      findings.corruption(`ERROR refcount block ${index} refcount=${counts.get(cluster)}`)
      findings.silent = silent
    }
  }
}

/** The offset in an L1 or L2 entry; exact, since its lower nine bits are zero. */
function offsetOf(upper: number, lower: number): number {
  return (upper & entry.offsetHigh) * 0x1_0000_0000 + ((lower & entry.offsetLow) >>> 0)
}
