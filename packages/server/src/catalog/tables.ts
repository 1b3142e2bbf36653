/** The tables of the catalog and how they came to be. Plain SQL types, so that another database can take them too. */
import { MoraineError } from '@moraine/engine'
import { type Kysely, sql } from 'kysely'
import type { Migration } from 'kysely/migration'
import { type AccountTables, accountMigration } from './accounts-tables.ts'
import { type CacheTables, cacheMigration } from './cached-images-sql.ts'
import { type MemberTable, memberMigration } from './members-sql.ts'
import { type MetadefTables, metadefMigration } from './metadefs-tables.ts'
import { resumableMigration } from './resumables-sql.ts'
import { quotaMigration } from './usage-sql.ts'
import {
  keptUploadMigration,
  taskCancelMigration,
  taskHoldMigration,
  type WorkTables,
  workMigration,
} from './work-tables.ts'

export interface ImageTable {
  id: string
  name: string | null
  status: string
  visibility: string
  owner: string | null
  disk_format: string | null
  container_format: string | null
  size: number | null
  virtual_size: number | null
  checksum: string | null
  os_hash_algo: string | null
  os_hash_value: string | null
  /** 0 or 1, as are all flags: SQLite has no booleans. */
  protected: number
  os_hidden: number
  min_ram: number
  min_disk: number
  /** Seconds since 1970. */
  created_at: number
  updated_at: number
  /** Set once the image is deleted; the row stays, so that its id is never given again. */
  deleted_at: number | null
}

export interface Tables extends MetadefTables, WorkTables, AccountTables, CacheTables {
  images: ImageTable
  image_properties: { image_id: string; name: string; value: string }
  image_tags: { image_id: string; position: number; value: string }
  image_members: MemberTable
}

const first: Migration = {
  async up(db: Kysely<Tables>) {
    await db.schema
      .createTable('images')
      .addColumn('id', 'text', (column) => column.primaryKey().notNull())
      .addColumn('name', 'text')
      .addColumn('status', 'text', (column) => column.notNull())
      .addColumn('visibility', 'text', (column) => column.notNull())
      .addColumn('owner', 'text')
      .addColumn('disk_format', 'text')
      .addColumn('container_format', 'text')
      .addColumn('size', 'bigint')
      .addColumn('virtual_size', 'bigint')
      .addColumn('checksum', 'text')
      .addColumn('os_hash_algo', 'text')
      .addColumn('os_hash_value', 'text')
      .addColumn('protected', 'integer', (column) => column.notNull())
      .addColumn('os_hidden', 'integer', (column) => column.notNull())
      .addColumn('min_ram', 'integer', (column) => column.notNull())
      .addColumn('min_disk', 'integer', (column) => column.notNull())
      .addColumn('created_at', 'bigint', (column) => column.notNull())
      .addColumn('updated_at', 'bigint', (column) => column.notNull())
      .addColumn('deleted_at', 'bigint')
      .addColumn('data_key', 'text')
      .execute()
    // The order of lists that name none, and what people filter by.
    await sql`create index images_by_age on images (created_at, id) where deleted_at is null`.execute(db)
    await sql`create index images_by_name on images (name) where deleted_at is null`.execute(db)
    await sql`create index images_by_status on images (status) where deleted_at is null`.execute(db)
    await sql`create unique index images_by_data on images (data_key) where data_key is not null`.execute(db)
    await db.schema
      .createTable('image_properties')
      .addColumn('image_id', 'text', (column) => column.notNull().references('images.id').onDelete('cascade'))
      .addColumn('name', 'text', (column) => column.notNull())
      .addColumn('value', 'text', (column) => column.notNull())
      .addPrimaryKeyConstraint('image_properties_key', ['image_id', 'name'])
      .execute()
    await db.schema
      .createTable('image_tags')
      .addColumn('image_id', 'text', (column) => column.notNull().references('images.id').onDelete('cascade'))
      .addColumn('position', 'integer', (column) => column.notNull())
      .addColumn('value', 'text', (column) => column.notNull())
      .addPrimaryKeyConstraint('image_tags_key', ['image_id', 'value'])
      .execute()
    await db.schema.createIndex('image_tags_by_value').on('image_tags').columns(['value', 'image_id']).execute()
  },
}

/** In the order in which they are applied; a published one never changes. */
export const migrations: Readonly<Record<string, Migration>> = {
  '0001_images': first,
  '0002_metadefs': metadefMigration,
  '0003_members': memberMigration,
  '0004_work': workMigration,
  '0005_accounts': accountMigration,
  '0006_cache': cacheMigration,
  '0007_quota': quotaMigration,
  '0008_resumables': resumableMigration,
  '0009_task_holds': taskHoldMigration,
  '0010_task_cancel': taskCancelMigration,
  '0011_kept_uploads': keptUploadMigration,
}

/** What a newer version has written may not mean what this one takes it for. @param seen The migrations that a catalog has seen.
 *  @throws MoraineError `unsupported` for one that is not known here. */
export function refuseNewer(path: string, seen: readonly string[]): void {
  const unknown = seen.find((name) => !Object.hasOwn(migrations, name))
  if (unknown === undefined) return
  throw new MoraineError('unsupported', `${path} was changed by a newer version of moraine (${unknown})`, { path })
}
