/** The use of cached images in an SQL database. */
import type { Kysely } from 'kysely'
import type { Migration } from 'kysely/migration'
import type { CachedImages, CacheUse } from './cached-images.ts'
import type { Tables } from './tables.ts'

export interface CacheTables {
  /** Times are seconds since 1970, with fractions. */
  cache_uses: { node: string; image_id: string; hits: number; last_accessed: number }
  cache_queue: { node: string; image_id: string; queued_at: number }
}

export const cacheMigration: Migration = {
  async up(db: Kysely<Tables>) {
    await db.schema
      .createTable('cache_uses')
      .addColumn('node', 'text', (column) => column.notNull())
      .addColumn('image_id', 'text', (column) => column.notNull())
      .addColumn('hits', 'integer', (column) => column.notNull())
      .addColumn('last_accessed', 'double precision', (column) => column.notNull())
      .addPrimaryKeyConstraint('cache_uses_key', ['node', 'image_id'])
      .execute()
    await db.schema
      .createTable('cache_queue')
      .addColumn('node', 'text', (column) => column.notNull())
      .addColumn('image_id', 'text', (column) => column.notNull())
      .addColumn('queued_at', 'double precision', (column) => column.notNull())
      .addPrimaryKeyConstraint('cache_queue_key', ['node', 'image_id'])
      .execute()
  },
}

const now = () => Date.now() / 1000

export class SqlCachedImages implements CachedImages {
  readonly #db: Kysely<Tables>

  constructor(db: Kysely<Tables>) {
    this.#db = db
  }

  async uses(node: string): Promise<CacheUse[]> {
    const rows = await this.#db.selectFrom('cache_uses').selectAll().where('node', '=', node).execute()
    return rows.map(({ image_id, hits, last_accessed }) => ({ imageId: image_id, hits, lastAccessed: last_accessed }))
  }

  async hit(node: string, imageId: string): Promise<void> {
    await this.#db
      .insertInto('cache_uses')
      .values({ node, image_id: imageId, hits: 1, last_accessed: now() })
      .onConflict((conflict) =>
        conflict
          .columns(['node', 'image_id'])
          .doUpdateSet(({ eb }) => ({ hits: eb('cache_uses.hits', '+', 1), last_accessed: now() })),
      )
      .execute()
  }

  async forget(node: string, imageIds: readonly string[]): Promise<void> {
    if (imageIds.length === 0) return
    await this.#db
      .deleteFrom('cache_uses')
      .where('node', '=', node)
      .where('image_id', 'in', [...imageIds])
      .execute()
  }

  async queued(node: string): Promise<string[]> {
    const rows = await this.#db
      .selectFrom('cache_queue')
      .select('image_id')
      .where('node', '=', node)
      .orderBy('queued_at')
      .orderBy('image_id')
      .execute()
    return rows.map(({ image_id }) => image_id)
  }

  async queue(node: string, imageId: string): Promise<void> {
    await this.#db
      .insertInto('cache_queue')
      .values({ node, image_id: imageId, queued_at: now() })
      .onConflict((conflict) => conflict.doNothing())
      .execute()
  }

  async unqueue(node: string, imageId: string): Promise<boolean> {
    const { numDeletedRows } = await this.#db
      .deleteFrom('cache_queue')
      .where('node', '=', node)
      .where('image_id', '=', imageId)
      .executeTakeFirst()
    return numDeletedRows > 0n
  }

  async clearQueue(node: string): Promise<number> {
    const { numDeletedRows } = await this.#db.deleteFrom('cache_queue').where('node', '=', node).executeTakeFirst()
    return Number(numDeletedRows)
  }
}
