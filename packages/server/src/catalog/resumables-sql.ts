/** Uploads that may go on later, in an SQL database. */
import type { Kysely, Transaction } from 'kysely'
import type { Migration } from 'kysely/migration'
import type { Image } from './image.ts'
import type { Resumable, Resumables } from './resumables.ts'
import type { Tables } from './tables.ts'
import { deleteUpload } from './work-sql.ts'

export interface ResumableTable {
  image_id: string
  store: string
  key: string
  length: number
  received: number
  worker_id: string | null
  expires_at: number
}

export const resumableMigration: Migration = {
  async up(db: Kysely<Tables>) {
    await db.schema
      .createTable('resumable_uploads')
      .addColumn('image_id', 'text', (column) => column.notNull().primaryKey())
      .addColumn('store', 'text', (column) => column.notNull())
      .addColumn('key', 'text', (column) => column.notNull())
      .addColumn('length', 'bigint', (column) => column.notNull())
      .addColumn('received', 'bigint', (column) => column.notNull())
      .addColumn('worker_id', 'text')
      .addColumn('expires_at', 'bigint', (column) => column.notNull())
      .execute()
  },
}

export class SqlResumables implements Resumables {
  readonly #db: Kysely<Tables>
  readonly #now: () => number

  constructor(db: Kysely<Tables>, now: () => number) {
    this.#db = db
    this.#now = now
  }

  async get(imageId: string): Promise<Resumable | undefined> {
    const row = await this.#db
      .selectFrom('resumable_uploads')
      .selectAll()
      .where('image_id', '=', imageId)
      .executeTakeFirst()
    return row === undefined ? undefined : resumableOf(row)
  }

  async hold(imageId: string, workerId: string): Promise<boolean> {
    const { numUpdatedRows } = await this.#db
      .updateTable('resumable_uploads')
      .set({ worker_id: workerId })
      .where('image_id', '=', imageId)
      .where('worker_id', 'is', null)
      .executeTakeFirst()
    return numUpdatedRows > 0n
  }

  async report(
    imageId: string,
    workerId: string,
    received: number,
    expiresAt: number,
    release: boolean,
  ): Promise<void> {
    await this.#db
      .updateTable('resumable_uploads')
      .set({ received, expires_at: expiresAt, ...(release ? { worker_id: null } : {}) })
      .where('image_id', '=', imageId)
      .where('worker_id', '=', workerId)
      .execute()
  }

  async remove(imageId: string): Promise<void> {
    await this.#db.deleteFrom('resumable_uploads').where('image_id', '=', imageId).execute()
  }

  async expired(): Promise<Resumable[]> {
    const rows = await this.#db
      .selectFrom('resumable_uploads')
      .selectAll()
      .where('expires_at', '<', this.#now())
      .where('worker_id', 'is', null)
      .execute()
    return rows.map(resumableOf)
  }
}

export async function insertResumable(db: Transaction<Tables>, resumable: Resumable): Promise<void> {
  const { imageId, store, key, length, received, workerId, expiresAt } = resumable
  const row = { image_id: imageId, store, key, length, received, worker_id: workerId, expires_at: expiresAt }
  // An upload that is over may still be there, for a client that did not hear of its end.
  await db.deleteFrom('resumable_uploads').where('image_id', '=', imageId).execute()
  await db.insertInto('resumable_uploads').values(row).execute()
}

/** In the same moment as its image changes, so that no upload stands for unfinished whose data an image counts on.
 *  @param image As it is then; it has the data, or the upload is forgotten. */
export async function endResumable(db: Transaction<Tables>, key: string, image: Image | undefined): Promise<void> {
  const isDone = image?.locations.some((location) => location.key === key) ?? false
  if (!isDone) await db.deleteFrom('resumable_uploads').where('key', '=', key).execute()
  else {
    const over = db.updateTable('resumable_uploads').set(({ ref }) => ({ received: ref('length'), worker_id: null }))
    await over.where('key', '=', key).execute()
  }
}

/** In the same moment as its image is deleted: nobody claims what it has written. */
export async function removeResumable(db: Transaction<Tables>, imageId: string): Promise<void> {
  const row = await db.deleteFrom('resumable_uploads').where('image_id', '=', imageId).returningAll().executeTakeFirst()
  if (row !== undefined) await deleteUpload(db, row.key)
}

function resumableOf({ image_id, worker_id, expires_at, ...row }: ResumableTable): Resumable {
  return { ...row, imageId: image_id, workerId: worker_id, expiresAt: expires_at }
}
