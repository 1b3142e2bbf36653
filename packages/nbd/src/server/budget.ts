/** What one client may have under way: requests, and bytes for them. */

/** Units that are taken and given back; whoever wants more than there is waits, in the order of asking. */
export class Budget {
  readonly #waiting: { units: number; go: () => void }[] = []
  #left: number

  constructor(units: number) {
    this.#left = units
  }

  /** Takes units, at most all that there ever are. */
  take(units: number): Promise<void> | undefined {
    if (this.#waiting.length === 0 && this.#left >= units) {
      this.#left -= units
      return undefined
    }
    return new Promise((go) => this.#waiting.push({ units, go }))
  }

  /** Gives units back. */
  give(units: number): void {
    this.#left += units
    for (let next = this.#waiting[0]; next !== undefined && next.units <= this.#left; next = this.#waiting[0]) {
      this.#waiting.shift()
      this.#left -= next.units
      next.go()
    }
  }
}
