/** What a check finds, counted as QEMU counts it. */
import type { CheckOptions } from '../format.ts'

/** So many lines are said of one image; a small hostile one could have more to say than fits anywhere. */
const mostLines = 1_000_000

/** Passes lines on up to a bound. `end` tells how many were left out. */
export function boundedReport(report: CheckOptions['report']): { report: CheckOptions['report']; end(): void } {
  let lines = 0
  return {
    report(line, level) {
      if (++lines <= mostLines) report(line, level)
    },
    end() {
      if (lines > mostLines) report(`${lines - mostLines} more lines are left out`, 'error')
    },
  }
}

/** Counters of one part of a check, and the words for each finding. */
export class Findings {
  readonly #report: CheckOptions['report']
  corruptions = 0
  leaks = 0
  checkErrors = 0
  corruptionsFixed = 0
  leaksFixed = 0
  /** Nothing is counted or said: what is walked was walked before. */
  silent = false

  constructor(report: CheckOptions['report']) {
    this.#report = report
  }

  /** A corruption, with QEMU's words for it. */
  corruption(line: string): void {
    if (this.silent) return
    this.corruptions++
    this.#report(line, 'error')
  }

  /** Words that count for nothing by themselves. */
  say(line: string): void {
    if (!this.silent) this.#report(line, 'error')
  }

  /** Why the check cannot be done. */
  failure(line: string): void {
    this.checkErrors++
    this.#report(line, 'failure')
  }

  /** Takes the counters of another part in. */
  include(other: Findings): void {
    this.corruptions += other.corruptions
    this.leaks += other.leaks
    this.checkErrors += other.checkErrors
    this.corruptionsFixed += other.corruptionsFixed
    this.leaksFixed += other.leaksFixed
  }
}

/** What the walk over the active tables says of the disk as a whole. */
export interface Allocation {
  allocated: number
  fragmented: number
  compressed: number
}

/** A 64-bit value given as two halves, in hex without leading zeros. */
export function hex64(upper: number, lower: number): string {
  const low = (lower >>> 0).toString(16)
  return upper === 0 ? low : (upper >>> 0).toString(16) + low.padStart(8, '0')
}
