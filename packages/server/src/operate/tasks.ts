/** Tasks as operators see them. */
import type { Task, TaskStatus, Tasks, TaskType } from '../catalog/work.ts'

/** What an operator is told of a task. */
export interface TaskFacts {
  readonly id: string
  readonly type: TaskType
  readonly status: TaskStatus
  readonly imageId: string | null
  /** Of a look at a catalogue, its name. */
  readonly catalogue: string | null
  /** The project. */
  readonly owner: string | null
  readonly userId: string | null
  /** Between 0 and 1; null when unknown. */
  readonly progress: number | null
  /** How far it is, or why it failed. */
  readonly message: string
  /** Why it shall end before it is done; null: it shall not. */
  readonly cancelled: string | null
  /** ISO 8601. */
  readonly createdAt: string
}

const running = ['processing', 'pending'] as const
const pageSize = 500

/** @param all Also those that are over. */
export async function* listTasks(tasks: Tasks, all: boolean): AsyncGenerator<TaskFacts> {
  for (const status of all ? [undefined] : running) {
    for (let marker: string | undefined; ; ) {
      const page = await tasks.list({ status, sort: 'created_at', descending: true, limit: pageSize, marker })
      yield* page.tasks.map(factsOf)
      marker = page.tasks.at(-1)?.id
      if (!page.more || marker === undefined) break
    }
  }
}

function factsOf(task: Task): TaskFacts {
  const { id, type, status, imageId, owner, userId, progress, message, cancelled, input, result } = task
  const source = input.source as { name?: string } | undefined
  const image = imageId ?? result?.image_id
  return {
    ...{ id, type, status, owner, userId, progress, message, cancelled },
    imageId: typeof image === 'string' ? image : null,
    catalogue: source?.name ?? null,
    createdAt: new Date(task.createdAt * 1000).toISOString(),
  }
}
