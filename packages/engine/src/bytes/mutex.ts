/** One at a time, in the order of asking. */

/** A fair lock for asynchronous work within one process. */
export class Mutex {
  #tail: Promise<unknown> | undefined

  /** Runs `work` when everybody who asked before is done; its result or error is passed on. */
  run<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#tail === undefined ? work() : this.#tail.then(work)
    const settled: Promise<void> = turn.then(
      () => this.#leave(settled),
      () => this.#leave(settled),
    )
    this.#tail = settled
    return turn
  }

  #leave(mine: Promise<unknown>): void {
    if (this.#tail === mine) this.#tail = undefined
  }
}
