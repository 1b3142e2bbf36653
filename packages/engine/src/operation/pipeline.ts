/** Work in flight: started in order, finished in any order, never left behind. */
import { throwIfCancelled } from '../core/index.ts'

/** Runs steps side by side. Each step gets a turn: awaiting it means that every earlier step has passed its own. The first failure stops all. */
export class Pipeline {
  /** Most steps at once. */
  readonly limit: number
  readonly #running = new Set<Promise<void>>()
  readonly #stop = new AbortController()
  readonly #outer: AbortSignal | undefined
  readonly #onOuter: () => void
  #failure: { error: unknown } | undefined
  #turn: Promise<void> = Promise.resolve()

  constructor(limit: number, signal?: AbortSignal) {
    this.limit = limit
    this.#outer = signal
    this.#onOuter = () => this.#stop.abort(signal?.reason)
    if (signal?.aborted === true) this.#onOuter()
    else signal?.addEventListener('abort', this.#onOuter)
  }

  /** Fires on cancellation and on the first failure. */
  get signal(): AbortSignal {
    return this.#stop.signal
  }

  /** Starts a step once there is room for it. `turn()` resolves when all earlier steps have called their `pass()` or ended.
   *  @throws the first failure of any step. */
  async start(step: (turn: () => Promise<void>, pass: () => void) => Promise<void>): Promise<void> {
    while (this.#running.size >= this.limit && this.#failure === undefined) await Promise.race(this.#running)
    if (this.#failure !== undefined) throw this.#failure.error
    const mine = this.#turn
    let pass = (): void => {}
    this.#turn = new Promise((resolve) => {
      pass = resolve
    })
    const turn = async (): Promise<void> => {
      await mine
      if (this.#failure !== undefined) throw this.#failure.error
      throwIfCancelled(this.#stop.signal)
    }
    const task: Promise<void> = step(turn, pass)
      .catch((error: unknown) => {
        this.#failure ??= { error }
        this.#stop.abort(error)
      })
      .finally(() => {
        pass()
        this.#running.delete(task)
      })
    this.#running.add(task)
  }

  /** Waits until nothing is in flight. Must be called, whatever happened.
   *  @throws the first failure; `cancelled` when the caller's signal fired. */
  async finish(): Promise<void> {
    await Promise.all(this.#running)
    this.#outer?.removeEventListener('abort', this.#onOuter)
    throwIfCancelled(this.#outer)
    if (this.#failure !== undefined) throw this.#failure.error
  }
}
