/** Building the refcount structures anew from the counts of the walk: blocks and table go into free clusters, then the header is switched.
 *  Nothing of the old structures is touched; they are leaks afterwards, and freed as such. Where things go is QEMU's choice (7.2). */

import { divideUp, setU64be, viewOf } from '../../bytes/integers.ts'
import { throwIfCancelled } from '../../core/index.ts'
import type { ReferenceCounts } from './check-counts.ts'
import { fault, type Qcow2Image } from './image.ts'
import { bounds } from './layout.ts'
import { setCountAt } from './refcount-reader.ts'
import type { Repairer } from './repair.ts'

/** Which clusters are in use, one bit for each. Where there would be too many bits, everything inside the file counts as used. */
export class UsedClusters {
  readonly #bits: Uint8Array | undefined
  /** Clusters from here on are free. */
  readonly end: number

  constructor(end: number, mostBytes: number) {
    this.end = end
    this.#bits = end / 8 <= mostBytes ? new Uint8Array(Math.ceil(end / 8)) : undefined
  }

  /** Takes in the counts of a window. */
  note(counts: ReferenceCounts): void {
    if (this.#bits === undefined) return
    const stop = Math.min(this.end - counts.base, counts.length)
    for (let at = 0; at < stop; at++) {
      if (counts.values[at] === 0) continue
      const cluster = counts.base + at
      this.#bits[cluster >>> 3] = (this.#bits[cluster >>> 3] ?? 0) | (1 << (cluster & 7))
    }
  }

  has(cluster: number): boolean {
    if (cluster >= this.end) return false
    return this.#bits === undefined || (((this.#bits[cluster >>> 3] ?? 0) >>> (cluster & 7)) & 1) === 1
  }

  /** The first cluster from `start` to before `stop` that is in use. */
  firstUsed(start: number, stop: number): number | undefined {
    const end = Math.min(stop, this.end)
    for (let cluster = start; cluster < end; cluster++) {
      if (this.#bits !== undefined && cluster % 8 === 0 && this.#bits[cluster >>> 3] === 0) cluster += 7
      else if (this.has(cluster)) return cluster
    }
    return undefined
  }
}

/** Where new structures go. */
export interface RebuildPlan {
  /** Byte offsets of the blocks by index; absent where none is needed. */
  blocks: Map<number, number>
  tableOffset: number
  tableClusters: number
  /** Clusters taken for all of it. */
  taken: Set<number>
}

/** Finds room for blocks that count everything in use, themselves, and the table that names them.
 *  @throws MoraineError `limit` when the table would be longer than the format allows. */
export function planRebuild(image: Qcow2Image, used: UsedClusters): RebuildPlan {
  const plan = new Planner(image, used)
  plan.placeBlocks(0, used.end)
  for (;;) {
    const entries = plan.placeTable()
    // The table's own clusters may need blocks, and these may make it longer. Then it moves; the room it had is a leak until the repair ends.
    plan.placeBlocks(plan.tableOffset, plan.tableOffset + plan.tableClusters)
    if (plan.blockCount <= entries) return plan.result()
  }
}

/** The state of planning. Offsets are numbers of clusters here. */
class Planner {
  readonly #image: Qcow2Image
  readonly #used: UsedClusters
  readonly #blocks = new Map<number, number>()
  readonly #taken = new Set<number>()
  /** Blocks that must exist because something was taken there. */
  readonly #takenBlocks = new Set<number>()
  /** Entries that the table needs. */
  blockCount = 0
  tableOffset = 0
  tableClusters = 0

  constructor(image: Qcow2Image, used: UsedClusters) {
    this.#image = image
    this.#used = used
  }

  #isFree(cluster: number): boolean {
    return !this.#used.has(cluster) && !this.#taken.has(cluster)
  }

  #take(cluster: number): void {
    this.#taken.add(cluster)
    this.#takenBlocks.add(Math.floor(cluster / this.#image.geometry.refcountsPerBlock))
  }

