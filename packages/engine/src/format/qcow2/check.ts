/** Checking a qcow2 image, and repairing it: counts all references, compares them with the stored counts and the COPIED flags, and makes the
 *  file right where it may. What is found, in which words, and what is counted as fixed: QEMU 7.2's `qemu-img check`. */

import { type ByteStore, type Disk, MoraineError } from '../../core/index.ts'
import type { CheckOptions, CheckResult } from '../format.ts'
import { checkCopied } from './check-copied.ts'
import { ReferenceCounts } from './check-counts.ts'
import { boundedReport, Findings } from './check-findings.ts'
import { type CheckedSnapshots, readSnapshotsForCheck } from './check-snapshots.ts'
import { CountComparison, StoredTable } from './check-stored.ts'
import { ReferenceWalk, type WalkMode } from './check-walk.ts'
import { Qcow2Disk } from './disk.ts'
import { fault, type Qcow2Image } from './image.ts'
import { RefcountReader } from './refcount-reader.ts'
import { Repairer } from './repair.ts'
import { planRebuild, UsedClusters, writeBlocks, writeTable } from './repair-rebuild.ts'
import { WritableQcow2Disk } from './writable-disk.ts'

/** From so many snapshots on, counts past 16,382 are no rarity. */
const manySnapshots = 200
/** QEMU checks no file of more clusters. */
const mostClusters = 0x7fff_ffff

/** Checks a disk opened with purpose `check`, and repairs it when asked to (it must be writable then). One round: a caller that wants to be
 *  sure checks again, as `qemu-img` does.
 *  @throws MoraineError `invalid` for another format's disk, `denied` when it cannot be written, `corrupt` when it cannot be repaired, `limit`. */
export async function checkQcow2(disk: Disk, options: CheckOptions): Promise<CheckResult> {
  if (!(disk instanceof Qcow2Disk)) {
    throw new MoraineError('invalid', 'not an opened qcow2 image', { path: disk.name, format: 'qcow2' })
  }
  if (!(disk instanceof WritableQcow2Disk)) {
    if (options.repair !== 'none') throw fault(disk.image, 'denied', 'the image is open for reading only', 'repair')
    return checkImageFile(disk.image, undefined, options)
  }
  return disk.alone(async () => {
    const { writer, image } = disk
    await writer.writeBack()
    try {
      return await checkImageFile(image, writer.store, options)
    } finally {
      image.cache.clear()
      if (options.repair !== 'none') writer.refcounts.table = await RefcountReader.readTable(image)
      writer.guard.moved()
    }
  })
}

/** Checks an image whose file nobody else writes meanwhile. After a repair, pages and the refcount table in memory are out of date; header and
 *  L1 table are not.
 *  @throws MoraineError as `checkQcow2`. */
export async function checkImageFile(
  image: Qcow2Image,
  store: ByteStore | undefined,
  options: CheckOptions,
): Promise<CheckResult> {
  const { report, end } = boundedReport(options.report)
  try {
    return await checkWhole(image, store, { ...options, report })
  } finally {
    end()
  }
}

async function checkWhole(
  image: Qcow2Image,
  store: ByteStore | undefined,
  options: CheckOptions,
): Promise<CheckResult> {
  const snapshotFindings = new Findings(options.report)
  const errors = options.repair === 'all'
  const snapshots = await readSnapshotsForCheck(image, snapshotFindings, errors)
  const check = new Qcow2Check(image, store, options, snapshots)
  const { repairer, findings } = check
  if (snapshots.dropped > 0 && repairer !== undefined) {
    await repairer.writeSnapshotCount(snapshots.list.length)
    snapshotFindings.corruptions -= snapshots.dropped
    snapshotFindings.corruptionsFixed += snapshots.dropped
  }
  await check.run()
  if (repairer !== undefined && errors && snapshotFindings.corruptions > 0) {
    await repairer.writeSnapshots()
    snapshotFindings.corruptionsFixed += snapshotFindings.corruptions
    snapshotFindings.corruptions = 0
  }
  findings.include(snapshotFindings)
  if (repairer !== undefined && findings.checkErrors === 0 && findings.corruptions === 0) await repairer.markSound()
  options.onProgress?.({ done: image.size, total: image.size })
  const { checkErrors, leaks, corruptions, leaksFixed, corruptionsFixed } = findings
  const { allocated, fragmented, compressed } = check.allocation
  return {
    checkErrors,
    leaks,
    corruptions,
    leaksFixed,
    corruptionsFixed,
    imageEndOffset: (check.highest + 1) * image.geometry.clusterSize,
    totalClusters: Math.ceil(image.size / image.geometry.clusterSize),
    allocatedClusters: allocated,
    fragmentedClusters: fragmented,
    compressedClusters: compressed,
  }
}

