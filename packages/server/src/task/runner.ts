/** Runs tasks: takes those that nobody runs, from whatever process they came, and says in the catalog how far they are. */
import type { JsonObject } from '../catalog/json.ts'
import type { Task, TaskEnd, Tasks, TaskType } from '../catalog/work.ts'

/** Work ends here before it is done, and may go on elsewhere: its task is not this process's any more, or the process ends. */
export class TaskStopped extends Error {}

/** Somebody asked for the task to end; the text is the reason. */
export class TaskCancelled extends Error {}

/** The task was begun too often: whatever ran it never came back. */
export class TaskHopeless extends Error {}

/** A task while it runs. */
export interface Run {
  readonly task: Task
  /** Aborted with TaskStopped or TaskCancelled. */
  readonly signal: AbortSignal
  /** To be called before the work. What the handler does when this throws is what it does about any failure: it puts back what earlier attempts left.
   *  @throws TaskHopeless or TaskCancelled when there shall be no other attempt. */
  begin(): void
  /** Says how far it is; written down now and then. @param progress Between 0 and 1; null when unknown. */
  report(progress: number | null, message: string): void
}

/** Does what a task asks for, from whatever point an earlier attempt left it, once `begin` has let it. What it throws is the task's failure.
 *  Resolves to the result. */
export type Handler = (run: Run) => Promise<JsonObject>

export interface RunnerOptions {
  tasks: Tasks
  workerId: string
  handlers: Partial<Record<TaskType, Handler>>
  /** Tasks at once. */
  limit: number
  /** How long a task is kept that is over. */
  keepSeconds: number
  /** Done each time tasks are looked for. */
  onLook(): Promise<void>
  /** A task does not run here any more. @param end Undefined when it is not over, or was ended elsewhere. */
  onEnd(task: Task, end: TaskEnd | undefined): Promise<void>
  /** What is told of a failure. */
  explain(error: unknown, task: Task): string
  log: { info(facts: object, text: string): void; error(facts: object, text: string): void }
}

const pollMilliseconds = 1000
/** A task that ended the processes that ran it is not tried for ever. */
const mostAttempts = 3

export class TaskRunner {
  readonly #options: RunnerOptions
  readonly #running = new Map<Promise<void>, AbortController>()
  #timer: NodeJS.Timeout | undefined
  #looking: Promise<void> | undefined
  #lookAgain = false
  #closed = false
  #lastForgotten = 0

  constructor(options: RunnerOptions) {
    this.#options = options
  }

  start(): void {
    this.#timer = setInterval(() => this.kick(), pollMilliseconds).unref()
    this.kick()
  }

  /** There may be a new task. */
  kick(): void {
    this.#lookAgain = true
    this.#looking ??= this.#look()
      .catch((error: unknown) => this.#options.log.error({ err: error }, 'tasks cannot be looked for'))
      .finally(() => {
        this.#looking = undefined
        if (this.#lookAgain && !this.#closed) this.kick()
      })
  }

  /** Gives back what runs; another process, or the next one, goes on with it. */
  async stop(): Promise<void> {
    this.#closed = true
    clearInterval(this.#timer)
    await this.#looking
    for (const controller of this.#running.values()) controller.abort(new TaskStopped('the service stops'))
    await Promise.all(this.#running.keys())
  }

  /** Waits until nothing runs here. */
  async idle(): Promise<void> {
    do {
      await this.#looking
      await Promise.all(this.#running.keys())
    } while (this.#looking !== undefined || this.#running.size > 0)
  }

  async #look(): Promise<void> {
    const { tasks, workerId, handlers, limit, onLook } = this.#options
    this.#lookAgain = false
    const now = Date.now()
    if (now - this.#lastForgotten > 60_000) {
      this.#lastForgotten = now
      await tasks.forgetExpired()
    }
    await onLook()
    while (!this.#closed && this.#running.size < limit) {
      const task = await tasks.claim(workerId, Object.keys(handlers) as TaskType[])
      if (task === undefined) return
      const controller = new AbortController()
      const run = this.#run(task, controller).finally(() => {
        this.#running.delete(run)
        this.kick()
      })
      this.#running.set(run, controller)
    }
  }

  async #run(task: Task, controller: AbortController): Promise<void> {
    const { tasks, workerId, handlers, keepSeconds, onEnd, explain, log } = this.#options
    const { signal } = controller
    let progress: number | null = null
    let message = task.message
    const beat = setInterval(() => {
      tasks.report(task.id, workerId, progress, message).then(
        (now) => {
          if (now === undefined) controller.abort(new TaskStopped('the task is not run here any more'))
          else if (now.cancelled !== null) controller.abort(new TaskCancelled(now.cancelled))
        },
        (error: unknown) => log.error({ err: error, task: task.id }, 'a task cannot be reported'),
      )
    }, pollMilliseconds)
    let end: TaskEnd | undefined
    const finish = async (how: TaskEnd) => {
      const expiresAt = Math.floor(Date.now() / 1000) + keepSeconds
      if (await tasks.finish(task.id, workerId, how, expiresAt)) end = how
    }
    try {
      const handler = handlers[task.type]
      if (handler === undefined) throw new Error(`nobody here knows tasks of type ${task.type}`)
      const report: Run['report'] = (share, text) => {
        progress = share
        message = text
      }
      const result = await handler({ task, signal, begin: () => letBegin(task), report })
      await finish({ status: 'success', message: '', result })
      log.info({ task: task.id, image: task.imageId }, 'task succeeded')
    } catch (error) {
      try {
        if (isStopped(signal)) await tasks.release(task.id, workerId)
        else await finish({ status: 'failure', message: explain(signal.aborted ? signal.reason : error, task) })
        log.error({ err: error, task: task.id, image: task.imageId }, signal.aborted ? 'task stopped' : 'task failed')
      } catch (second) {
        log.error({ err: second, task: task.id }, 'the end of a task cannot be written down')
      }
    } finally {
      clearInterval(beat)
      await onEnd(task, end).catch((error: unknown) =>
        log.error({ err: error, task: task.id }, 'what follows a task failed'),
      )
    }
  }
}

/** Whether what a handler is at may go on elsewhere: it is left as it is then. */
export function isStopped({ reason }: AbortSignal): boolean {
  return reason instanceof TaskStopped
}

function letBegin({ attempts, cancelled }: Task): void {
  if (cancelled !== null) throw new TaskCancelled(cancelled)
  if (attempts > mostAttempts)
    throw new TaskHopeless(`it was begun ${mostAttempts} times, and each time the process that ran it died`)
}
