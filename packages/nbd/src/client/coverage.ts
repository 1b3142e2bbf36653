/** Which parts of a read have arrived: chunks may come in any order, must not overlap, and must leave nothing out. */

/** Most separate pieces that may be outstanding between; more is no way to answer. */
const mostGaps = 65_536

/** The parts of `[0, length)` that are there. */
export class Coverage {
  readonly #length: number
  /** Starts and ends of what is there, ascending and melted. */
  readonly #starts: number[] = []
  readonly #ends: number[] = []
  #covered = 0

  constructor(length: number) {
    this.#length = length
  }

  /** Whether all of it is there. */
  get complete(): boolean {
    return this.#covered === this.#length
  }

  /** Adds `[start, end)`; false when it lies outside, is empty, overlaps what is there, or there are too many pieces. */
  add(start: number, end: number): boolean {
    if (start < 0 || end > this.#length || start >= end) return false
    let at = this.#starts.length
    // Most chunks come in order.
    if (at > 0 && (this.#starts[at - 1] as number) > start) at = this.#search(start)
    const before = at > 0 ? (this.#ends[at - 1] as number) : -1
    const after = this.#starts[at] ?? Number.POSITIVE_INFINITY
    if (before > start || after < end) return false
    this.#covered += end - start
    if (before === start && after === end) {
      this.#ends[at - 1] = this.#ends[at] as number
      this.#starts.splice(at, 1)
      this.#ends.splice(at, 1)
    } else if (before === start) this.#ends[at - 1] = end
    else if (after === end) this.#starts[at] = start
    else {
      if (this.#starts.length >= mostGaps) return false
      this.#starts.splice(at, 0, start)
      this.#ends.splice(at, 0, end)
    }
    return true
  }

  /** The first piece that begins after `start`. */
  #search(start: number): number {
    let low = 0
    let high = this.#starts.length
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.#starts[middle] as number) > start) high = middle
      else low = middle + 1
    }
    return low
  }
}