/** The part of a check that is about reference counts. */
class Qcow2Check {
  readonly #image: Qcow2Image
  readonly #options: CheckOptions
  readonly #snapshots: CheckedSnapshots
  /** What the walk found. */
  #walkFindings: Findings
  /** Everything that counts in the end. */
  readonly findings: Findings
  readonly repairer: Repairer | undefined
  #stored!: StoredTable
  #counts!: ReferenceCounts
  #walk!: ReferenceWalk
  /** The window that the counts hold now. */
  #counted = -1
  allocation = { allocated: 0, fragmented: 0, compressed: 0 }
  highest = 0
  #suspect = false
  #progress = 0

  constructor(image: Qcow2Image, store: ByteStore | undefined, options: CheckOptions, snapshots: CheckedSnapshots) {
    this.#image = image
    this.#options = options
    this.#snapshots = snapshots
    this.findings = new Findings(options.report)
    this.#walkFindings = new Findings(options.report)
    this.repairer =
      store === undefined || options.repair === 'none'
        ? undefined
        : new Repairer(image, store, this.findings, snapshots)
  }

  async run(): Promise<void> {
    const { repairer, findings } = this
    const errors = this.#options.repair === 'all'
    await this.#reset(0.9)
    const looked = await this.#compare({ report: true, repairing: errors })
    this.allocation = this.#walk.entries.allocation
    if (looked.rebuild && errors && repairer !== undefined) {
      await this.#rebuild(repairer, looked.findings)
    } else if (looked.rebuild && repairer !== undefined) {
      if (looked.unreadable) await repairer.markCorrupt()
      throw this.#cannotRepair()
    } else if (
      repairer !== undefined &&
      this.#walkFindings.corruptions + looked.findings.corruptions + looked.findings.leaks > 0
    ) {
      await repairer.begin()
      const fixed = await this.#compare({ report: false, fix: { leaks: true, errors } })
      await repairer.store.flush()
      findings.include(this.#walkFindings)
      findings.include(fixed.findings)
    } else {
      findings.include(this.#walkFindings)
      findings.include(looked.findings)
    }
    // What follows needs memory of its own.
    this.#counts.release()
    await this.#checkCopied(errors)
  }

  async #checkCopied(errors: boolean): Promise<void> {
    const { findings, repairer } = this
    if (!this.#suspect) return
    // Leaks alone were asked for: flags are corrected only where the counts they follow are beyond doubt.
    const sure = errors || findings.corruptions + findings.leaks + findings.checkErrors === 0
    if (sure) await repairer?.begin()
    await checkCopied(this.#image, findings, sure ? repairer : undefined, this.#options.signal)
    if (sure) await repairer?.store.flush()
  }

  /** Begins anew with the file as it is. `share`: how much of the progress the next walk is. */
  async #reset(share: number): Promise<void> {
    const image = this.#image
    const { clusterSize } = image.geometry
    const clusters = Math.ceil(image.file.size / clusterSize)
    if (clusters > mostClusters) {
      throw fault(image, 'limit', 'File too large', 'file size', { rule: `at most ${mostClusters} clusters` })
    }
    const { list } = this.#snapshots
    this.#counted = -1
    this.#stored = await StoredTable.read(image)
    this.#counts = new ReferenceCounts(image, clusters, image.limits.checkBytes, list.length > manySnapshots)
    const start = this.#progress
    this.#progress += share
    this.#walk = new ReferenceWalk({
      image,
      counts: this.#counts,
      stored: this.#stored,
      snapshots: this.#snapshots,
      findings: this.#walkFindings,
      signal: this.#options.signal,
      onProgress: (part) => this.#tell(start + (part * share) / this.#counts.windows),
    })
  }

  #told = 0

  #tell(share: number): void {
    const total = this.#image.size
    const done = Math.min(total, Math.floor(share * total))
    if (done <= this.#told) return
    this.#told = done
    this.#options.onProgress?.({ done, total })
  }

  /** Clusters to compare: all of the file, and one more where a range passes the end by less than a cluster. */
  get #end(): number {
    const clusters = Math.ceil(this.#image.file.size / this.#image.geometry.clusterSize)
    const { base, length } = this.#counts
    return clusters >= base && clusters < base + length && this.#counts.get(clusters) > 0 ? clusters + 1 : clusters
  }

