/** How far a comparison is, in the order and the steps in which `qemu-img compare -p` counts. */
import type { Disk, Extent, Progress } from '../core/index.ts'
import { InOrder } from './in-order.ts'
import { cutOfSource } from './segments.ts'

/** Most bytes that QEMU reads at once. */
const readBytes = 2 * 1024 * 1024
/** More steps than this nobody can tell apart. */
const mostSteps = 65536

/** What the two disks say of a range; undefined: that one is not asked. */
type Said = readonly [Extent | undefined, Extent | undefined]

/** A piece counts when it and all before it have passed.
 *  QEMU 7.2 takes a step for each block status (which ends where an L2 table does, and holds one compressed cluster at most), and for
 *  each 2 MiB that it must read. */
export class CompareProgress {
  readonly #total: number
  readonly #report: ((progress: Progress) => void) | undefined
  readonly #cuts: { span: number; cluster: number }[]
  readonly #order = new InOrder()
  /** The last step's end, and where the block status that it is in begins. */
  #at = 0
  #status = 0

  constructor(disks: readonly [Disk, Disk], total: number, report: ((progress: Progress) => void) | undefined) {
    this.#total = total
    this.#report = report
    this.#cuts = disks.map((disk) => {
      const span = cutOfSource(disk).sourceSpan ?? Number.POSITIVE_INFINITY
      return {
        span: total / span < mostSteps ? span : Number.POSITIVE_INFINITY,
        cluster: disk.info().clusterSize ?? Number.POSITIVE_INFINITY,
      }
    })
  }

  /** Announces the next piece, `[from, to)` of the range that begins at `start` and of which the disks say one thing each. The returned
   *  function is called once the piece has passed. */
  piece(said: Said, start: number, from: number, to: number): () => void {
    if (this.#report === undefined) return () => {}
    if (from === start) this.#at = this.#status = start
    const steps = this.#stepsTo(to, said)
    return this.#order.begin(() => {
      for (const done of steps) this.#report?.({ done, total: this.#total })
    })
  }

  /** The ends of the next steps, as far as `to`. A piece may end within a step, which then belongs to one that follows. */
  #stepsTo(to: number, said: Said): number[] {
    const steps: number[] = []
    const isRead = said.some((extent) => extent?.zero === false)
    while (this.#at < to) {
      const statusEnd = this.#statusEnd(said)
      const next = isRead ? Math.min(statusEnd, this.#at + readBytes) : statusEnd
      if (next > to) break
      steps.push(next)
      this.#at = next
      if (next === statusEnd) this.#status = next
    }
    return steps
  }

  #statusEnd(said: Said): number {
    let end = Number.POSITIVE_INFINITY
    said.forEach((extent, index) => {
      const cut = this.#cuts[index]
      if (extent === undefined || cut === undefined) return
      end = Math.min(end, extent.offset + extent.length, nextMultiple(this.#status, cut.span))
      if (extent.encoded === 'compressed') end = Math.min(end, nextMultiple(this.#status, cut.cluster))
    })
    return end
  }
}

/** The first multiple of `unit` after `at`; a unit may be endless. */
function nextMultiple(at: number, unit: number): number {
  return Number.isFinite(unit) ? (Math.floor(at / unit) + 1) * unit : unit
}
