/** COPIED flags, entry by entry: each must say whether the stored count is exactly one. Only where the walk and the comparison saw reason to
 *  look. Behaviour and words: QEMU 7.2's `check_oflag_copied`. */

import { viewOf } from '../../bytes/integers.ts'
import { readPadded } from '../../core/index.ts'
import { type Findings, hex64 } from './check-findings.ts'
import { CountedOnce } from './check-once.ts'
import { StoredTable } from './check-stored.ts'
import { readTables, TableSet, tablePlan } from './check-tables.ts'
import { hasDataFile, type Qcow2Image } from './image.ts'
import { entry } from './layout.ts'
import type { Repairer } from './repair.ts'

/** Entries of tables looked at once more only to say again what is wrong with them. */
const mostAgain = 2 * 1024 * 1024
/** Entries of L2 tables that begin inside a cluster: each of these tables may overlap all others. */
const mostUnaligned = 2 * 1024 * 1024

/** Looks at every flag of the active tables, and corrects them with a `repairer`. */
export async function checkCopied(
  image: Qcow2Image,
  findings: Findings,
  repairer: Repairer | undefined,
  signal: AbortSignal | undefined,
): Promise<void> {
  image.cache.clear()
  const stored = await StoredTable.read(image)
  const once = hasDataFile(image)
    ? undefined
    : await CountedOnce.read(image, stored, image.limits.checkBytes / 4, signal)
  await new CopiedCheck(image, findings, repairer, stored, once).run(signal)
}

class CopiedCheck {
  readonly #image: Qcow2Image
  readonly #findings: Findings
  readonly #repairer: Repairer | undefined
  readonly #stored: StoredTable
  readonly #once: CountedOnce | undefined
  readonly #tables = new TableSet()
  /** Tables with findings: how many. */
  readonly #noisy = new Map<number, number>()
  readonly #changedL1: number[] = []
  #again = 0
  #unaligned = 0

  constructor(
    image: Qcow2Image,
    findings: Findings,
    repairer: Repairer | undefined,
    stored: StoredTable,
    once: CountedOnce | undefined,
  ) {
    this.#image = image
    this.#findings = findings
    this.#repairer = repairer
    this.#stored = stored
    this.#once = once
  }

  async run(signal: AbortSignal | undefined): Promise<void> {
    const { l1, geometry, file } = this.#image
    const { clusterSize } = geometry
    await readTables(
      file,
      clusterSize,
      l1.size,
      (index) => {
        const offset = this.#tableOf(index)
        if (offset === 0) return tablePlan.pass
        if (offset >= file.size) return tablePlan.bare
        if (offset % clusterSize !== 0) {
          this.#unaligned += geometry.l2Entries
          return this.#unaligned <= mostUnaligned ? offset : tablePlan.bare
        }
        return this.#tables.visit(offset / clusterSize) === 0 ? offset : tablePlan.bare
      },
      (index, bytes) => this.#checkEntry(index, bytes),
      signal,
    )
    await this.#writeL1()
  }

