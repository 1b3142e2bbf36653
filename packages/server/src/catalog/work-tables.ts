/** Tables of where image data lies, and of who is at work on it. */
import { type Kysely, sql } from 'kysely'
import type { Migration } from 'kysely/migration'
import { singleStore } from './image.ts'
import type { ResumableTable } from './resumables-sql.ts'

export interface WorkTables {
  /** What work must know of images. */
  images: { id: string; deleted_at: number | null }
  image_locations: LocationTable
  workers: WorkerTable
  uploads: UploadTable
  resumable_uploads: ResumableTable
  tasks: TaskTable
  task_holds: TaskHoldTable
}

export interface LocationTable {
  image_id: string
  /** Order in which they were added. */
  position: number
  store: string
  key: string
  status: string
  /** A JSON object. */
  metadata: string
}

export interface WorkerTable {
  id: string
  host: string
  pid: number
  started: string
  /** Seconds since 1970. */
  lease_until: number
}

export interface UploadTable {
  key: string
  store: string
  image_id: string
  worker_id: string
  kind: string
  /** Bytes that it may bring in. */
  promised: number
  /** The task that can go on with it; null: none can. */
  task_id: string | null
  /** Bytes that are on stable storage. */
  received: number
  /** A JSON object that tells of which data they are; null: not known yet. */
  version: string | null
}

export interface TaskTable {
  id: string
  type: string
  status: string
  owner: string | null
  image_id: string | null
  user_id: string | null
  request_id: string | null
  /** A JSON object. */
  input: string
  /** A JSON object. */
  result: string | null
  message: string
  /** Between 0 and 1; null when unknown. */
  progress: number | null
  /** How often it was begun. */
  attempts: number
  worker_id: string | null
  /** Why it shall end before it is done; null: it shall not. */
  cancelled: string | null
  created_at: number
  updated_at: number
  expires_at: number | null
}

/** What only one task may work on at a time, and which does. */
export interface TaskHoldTable {
  held: string
  task_id: string
}

interface Before {
  images: { id: string; status: string; data_key: string | null; deleted_at: number | null }
  image_locations: LocationTable
}

export const workMigration: Migration = {
  async up(db: Kysely<Before>) {
    await db.schema
      .createTable('image_locations')
      .addColumn('image_id', 'text', (column) => column.notNull().references('images.id').onDelete('cascade'))
      .addColumn('position', 'integer', (column) => column.notNull())
      .addColumn('store', 'text', (column) => column.notNull())
      .addColumn('key', 'text', (column) => column.notNull())
      .addColumn('status', 'text', (column) => column.notNull())
      .addColumn('metadata', 'text', (column) => column.notNull())
      .addPrimaryKeyConstraint('image_locations_key', ['image_id', 'position'])
      .execute()
    await db.schema.createIndex('image_locations_by_data').on('image_locations').columns(['key', 'store']).execute()
    await db
      .insertInto('image_locations')
      .columns(['image_id', 'position', 'store', 'key', 'status', 'metadata'])
      .expression((builder) =>
        builder
          .selectFrom('images')
          .select([
            'id',
            sql<number>`0`.as('position'),
            sql<string>`${singleStore}`.as('store'),
            sql<string>`data_key`.as('key'),
            sql<string>`'active'`.as('status'),
            sql<string>`'{}'`.as('metadata'),
          ])
          .where('data_key', 'is not', null)
          .where('deleted_at', 'is', null),
      )
      .execute()
    // Uploads of the process that ran before; from now on each is written down.
    await db.updateTable('images').set({ status: 'queued' }).where('status', '=', 'saving').execute()
    await sql`drop index images_by_data`.execute(db)
    await db.schema.alterTable('images').dropColumn('data_key').execute()

    await db.schema
      .createTable('workers')
      .addColumn('id', 'text', (column) => column.primaryKey().notNull())
      .addColumn('host', 'text', (column) => column.notNull())
      .addColumn('pid', 'integer', (column) => column.notNull())
      .addColumn('started', 'text', (column) => column.notNull())
      .addColumn('lease_until', 'bigint', (column) => column.notNull())
      .execute()
    await db.schema
      .createTable('uploads')
      .addColumn('key', 'text', (column) => column.primaryKey().notNull())
      .addColumn('store', 'text', (column) => column.notNull())
      .addColumn('image_id', 'text', (column) => column.notNull())
      .addColumn('worker_id', 'text', (column) => column.notNull())
      .addColumn('kind', 'text', (column) => column.notNull())
      .execute()
    await db.schema
      .createTable('tasks')
      .addColumn('id', 'text', (column) => column.primaryKey().notNull())
      .addColumn('type', 'text', (column) => column.notNull())
      .addColumn('status', 'text', (column) => column.notNull())
      .addColumn('owner', 'text')
      .addColumn('image_id', 'text')
      .addColumn('user_id', 'text')
      .addColumn('request_id', 'text')
      .addColumn('input', 'text', (column) => column.notNull())
      .addColumn('result', 'text')
      .addColumn('message', 'text', (column) => column.notNull())
      .addColumn('progress', 'real')
      .addColumn('attempts', 'integer', (column) => column.notNull())
      .addColumn('worker_id', 'text')
      .addColumn('created_at', 'bigint', (column) => column.notNull())
      .addColumn('updated_at', 'bigint', (column) => column.notNull())
      .addColumn('expires_at', 'bigint')
      .execute()
    await db.schema.createIndex('tasks_by_age').on('tasks').columns(['created_at', 'id']).execute()
    await db.schema.createIndex('tasks_by_image').on('tasks').columns(['image_id']).execute()
    await sql`create index tasks_to_do on tasks (created_at) where status in ('pending', 'processing')`.execute(db)
  },
}

export const taskHoldMigration: Migration = {
  async up(db: Kysely<WorkTables>) {
    await db.schema
      .createTable('task_holds')
      .addColumn('held', 'text', (column) => column.primaryKey().notNull())
      .addColumn('task_id', 'text', (column) => column.notNull())
      .execute()
  },
}

export const taskCancelMigration: Migration = {
  async up(db: Kysely<WorkTables>) {
    await db.schema.alterTable('tasks').addColumn('cancelled', 'text').execute()
  },
}

export const keptUploadMigration: Migration = {
  async up(db: Kysely<WorkTables>) {
    await db.schema.alterTable('uploads').addColumn('task_id', 'text').execute()
    await db.schema
      .alterTable('uploads')
      .addColumn('received', 'bigint', (column) => column.notNull().defaultTo(0))
      .execute()
    await db.schema.alterTable('uploads').addColumn('version', 'text').execute()
  },
}
