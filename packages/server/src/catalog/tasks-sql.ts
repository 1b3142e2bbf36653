/** Tasks in an SQL database. */
import type { Kysely, Transaction } from 'kysely'
import { CatalogError } from './catalog.ts'
import type { JsonObject } from './json.ts'
import type { NewTask, Task, TaskEnd, TaskPage, TaskQuery, TaskStatus, Tasks, TaskType } from './work.ts'
import type { TaskTable, WorkTables } from './work-tables.ts'

const forgottenAtOnce = 1000

export class SqlTasks implements Tasks {
  readonly #db: Kysely<WorkTables>
  readonly #now: () => number

  constructor(db: Kysely<WorkTables>, now: () => number) {
    this.#db = db
    this.#now = now
  }

  create(task: NewTask): Promise<Task> {
    return insertTask(this.#db, task, this.#now())
  }

  async get(id: string): Promise<Task | undefined> {
    const row = await this.#db.selectFrom('tasks').selectAll().where('id', '=', id).executeTakeFirst()
    return row === undefined ? undefined : taskOf(row)
  }

  async list({ owner, status, type, sort, descending, limit, marker }: TaskQuery): Promise<TaskPage> {
    let query = this.#db.selectFrom('tasks').selectAll()
    if (owner !== undefined) query = query.where('owner', '=', owner)
    if (status !== undefined) query = query.where('status', '=', status)
    if (type !== undefined) query = query.where('type', '=', type)
    if (marker !== undefined) {
      const last = await this.#db.selectFrom('tasks').selectAll().where('id', '=', marker).executeTakeFirst()
      if (last === undefined) throw new CatalogError('unknown-marker', `Task with the given id ${marker} was not found`)
      const beyond = descending ? '<' : '>'
      query = query.where(({ eb, or, and, fn, val }) => {
        const key = sort === 'expires_at' ? fn.coalesce(sort, val(0)) : eb.ref(sort)
        const value = last[sort] ?? 0
        return or([eb(key, beyond, value), and([eb(key, '=', value), eb('id', beyond, last.id)])])
      })
    }
    const order = descending ? 'desc' : 'asc'
    query = query.orderBy(({ fn, val, ref }) => (sort === 'expires_at' ? fn.coalesce(sort, val(0)) : ref(sort)), order)
    const rows = await query
      .orderBy('id', order)
      .limit(limit + 1)
      .execute()
    return { tasks: rows.slice(0, limit).map(taskOf), more: rows.length > limit }
  }

  async ofImage(imageId: string): Promise<Task[]> {
    const query = this.#db.selectFrom('tasks').selectAll().where('image_id', '=', imageId)
    return (await query.orderBy('created_at').orderBy('id').execute()).map(taskOf)
  }

  claim(workerId: string, types: readonly TaskType[]): Promise<Task | undefined> {
    return this.#db.transaction().execute(async (db) => {
      const next = await db
        .selectFrom('tasks')
        .select(['id', 'attempts'])
        .where('status', 'in', ['pending', 'processing'])
        .where(({ eb, or, and }) => {
          const isKept = and([eb('worker_id', '=', workerId), eb('status', '=', 'pending')])
          return or([eb('worker_id', 'is', null), isKept])
        })
        .where('type', 'in', types)
        .orderBy(({ eb }) => eb('worker_id', 'is', null))
        .orderBy('created_at')
        .limit(1)
        .executeTakeFirst()
      if (next === undefined) return undefined
      const row = await db
        .updateTable('tasks')
        .set({ worker_id: workerId, status: 'processing', attempts: next.attempts + 1, updated_at: this.#now() })
        .where('id', '=', next.id)
        .returningAll()
        .executeTakeFirstOrThrow()
      return taskOf(row)
    })
  }

  hold(id: string, what: string): Promise<boolean> {
    return this.#db.transaction().execute(async (db) => {
      const going = db.selectFrom('tasks').select('id').where('status', 'in', ['pending', 'processing'])
      await db.deleteFrom('task_holds').where('held', '=', what).where('task_id', 'not in', going).execute()
      const row = { held: what, task_id: id }
      await db
        .insertInto('task_holds')
        .values(row)
        .onConflict((conflict) => conflict.column('held').doNothing())
        .execute()
      const held = await db.selectFrom('task_holds').select('task_id').where('held', '=', what).executeTakeFirst()
      return held?.task_id === id
    })
  }

  report(
    id: string,
    workerId: string,
    progress: number | null,
    message: string,
  ): Promise<Pick<Task, 'cancelled'> | undefined> {
    return this.#db
      .updateTable('tasks')
      .set({ progress, message, updated_at: this.#now() })
      .where('id', '=', id)
      .where('worker_id', '=', workerId)
      .where('status', '=', 'processing')
      .returning('cancelled')
      .executeTakeFirst()
  }

  async cancel(id: string, reason: string): Promise<boolean> {
    const { numUpdatedRows } = await this.#db
      .updateTable('tasks')
      .set({ cancelled: reason })
      .where('id', '=', id)
      .where('status', 'in', ['pending', 'processing'])
      .executeTakeFirstOrThrow()
    return numUpdatedRows > 0n
  }

  async finish(
    id: string,
    workerId: string | null,
    { status, message, result }: TaskEnd,
    expiresAt: number,
  ): Promise<boolean> {
    let query = this.#db
      .updateTable('tasks')
      .set({
        ...{ status, message, result: result === undefined ? null : JSON.stringify(result) },
        ...{ worker_id: null, updated_at: this.#now(), expires_at: expiresAt },
        ...(status === 'success' ? { progress: 1 } : {}),
      })
      .where('id', '=', id)
      .where('status', 'in', ['pending', 'processing'])
    if (workerId !== null) query = query.where('worker_id', '=', workerId)
    const { numUpdatedRows } = await query.executeTakeFirstOrThrow()
    return numUpdatedRows > 0n
  }

  async release(id: string, workerId: string): Promise<void> {
    await this.#db
      .updateTable('tasks')
      .set(({ eb }) => ({ worker_id: null, attempts: eb('attempts', '-', 1) }))
      .where('id', '=', id)
      .where('worker_id', '=', workerId)
      .execute()
  }

  async forgetExpired(): Promise<number> {
    const old = this.#db.selectFrom('tasks').select('id').where('expires_at', '<=', this.#now()).limit(forgottenAtOnce)
    const { numDeletedRows } = await this.#db.deleteFrom('tasks').where('id', 'in', old).executeTakeFirstOrThrow()
    return Number(numDeletedRows)
  }
}

/** @param now Seconds since 1970. */
export async function insertTask(
  db: Kysely<WorkTables> | Transaction<WorkTables>,
  task: NewTask,
  now: number,
): Promise<Task> {
  const { id, type, owner, imageId, userId, requestId, input, workerId = null } = task
  const row: TaskTable = {
    ...{ id, type, owner, image_id: imageId, user_id: userId, request_id: requestId },
    ...{ status: 'pending', input: JSON.stringify(input), result: null, message: '', progress: null },
    ...{ attempts: 0, worker_id: workerId, cancelled: null, created_at: now, updated_at: now, expires_at: null },
  }
  await db.insertInto('tasks').values(row).execute()
  return taskOf(row)
}

function taskOf(row: TaskTable): Task {
  return {
    id: row.id,
    type: row.type as TaskType,
    status: row.status as TaskStatus,
    owner: row.owner,
    imageId: row.image_id,
    userId: row.user_id,
    requestId: row.request_id,
    input: JSON.parse(row.input) as JsonObject,
    result: row.result === null ? null : (JSON.parse(row.result) as JsonObject),
    message: row.message,
    progress: row.progress,
    attempts: row.attempts,
    workerId: row.worker_id,
    cancelled: row.cancelled,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    expiresAt: row.expires_at,
  }
}