  /** Places the blocks that count the clusters from `first` to before `end`, and those that count blocks placed on the way. Each goes to the
   *  first free cluster that no earlier block counts. */
  placeBlocks(first: number, end: number): void {
    const { refcountsPerBlock } = this.#image.geometry
    let firstFree = 0
    let last = end - 1
    for (let index = Math.floor(first / refcountsPerBlock); index * refcountsPerBlock <= last; index++) {
      const start = index * refcountsPerBlock
      const needed =
        this.#takenBlocks.has(index) || this.#used.firstUsed(start, start + refcountsPerBlock) !== undefined
      if (!needed || this.#blocks.has(index)) continue
      firstFree = Math.max(firstFree, start)
      while (!this.#isFree(firstFree)) firstFree++
      this.#take(firstFree)
      this.#blocks.set(index, firstFree)
      this.blockCount = Math.max(this.blockCount, index + 1)
      last = Math.max(last, firstFree)
    }
  }

  /** Places the table where its clusters are free in a row. Returns how many entries it has. */
  placeTable(): number {
    const perCluster = this.#image.geometry.clusterSize / 8
    this.tableClusters = divideUp(this.blockCount, perCluster)
    const entries = this.tableClusters * perCluster
    if (entries * 8 > bounds.refcountTableBytes) {
      throw fault(this.#image, 'limit', 'File too large', 'refcount table', {
        value: entries * 8,
        rule: `at most ${bounds.refcountTableBytes} bytes`,
      })
    }
    let cluster = 0
    for (let run = 0; run < this.tableClusters; cluster++) run = this.#isFree(cluster) ? run + 1 : 0
    this.tableOffset = cluster - this.tableClusters
    for (let at = this.tableOffset; at < cluster; at++) this.#take(at)
    return entries
  }

  result(): RebuildPlan {
    const { clusterSize } = this.#image.geometry
    return {
      blocks: new Map([...this.#blocks].map(([index, cluster]) => [index, cluster * clusterSize])),
      tableOffset: this.tableOffset * clusterSize,
      tableClusters: this.tableClusters,
      taken: this.#taken,
    }
  }
}

/** Writes the part of the new blocks that counts the clusters from the window's start to before `to` (past the counts there is nothing but what
 *  the plan has taken). A window begins at a multiple of 64, and so at a byte of the block at any width. */
export async function writeBlocks(
  repairer: Repairer,
  plan: RebuildPlan,
  counts: ReferenceCounts,
  to: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { geometry, header, file } = repairer.image
  const { refcountsPerBlock, refcountBits } = geometry
  const from = counts.base
  const end = from + counts.length
  const taken = [...plan.taken].filter((cluster) => cluster >= from && cluster < to)
  for (const [index, offset] of plan.blocks) {
    const start = Math.max(from, index * refcountsPerBlock)
    const stop = Math.min(to, (index + 1) * refcountsPerBlock)
    if (start >= stop) continue
    throwIfCancelled(signal, file.name)
    const bytes = new Uint8Array(((stop - start) * refcountBits) / 8)
    const view = viewOf(bytes)
    for (let cluster = start; cluster < Math.min(stop, end); cluster++) {
      const count = counts.get(cluster)
      if (count !== 0) setCountAt(bytes, view, header.refcountOrder, cluster - start, count)
    }
    for (const cluster of taken) {
      if (cluster >= start && cluster < stop) setCountAt(bytes, view, header.refcountOrder, cluster - start, 1)
    }
    const skip = ((start - index * refcountsPerBlock) * refcountBits) / 8
    await repairer.store.write(offset + skip, bytes)
  }
}

/** Writes the new table and switches the header to it. The blocks must be written.
 *  @throws MoraineError `corrupt` where the table would lie on other metadata. */
export async function writeTable(repairer: Repairer, plan: RebuildPlan): Promise<void> {
  const { clusterSize } = repairer.image.geometry
  const first = plan.tableOffset / clusterSize
  await repairer.guardStructures('reftable', new Set(Array.from({ length: plan.tableClusters }, (_, at) => first + at)))
  const bytes = new Uint8Array(plan.tableClusters * clusterSize)
  const view = viewOf(bytes)
  for (const [index, offset] of plan.blocks) setU64be(view, index * 8, offset)
  await repairer.store.write(plan.tableOffset, bytes)
  await repairer.switchRefcountTable(plan.tableOffset, plan.tableClusters)
}
