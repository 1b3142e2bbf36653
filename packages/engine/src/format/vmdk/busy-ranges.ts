/** Guest ranges whose grains are being replaced: until they are linked they show what they showed before, and others wait. */

interface BusyRange {
  from: number
  to: number
  done: Promise<void>
}

/** What one request replaces. */
interface Replacing {
  /** Says that it is a guest range, up to, not including, `to`. */
  add(from: number, to: number): void
  /** Lets those go on who wait for it. */
  end(): void
}

/** The ranges of one disk. */
export class BusyRanges {
  readonly #ranges = new Set<BusyRange>()

  /** A request begins. */
  begin(): Replacing {
    const own: BusyRange[] = []
    let finish = () => {}
    const done = new Promise<void>((resolve) => {
      finish = resolve
    })
    return {
      add: (from, to) => {
        const range = { from, to, done }
        own.push(range)
        this.#ranges.add(range)
      },
      end: () => {
        for (const range of own) this.#ranges.delete(range)
        finish()
      },
    }
  }

  /** One that shares bytes with a guest range. */
  over(offset: number, length: number): BusyRange | undefined {
    if (this.#ranges.size === 0) return undefined
    for (const range of this.#ranges) if (range.from < offset + length && range.to > offset) return range
    return undefined
  }

  /** Returns when none shares bytes with a guest range. */
  async untilFree(offset: number, length: number): Promise<void> {
    for (let range = this.over(offset, length); range !== undefined; range = this.over(offset, length)) await range.done
  }
}
