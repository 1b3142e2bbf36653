/** Asks for a look at each catalogue when its time has come. All processes of a service do so; the id of a task tells the hour, so that one of them succeeds. */
import { createHash } from 'node:crypto'
import type { NewTask, Task, Tasks } from '../catalog/work.ts'
import { type Source, syncInput } from './sources.ts'

const lookMilliseconds = 60_000
const secondsOfAnHour = 3600

export interface ScheduleOptions {
  sources: readonly Source[]
  tasks: Tasks
  /** There is a new task. */
  kick(): void
  onError(error: unknown): void
  /** Seconds since 1970. */
  now?: () => number
}

/** Runs until it is stopped. */
export class Schedule {
  readonly #options: ScheduleOptions
  #timer: NodeJS.Timeout | undefined
  #looking: Promise<void> = Promise.resolve()

  constructor(options: ScheduleOptions) {
    this.#options = options
  }

  start(): void {
    if (this.#options.sources.every(({ hours }) => hours === 0)) return
    this.#timer = setInterval(() => this.look(), lookMilliseconds).unref()
    this.look()
  }

  /** Asks for what is due. */
  look(): Promise<void> {
    this.#looking = this.#looking.then(() => this.#ask()).catch(this.#options.onError)
    return this.#looking
  }

  async stop(): Promise<void> {
    clearInterval(this.#timer)
    await this.#looking
  }

  async #ask(): Promise<void> {
    const { sources, tasks, kick, now = () => Date.now() / 1000 } = this.#options
    for (const source of sources) {
      if (source.hours === 0) continue
      const turn = Math.floor(now() / (source.hours * secondsOfAnHour))
      const id = idOf(`${source.name} ${source.hours} ${turn}`)
      if ((await tasks.get(id)) !== undefined) continue
      const made = await createOnce(tasks, { ...syncTask(source, false), id })
      if (made) kick()
    }
  }
}

/** A task that looks at a catalogue, still without its id. */
export function syncTask(source: Source, dryRun: boolean): Omit<NewTask, 'id'> {
  const nobody = { owner: null, imageId: null, userId: null, requestId: null }
  return { type: 'catalogue_sync', ...nobody, input: syncInput(source, dryRun) }
}

async function createOnce(tasks: Tasks, task: NewTask): Promise<Task | undefined> {
  try {
    return await tasks.create(task)
  } catch (error) {
    // Another process was first.
    if ((await tasks.get(task.id)) !== undefined) return undefined
    throw error
  }
}

function idOf(text: string): string {
  const hex = createHash('sha256').update(`catalogue_sync ${text}`).digest('hex')
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20, 32)].join('-')
}
