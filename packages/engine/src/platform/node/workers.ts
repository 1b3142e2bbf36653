/** A pool of worker threads for work that would keep the event loop busy: packing and unpacking. Workers run synchronous code on descriptors of this
 *  process; what they are handed is copied, or changes hands when it is on the transfer list. */
import { availableParallelism } from 'node:os'
import type { Worker } from 'node:worker_threads'
import { workerEntry } from '#libc'
import { MoraineError, throwIfCancelled } from '../../core/index.ts'
import type { Tasks, WorkerPool } from '../worker-pool.ts'
import { workerThreads } from './builtin.ts'
import type { TaskReply, TaskRequest } from './worker-protocol.ts'

/** Workers at most, however many processors there are. */
const mostWorkers = 8

/* A worker that has its next task at hand does not wait for the main thread between two. */
const tasksPerWorker = 2

let shared: WorkerPool | undefined

/** The pool of this process. Workers start when there is work, at most 8 and no more than there are processors, and do not keep the process alive
 *  when they are idle. After `close()`, the next call makes a new pool. */
export function workers(): WorkerPool {
  shared ??= startPool(Math.min(mostWorkers, availableParallelism()), workerEntry(), () => {
    shared = undefined
  })
  return shared
}

/** A pool of at most `size` workers that run the module at `entry`; it calls `onClose` when it is closed. */
export function startPool(size: number, entry: string | URL, onClose: () => void = () => {}): WorkerPool {
  return new Pool(size, entry, onClose)
}

interface Task {
  request: TaskRequest
  transfer: readonly ArrayBuffer[]
  signal: AbortSignal | undefined
  resolve(output: unknown): void
  reject(error: MoraineError): void
}

class Pool implements WorkerPool {
  readonly size: number
  readonly #entry: string | URL
  readonly #onClose: () => void
  readonly #hands = new Set<Hand>()
  readonly #waiting: Task[] = []
  #next = 0
  #closed = false

  constructor(size: number, entry: string | URL, onClose: () => void) {
    this.size = size
    this.#entry = entry
    this.#onClose = onClose
  }

  run<Name extends keyof Tasks>(
    name: Name,
    input: Tasks[Name]['input'],
    transfer: readonly ArrayBuffer[] = [],
    signal?: AbortSignal,
  ): Promise<Tasks[Name]['output']> {
    return new Promise<Tasks[Name]['output']>((resolve, reject) => {
      throwIfCancelled(signal)
      if (this.#closed) throw new MoraineError('cancelled', 'the pool of workers was closed')
      const task: Task = {
        request: { id: this.#next++, name, input },
        transfer,
        signal,
        resolve: (output) => {
          signal?.removeEventListener('abort', onAbort)
          resolve(output as Tasks[Name]['output'])
        },
        reject: (error) => {
          signal?.removeEventListener('abort', onAbort)
          reject(error)
        },
      }
      const onAbort = (): void => {
        const at = this.#waiting.indexOf(task)
        if (at < 0) return
        this.#waiting.splice(at, 1)
        task.reject(cancelled(signal))
      }
      signal?.addEventListener('abort', onAbort)
      this.#waiting.push(task)
      this.#deal()
    })
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#onClose()
    for (const task of this.#waiting.splice(0)) {
      task.reject(new MoraineError('cancelled', 'the pool of workers was closed'))
    }
    await Promise.all([...this.#hands].map((hand) => hand.close()))
  }

  /** Gives waiting tasks to idle workers, then to new ones, then to busy ones as their next. */
  #deal(): void {
    while (this.#waiting.length > 0) {
      let hand: Hand | undefined
      for (const each of this.#hands) if (hand === undefined || each.tasks < hand.tasks) hand = each
      if ((hand === undefined || hand.tasks > 0) && this.#hands.size < this.size) {
        hand = new Hand(
          this.#entry,
          () => this.#deal(),
          (gone) => {
            this.#hands.delete(gone)
            this.#deal()
          },
        )
        this.#hands.add(hand)
      }
      if (hand === undefined || hand.tasks >= tasksPerWorker) return
      const task = this.#waiting.shift()
      if (task !== undefined) hand.take(task)
    }
  }
}

/** One worker and the tasks it has. */
class Hand {
  readonly #worker: Worker
  readonly #tasks = new Map<number, Task>()
  readonly #onFree: () => void
  readonly #onGone: (hand: Hand) => void
  #whenIdle: (() => void) | undefined

  constructor(entry: string | URL, onFree: () => void, onGone: (hand: Hand) => void) {
    this.#onFree = onFree
    this.#onGone = onGone
    // The arguments of this process are not for workers: some (`--input-type`, say) keep them from starting.
    const { Worker } = workerThreads()
    this.#worker = new Worker(entry, { execArgv: [] })
    this.#worker.unref()
    this.#worker.on('message', (reply: TaskReply) => this.#finish(reply))
    // 'exit' follows 'error': the first of the two settles everything.
    this.#worker.on('messageerror', (error) => void this.#worker.terminate().then(() => this.#die(error)))
    this.#worker.on('error', (error) => this.#die(error))
    this.#worker.on('exit', (code) => this.#die(new Error(`it ended with code ${code}`)))
  }

  get tasks(): number {
    return this.#tasks.size
  }

  take(task: Task): void {
    try {
      this.#worker.postMessage(task.request, task.transfer)
    } catch (error) {
      // Something in it cannot be handed over: a buffer that was handed over before, say.
      task.reject(new MoraineError('invalid', `a task cannot be given to a worker: ${messageOf(error)}`))
      return
    }
    this.#tasks.set(task.request.id, task)
    this.#worker.ref()
  }

  async close(): Promise<void> {
    if (this.#tasks.size > 0) {
      await new Promise<void>((resolve) => {
        this.#whenIdle = resolve
      })
    }
    this.#worker.removeAllListeners('exit')
    await this.#worker.terminate()
  }

  #finish(reply: TaskReply): void {
    const task = this.#tasks.get(reply.id)
    this.#tasks.delete(reply.id)
    if (this.#tasks.size === 0) this.#rest()
    if (task !== undefined) {
      if (task.signal?.aborted === true) task.reject(cancelled(task.signal))
      else if ('output' in reply) task.resolve(reply.output)
      else task.reject(new MoraineError(reply.error.kind, reply.error.reason, reply.error.place))
    }
    this.#onFree()
  }

  #die(error: unknown): void {
    const lost = [...this.#tasks.values()]
    this.#tasks.clear()
    this.#rest()
    this.#onGone(this)
    for (const task of lost) {
      task.reject(new MoraineError('io', `a worker thread died: ${messageOf(error)}`, { cause: error }))
    }
  }

  #rest(): void {
    this.#worker.unref()
    this.#whenIdle?.()
  }
}

function cancelled(signal: AbortSignal | undefined): MoraineError {
  return new MoraineError('cancelled', 'the operation was cancelled', { cause: signal?.reason })
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