  #tableOf(index: number): number {
    const { view } = this.#image.l1
    const upper = view.getUint32(index * 8) & entry.offsetHigh
    return upper * 0x1_0000_0000 + ((view.getUint32(index * 8 + 4) & entry.offsetLow) >>> 0)
  }

  async #checkEntry(index: number, bytes: Uint8Array | undefined): Promise<void> {
    const { view } = this.#image.l1
    const { clusterSize } = this.#image.geometry
    const offset = this.#tableOf(index)
    const upper = view.getUint32(index * 8)
    const cluster = Math.floor(offset / clusterSize)
    const found = this.#fits(cluster, upper >= entry.copied) ? undefined : this.#stored.countOf(this.#image, cluster)
    const count = found instanceof Promise ? await found : found
    if (count === undefined && this.#once === undefined) return
    if (count !== undefined && (count === 1) !== upper >= entry.copied) {
      const words = hex64(upper, view.getUint32(index * 8 + 4))
      const digits = await this.#digits(count, cluster)
      this.#found(`OFLAG_COPIED L2 cluster: l1_index=${index} l1_entry=${words} refcount=${digits}`, this.#repairer)
      if (this.#repairer !== undefined) {
        view.setUint32(index * 8, flagged(upper, count === 1))
        this.#changedL1.push(index)
      }
    }
    if (bytes !== undefined) await this.#checkTable(bytes, offset)
    else if (offset < this.#image.file.size && offset % clusterSize === 0) await this.#checkAgain(offset)
  }

  /** Whether a flag is known to fit the count, without a look at the count itself. */
  #fits(cluster: number, copied: boolean): boolean {
    return this.#once?.has(cluster) === copied
  }

  /** A count in digits: 64-bit counts pass what a number holds. */
  async #digits(count: number, cluster: number): Promise<string> {
    return count <= Number.MAX_SAFE_INTEGER ? String(count) : this.#stored.digitsOf(this.#image, cluster)
  }

  #found(words: string, repairer: Repairer | undefined): void {
    this.#findings.corruption(`${repairer === undefined ? 'ERROR' : 'Repairing'} ${words}`)
    if (repairer === undefined) return
    this.#findings.corruptions--
    this.#findings.corruptionsFixed++
  }

  async #checkTable(bytes: Uint8Array, offset: number): Promise<void> {
    const { geometry } = this.#image
    const { clusterSize, l2EntrySize, extended } = geometry
    const dataFile = hasDataFile(this.#image)
    // A table that begins inside a cluster may be anything, the guest's data too; its own entry is damage enough.
    const repairer = offset % clusterSize === 0 ? this.#repairer : undefined
    const view = viewOf(bytes)
    let from = -1
    let to = 0
    let faults = 0
    for (let at = 0; at < bytes.length; at += l2EntrySize) {
      const upper = view.getUint32(at)
      const lower = view.getUint32(at + 4)
      if ((upper & entry.compressed) !== 0) continue
      const copied = upper >= entry.copied
      const host = (upper & entry.offsetHigh) * 0x1_0000_0000 + ((lower & entry.offsetLow) >>> 0)
      const zero = !extended && (lower & entry.zero) !== 0
      if (host === 0 && (zero || !(dataFile && copied))) continue
      let count: number | undefined = 1
      if (!dataFile) {
        // Nearly all entries end here.
        if (this.#fits(Math.floor(host / clusterSize), copied)) continue
        const found = this.#stored.countOf(this.#image, Math.floor(host / clusterSize))
        count = found instanceof Promise ? await found : found
      }
      if (count === undefined || (count === 1) === copied) continue
      faults++
      const digits =
        dataFile || count <= Number.MAX_SAFE_INTEGER ? count : await this.#digits(count, Math.floor(host / clusterSize))
      this.#found(`OFLAG_COPIED data cluster: l2_entry=${hex64(upper, lower)} refcount=${digits}`, repairer)
      if (repairer === undefined) continue
      view.setUint32(at, flagged(upper, count === 1))
      if (from < 0) from = at - (at % 512)
      to = at + l2EntrySize
    }
    if (faults > 0) this.#noisy.set(offset, faults)
    if (from >= 0) {
      const end = Math.min(bytes.length, Math.ceil(to / 512) * 512)
      await repairer?.writeTable(offset + from, bytes.slice(from, end), 'active L2 table')
    }
  }

  /** A table that another L1 entry refers to as well. A repair has corrected it already. */
  async #checkAgain(offset: number): Promise<void> {
    const faults = this.#noisy.get(offset) ?? 0
    if (faults === 0 || this.#repairer !== undefined) return
    const { clusterSize, l2Entries } = this.#image.geometry
    if (this.#again + l2Entries > mostAgain) {
      this.#findings.corruptions += faults
      return
    }
    this.#again += l2Entries
    const bytes = new Uint8Array(clusterSize)
    await readPadded(this.#image.file, offset, bytes)
    await this.#checkTable(bytes, offset)
  }

  /** Writes the L1 entries that have changed, neighbours together. */
  async #writeL1(): Promise<void> {
    const { l1 } = this.#image
    for (let i = 0; i < this.#changedL1.length; ) {
      const first = this.#changedL1[i] as number
      let end = first + 1
      for (i++; this.#changedL1[i] === end; i++) end++
      await this.#repairer?.writeTable(l1.offset + first * 8, l1.bytes.slice(first * 8, end * 8), 'active L1 table')
    }
  }
}

function flagged(upper: number, copied: boolean): number {
  return (copied ? upper | entry.copied : upper & ~entry.copied) >>> 0
}
