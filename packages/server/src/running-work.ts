/** Work that must come to its end, well or badly, before catalog and store are closed. */
export class RunningWork {
  readonly #running = new Set<Promise<unknown>>()

  /** How many are under way. */
  get size(): number {
    return this.#running.size
  }

  async run<Result>(work: Promise<Result>): Promise<Result> {
    this.#running.add(work)
    try {
      return await work
    } finally {
      this.#running.delete(work)
    }
  }

  async settled(): Promise<void> {
    while (this.#running.size > 0) await Promise.allSettled(this.#running)
  }
}
