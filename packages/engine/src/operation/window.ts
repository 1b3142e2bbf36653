/** A bounded number of tasks in flight whose results are taken in the order they were started. */

/** Runs tasks side by side, at most `limit` at once. The first result that is not undefined, in order of start, ends the use of it. */
export class Window<Result> {
  readonly #limit: number
  readonly #running: Promise<Result | undefined>[] = []

  constructor(limit: number) {
    this.#limit = limit
  }

  /** Starts a task, after the oldest one has ended where the window is full. Returns the oldest one's result. */
  async push(start: () => Promise<Result | undefined>): Promise<Result | undefined> {
    let result: Result | undefined
    if (this.#running.length >= this.#limit) result = await this.#running.shift()
    if (result !== undefined) return result
    const task = start()
    task.catch(() => {}) // It is looked at later, in its turn.
    this.#running.push(task)
    return undefined
  }

  /** The first result among all that still run. */
  async firstOfAll(): Promise<Result | undefined> {
    while (this.#running.length > 0) {
      const result = await this.#running.shift()
      if (result !== undefined) return result
    }
    return undefined
  }

  /** Waits until nothing runs any more, whatever comes of it. */
  async settle(): Promise<void> {
    await Promise.allSettled(this.#running)
    this.#running.length = 0
  }
}
