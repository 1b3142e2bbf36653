/** What projects use, counted by an SQL database. */
import { type Kysely, sql, type Transaction } from 'kysely'
import type { Migration } from 'kysely/migration'
import type { Tables } from './tables.ts'
import type { Bound, Usage, Usages } from './usage.ts'

/** Where an image is while its data is on its way. */
export const uploadingStatuses = ['saving', 'uploading', 'importing'] as const

export const quotaMigration: Migration = {
  async up(db: Kysely<Tables>) {
    await db.schema
      .alterTable('uploads')
      .addColumn('promised', 'bigint', (column) => column.notNull().defaultTo(0))
      .execute()
    await sql`create index images_by_owner_status on images (owner, status) where deleted_at is null`.execute(db)
  },
}

type Queries = Kysely<Tables> | Transaction<Tables>

export class SqlUsages implements Usages {
  readonly #db: Kysely<Tables>

  constructor(db: Kysely<Tables>) {
    this.#db = db
  }

  async of(owner: string | null): Promise<Usage> {
    return {
      bytes: await bytesOf(this.#db, { owner }, 'bytes'),
      stagedBytes: await bytesOf(this.#db, { owner }, 'stagedBytes'),
      images: await countImages(this.#db, owner),
      uploading: await countImages(this.#db, owner, uploadingStatuses),
    }
  }

  promise(
    uploadKey: string,
    bytes: number,
    bounds: readonly Bound[],
  ): Promise<{ bound: Bound; left: number } | undefined> {
    return this.#db.transaction().execute(async (db) => {
      for (const bound of bounds) {
        const others = await bytesOf(db, bound.of, bound.kind, uploadKey)
        if (others + bytes > bound.limit) return { bound, left: Math.max(0, bound.limit - others) }
      }
      await db.updateTable('uploads').set({ promised: bytes }).where('key', '=', uploadKey).execute()
      return undefined
    })
  }
}

/** One row with the number of images of an owner. */
export function numberOfImages(db: Queries, owner: string | null) {
  return db
    .selectFrom('images')
    .select(({ fn }) => fn.countAll<number>().as('count'))
    .where('owner', owner === null ? 'is' : '=', owner)
    .where('deleted_at', 'is', null)
}

/** Images of an owner. */
export async function countImages(db: Queries, owner: string | null, statuses?: readonly string[]): Promise<number> {
  let query = numberOfImages(db, owner)
  if (statuses !== undefined) query = query.where('status', 'in', [...statuses])
  return Number((await query.executeTakeFirst())?.count ?? 0)
}

/** @param without The key of an upload that does not count. */
async function bytesOf(db: Queries, of: Bound['of'], kind: Bound['kind'], without = ''): Promise<number> {
  let stored = db
    .selectFrom('images')
    .innerJoin('image_locations', 'image_locations.image_id', 'images.id')
    .select(({ fn }) => fn.sum<number | null>('images.size').as('bytes'))
    .where('image_locations.status', kind === 'stagedBytes' ? '=' : '!=', 'staged')
    .where('images.deleted_at', 'is', null)
  let promised = db
    .selectFrom('uploads')
    .innerJoin('images', 'images.id', 'uploads.image_id')
    .select(({ fn }) => fn.sum<number | null>('uploads.promised').as('bytes'))
    .where('uploads.kind', kind === 'stagedBytes' ? '=' : '!=', 'stage')
    .where('uploads.key', '!=', without)
  if (of !== 'everybody') {
    const operator = of.owner === null ? 'is' : '='
    stored = stored.where('images.owner', operator, of.owner)
    promised = promised.where('images.owner', operator, of.owner)
  }
  const parts = [await stored.executeTakeFirst(), await promised.executeTakeFirst()]
  return parts.reduce((sum, part) => sum + Number(part?.bytes ?? 0), 0)
}
