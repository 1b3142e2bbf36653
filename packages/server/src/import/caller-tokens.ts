/** Tokens of callers in whose name a task asks another service. They are in the memory of the process that took the request, never written down, and gone
 *  when the task is over. */
import type { Tasks } from '../catalog/work.ts'

/** A request is answered long before; its task stands in the catalog by then, or there is none. */
const youngMilliseconds = 60_000

export class CallerTokens {
  readonly #tokens = new Map<string, { token: string; since: number }>()
  readonly #now: () => number

  /** @param now Milliseconds. */
  constructor(now: () => number = Date.now) {
    this.#now = now
  }

  get size(): number {
    return this.#tokens.size
  }

  /** Before the task is in the catalog. */
  keep(taskId: string, token: string): void {
    this.#tokens.set(taskId, { token, since: this.#now() })
  }

  of(taskId: string): string | undefined {
    return this.#tokens.get(taskId)?.token
  }

  drop(taskId: string): void {
    this.#tokens.delete(taskId)
  }

  /** Drops those of tasks that ended elsewhere, as with the deletion of their image. */
  async sweep(tasks: Pick<Tasks, 'get'>): Promise<void> {
    for (const [id, { since }] of this.#tokens) {
      const task = await tasks.get(id)
      const isOver =
        task === undefined
          ? this.#now() - since > youngMilliseconds
          : task.status === 'success' || task.status === 'failure'
      if (isOver) this.drop(id)
    }
  }
}
