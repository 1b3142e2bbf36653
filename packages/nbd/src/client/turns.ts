/** Writes that touch the same blocks go one after the other: where a block is written in part, it is read, changed and written back. */

interface Turn {
  start: number
  end: number
  done: Promise<void>
}

/** Ranges that are being changed. */
export class Turns {
  readonly #running = new Set<Turn>()

  /** Runs `work` when nothing that was asked for before touches `[start, end)` any more. */
  async run(start: number, end: number, work: () => Promise<void>): Promise<void> {
    const before: Promise<void>[] = []
    for (const turn of this.#running) if (turn.start < end && start < turn.end) before.push(turn.done)
    let finish = () => {}
    const turn: Turn = {
      start,
      end,
      done: new Promise((resolve) => {
        finish = resolve
      }),
    }
    this.#running.add(turn)
    try {
      if (before.length > 0) await Promise.all(before)
      await work()
    } finally {
      this.#running.delete(turn)
      finish()
    }
  }
}
