/** Who is at work on what, in an SQL database. */
import type { Kysely, Transaction } from 'kysely'
import { type Catalog, CatalogError } from './catalog.ts'
import { emptied, type Image, type ImageStatus } from './image.ts'
import type { JsonObject } from './json.ts'
import { nobodysWorker } from './resumables.ts'
import { SqlTasks } from './tasks-sql.ts'
import type { KeptUpload, Upload, Work, WorkerFacts } from './work.ts'
import type { UploadTable, WorkTables } from './work-tables.ts'

type Database = Kysely<WorkTables>
type Update = Catalog['update']

/** The status of an image whose data is on its way, by how it comes. An import goes on with its task. */
const waiting: Readonly<Record<Upload['kind'], ImageStatus | undefined>> = {
  upload: 'saving',
  stage: 'uploading',
  import: undefined,
}

export class SqlWork implements Work {
  readonly tasks: SqlTasks
  readonly #db: Database
  readonly #update: Update

  /** @param update Of the catalog. */
  constructor(db: Database, now: () => number, update: Update) {
    this.#db = db
    this.#update = update
    this.tasks = new SqlTasks(db, now)
  }

  async greet({ id, host, pid, started, leaseUntil }: WorkerFacts): Promise<void> {
    await this.#db
      .insertInto('workers')
      .values({ id, host, pid, started, lease_until: leaseUntil })
      .onConflict((conflict) => conflict.column('id').doUpdateSet({ lease_until: leaseUntil }))
      .execute()
  }

  async workers(): Promise<WorkerFacts[]> {
    const rows = await this.#db.selectFrom('workers').selectAll().execute()
    return rows.map(({ lease_until, ...facts }) => ({ ...facts, leaseUntil: lease_until }))
  }

  async strays(): Promise<string[]> {
    const known = this.#db.selectFrom('workers').select('id')
    const having = (table: 'uploads' | 'tasks' | 'resumable_uploads') =>
      this.#db
        .selectFrom(table)
        .select('worker_id')
        .where('worker_id', 'is not', null)
        .where('worker_id', '!=', nobodysWorker)
        .where('worker_id', 'not in', known)
    const rows = await having('uploads').union(having('tasks')).union(having('resumable_uploads')).execute()
    return rows.flatMap(({ worker_id: id }) => id ?? [])
  }

  async bury(workerId: string): Promise<Upload[]> {
    await this.#release('worker_id', workerId)
    const rows = await this.#db.selectFrom('uploads').selectAll().where('worker_id', '=', workerId).execute()
    const taken: Upload[] = []
    for (const upload of rows.map(uploadOf)) if (await this.#take(upload)) taken.push(upload)
    await this.#db.updateTable('tasks').set({ worker_id: null }).where('worker_id', '=', workerId).execute()
    await this.#db.updateTable('resumable_uploads').set({ worker_id: null }).where('worker_id', '=', workerId).execute()
    // Last: when this process ends in between, another one goes on.
    await this.#db.deleteFrom('workers').where('id', '=', workerId).execute()
    return taken
  }

  async openUpload(upload: Upload): Promise<void> {
    await insertUpload(this.#db, upload)
  }

  async closeUpload(key: string): Promise<boolean> {
    return deleteUpload(this.#db, key)
  }

  async keepUpload(key: string, received: number, version: JsonObject): Promise<void> {
    const row = { received, version: JSON.stringify(version) }
    await this.#db.updateTable('uploads').set(row).where('key', '=', key).execute()
  }

  async releaseKept(key: string): Promise<void> {
    await this.#release('key', key)
  }

  takeKept(taskId: string, workerId: string, key: string): Promise<KeptUpload | undefined> {
    return this.#db.transaction().execute(async (db) => {
      const row = await db
        .selectFrom('uploads')
        .selectAll()
        .where('task_id', '=', taskId)
        .where('worker_id', '=', nobodysWorker)
        .executeTakeFirst()
      if (row === undefined) return undefined
      await db.updateTable('uploads').set({ key, worker_id: workerId }).where('key', '=', row.key).execute()
      return { ...uploadOf(row), received: row.received, version: JSON.parse(row.version ?? '{}') as JsonObject }
    })
  }

  async closeForgotten(): Promise<Upload[]> {
    const rows = await this.#db
      .deleteFrom('uploads')
      .where('worker_id', '=', nobodysWorker)
      .where('task_id', 'is not', null)
      .where(({ and, not, exists, selectFrom, ref }) =>
        not(
          and([
            exists(
              selectFrom('tasks')
                .select('tasks.id')
                .where('tasks.id', '=', ref('uploads.task_id'))
                .where('tasks.status', 'in', ['pending', 'processing']),
            ),
            exists(
              selectFrom('images')
                .select('images.id')
                .where('images.id', '=', ref('uploads.image_id'))
                .where('images.deleted_at', 'is', null),
            ),
          ]),
        ),
      )
      .returningAll()
      .execute()
    return rows.map(uploadOf)
  }

  async knownData(store: string, keys: readonly string[]): Promise<Set<string>> {
    if (keys.length === 0) return new Set()
    const rows = await this.#db
      .selectFrom('image_locations')
      .select('key')
      .where('store', '=', store)
      .where('key', 'in', keys)
      .union(this.#db.selectFrom('uploads').select('key').where('store', '=', store).where('key', 'in', keys))
      .execute()
    return new Set(rows.map(({ key }) => key))
  }

  /** What is kept for a task is nobody's from now on. */
  async #release(column: 'key' | 'worker_id', value: string): Promise<void> {
    await this.#db
      .updateTable('uploads')
      .set({ worker_id: nobodysWorker })
      .where(column, '=', value)
      .where('task_id', 'is not', null)
      .where('version', 'is not', null)
      .execute()
  }

  /** Ends an upload in the name of a worker that is gone. Resolves to false when another process did. */
  async #take({ key, imageId, kind }: Upload): Promise<boolean> {
    const status = waiting[kind]
    if (status === undefined) return this.closeUpload(key)
    const abandoned = (image: Image) => {
      const isStaged = image.locations.some((location) => location.status === 'staged')
      return image.status === status && !isStaged ? emptied(image) : undefined
    }
    try {
      await this.#update(imageId, abandoned, { closes: key })
      return true
    } catch (error) {
      if (error instanceof CatalogError && error.kind === 'lost') return false
      throw error
    }
  }
}

export async function insertUpload(db: Database | Transaction<WorkTables>, upload: Upload): Promise<void> {
  const { key, store, imageId, workerId, kind, taskId = null } = upload
  const nothing = { promised: 0, received: 0, version: null }
  await db
    .insertInto('uploads')
    .values({ key, store, image_id: imageId, worker_id: workerId, kind, task_id: taskId, ...nothing })
    .execute()
}

/** Resolves to whether it was there. */
export async function deleteUpload(db: Database | Transaction<WorkTables>, key: string): Promise<boolean> {
  const { numDeletedRows } = await db.deleteFrom('uploads').where('key', '=', key).executeTakeFirstOrThrow()
  return numDeletedRows > 0n
}

function uploadOf({ key, store, image_id, worker_id, kind, task_id }: UploadTable): Upload {
  const facts = { key, store, imageId: image_id, workerId: worker_id, kind: kind as Upload['kind'] }
  return task_id === null ? facts : { ...facts, taskId: task_id }
}