  /** Makes the counts those of a window; false when nothing is there to be counted or compared. */
  async #load(window: number, mode: WalkMode): Promise<boolean> {
    if (this.#counted === window) return true
    const { length } = this.#counts
    const { refcountsPerBlock } = this.#image.geometry
    const first = Math.floor((window * length) / refcountsPerBlock)
    const last = Math.floor(((window + 1) * length - 1) / refcountsPerBlock)
    if (window > 0 && !this.#counts.isTouched(window) && !this.#stored.hasBlocks(first, last)) return false
    this.#counts.move(window)
    await this.#walk.run(mode)
    this.#counted = window
    return true
  }

  /** Walks and compares window by window. */
  async #compare(how: {
    report: boolean
    repairing?: boolean
    fix?: { leaks: boolean; errors: boolean }
    used?: UsedClusters
  }): Promise<{ findings: Findings; rebuild: boolean; unreadable: boolean }> {
    const findings = new Findings(this.#options.report)
    const { repairer: writer } = this
    const comparison = new CountComparison(this.#image, this.#stored, this.#counts, findings, {
      // Where the walk met damage, what seems to be free may be all that is left of something.
      fix:
        how.fix === undefined || writer === undefined
          ? undefined
          : {
              ...how.fix,
              store: writer.store,
              discard: this.#walkFindings.corruptions === 0,
              guard: (block) => writer.guardBlock(block),
            },
      marking: this.#options.repair === 'leaks',
      signal: this.#options.signal,
    })
    const repairer = how.repairing === true ? writer : undefined
    for (let window = 0; window < this.#counts.windows; window++) {
      const loaded = await this.#load(window, {
        entries: how.report && window === 0,
        counts: how.report,
        repairing: how.repairing === true,
        zero: repairer === undefined ? undefined : (entries, active) => repairer.zeroEntries(entries, active),
      })
      if (loaded) await comparison.run(this.#end)
    }
    this.highest = comparison.highest
    this.#suspect = comparison.suspect || this.#walk.entries.suspect
    return {
      findings,
      rebuild: comparison.rebuild || this.#walk.rebuild,
      unreadable: comparison.unreadable > 0,
    }
  }

  #cannotRepair(): MoraineError {
    this.findings.say('ERROR need to rebuild refcount structures')
    return new MoraineError('corrupt', 'Input/output error', {
      path: this.#image.file.name,
      format: 'qcow2',
      field: 'refcount table',
      hint: "The refcount structures must be built anew; repair 'all' does that.",
    })
  }

  /** Builds new refcount structures, frees the old ones, and counts what that has mended. */
  async #rebuild(repairer: Repairer, before: Findings): Promise<void> {
    const { findings } = this
    const old = {
      corruptions: this.#walkFindings.corruptions + before.corruptions,
      leaks: this.#walkFindings.leaks + before.leaks,
    }
    findings.corruptionsFixed += this.#walkFindings.corruptionsFixed
    findings.say('Rebuilding refcount structure')
    await repairer.begin()
    await this.#writeStructures(repairer)
    this.#image.cache.clear()
    // The references to the structures are others now, so everything is walked again.
    this.#walkFindings = new Findings(this.#options.report)
    await this.#reset(0)
    const after = await this.#compare({ report: true, fix: { leaks: true, errors: false } })
    await repairer.store.flush()
    if (after.rebuild) findings.say('ERROR rebuilt refcount structure is still broken')
    findings.corruptions += this.#walkFindings.corruptions
    findings.checkErrors += this.#walkFindings.checkErrors
    findings.corruptionsFixed += Math.max(0, old.corruptions - findings.corruptions)
    findings.leaksFixed += old.leaks
    findings.leaks += after.findings.leaks
  }

  async #writeStructures(repairer: Repairer): Promise<void> {
    const silent = { entries: false, counts: false, repairing: false }
    const counts = this.#counts
    const { file, geometry, limits } = this.#image
    const used = new UsedClusters(Math.ceil(file.size / geometry.clusterSize) + 1, limits.checkBytes)
    for (let window = 0; window < counts.windows; window++) {
      if (await this.#load(window, silent)) used.note(counts)
    }
    const plan = planRebuild(this.#image, used)
    const blocks = [...plan.blocks.values()].map((offset) => offset / geometry.clusterSize)
    await repairer.guardStructures('refblock', new Set(blocks))
    for (let window = 0; window < counts.windows; window++) {
      if (!(await this.#load(window, silent))) counts.move(window)
      this.#counted = window
      const last = window === counts.windows - 1
      const to = last ? Number.POSITIVE_INFINITY : counts.base + counts.length
      await writeBlocks(repairer, plan, counts, to, this.#options.signal)
    }
    await writeTable(repairer, plan)
  }
}
