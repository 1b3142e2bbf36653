/** Members of images in an SQL database. */
import { type Kysely, sql } from 'kysely'
import type { Migration } from 'kysely/migration'
import { CatalogError } from './catalog.ts'
import type { Member, MemberStatus, Members } from './members.ts'
import type { Tables } from './tables.ts'

export interface MemberTable {
  image_id: string
  /** The project. */
  member: string
  status: string
  /** Seconds since 1970. */
  created_at: number
  updated_at: number
}

/** Makes the table, and the indexes by which a project's list finds what it may see without passing by the images of others. */
export const memberMigration: Migration = {
  async up(db: Kysely<Tables>) {
    await db.schema
      .createTable('image_members')
      .addColumn('image_id', 'text', (column) => column.notNull().references('images.id').onDelete('cascade'))
      .addColumn('member', 'text', (column) => column.notNull())
      .addColumn('status', 'text', (column) => column.notNull())
      .addColumn('created_at', 'bigint', (column) => column.notNull())
      .addColumn('updated_at', 'bigint', (column) => column.notNull())
      .addPrimaryKeyConstraint('image_members_key', ['image_id', 'member'])
      .execute()
    await db.schema.createIndex('image_members_by_member').on('image_members').columns(['member', 'status']).execute()
    await sql`create index images_by_owner on images (owner, created_at, id) where deleted_at is null`.execute(db)
    await sql`create index images_by_visibility on images (visibility, created_at, id) where deleted_at is null`.execute(
      db,
    )
  },
}

export class SqlMembers implements Members {
  readonly #db: Kysely<Tables>
  readonly #now: () => number

  constructor(db: Kysely<Tables>, now: () => number) {
    this.#db = db
    this.#now = now
  }

  async list(imageId: string): Promise<Member[]> {
    const rows = await this.#db
      .selectFrom('image_members')
      .selectAll()
      .where('image_id', '=', imageId)
      .orderBy('member')
      .execute()
    return rows.map(memberOf)
  }

  async get(imageId: string, memberId: string): Promise<Member | undefined> {
    const row = await this.#db
      .selectFrom('image_members')
      .selectAll()
      .where('image_id', '=', imageId)
      .where('member', '=', memberId)
      .executeTakeFirst()
    return row === undefined ? undefined : memberOf(row)
  }

  async add(imageId: string, memberId: string, most: number): Promise<Member> {
    const now = this.#now()
    const row: MemberTable = {
      image_id: imageId,
      member: memberId,
      status: 'pending',
      created_at: now,
      updated_at: now,
    }
    await this.#db.transaction().execute(async (db) => {
      const image = await db
        .selectFrom('images')
        .select('id')
        .where('id', '=', imageId)
        .where('deleted_at', 'is', null)
        .executeTakeFirst()
      if (image === undefined) throw new CatalogError('missing', `No image found with ID ${imageId}`)
      const members = await db.selectFrom('image_members').select('member').where('image_id', '=', imageId).execute()
      if (members.some(({ member }) => member === memberId)) {
        throw new CatalogError('taken', `Member ${memberId} is duplicated for image ${imageId}`)
      }
      if (members.length >= most) {
        throw new CatalogError(
          'too-many',
          `Image member limit exceeded for image ${imageId}: The limit has been exceeded on the number of allowed image members for this image. ` +
            `Attempted: ${members.length + 1}, Maximum: ${most}:`,
        )
      }
      await db.insertInto('image_members').values(row).execute()
    })
    return memberOf(row)
  }

  async setStatus(imageId: string, memberId: string, status: MemberStatus): Promise<Member | undefined> {
    await this.#db
      .updateTable('image_members')
      .set({ status, updated_at: this.#now() })
      .where('image_id', '=', imageId)
      .where('member', '=', memberId)
      .execute()
    return this.get(imageId, memberId)
  }

  async remove(imageId: string, memberId: string): Promise<boolean> {
    const removed = await this.#db
      .deleteFrom('image_members')
      .where('image_id', '=', imageId)
      .where('member', '=', memberId)
      .executeTakeFirst()
    return removed.numDeletedRows > 0n
  }
}

export function memberRow({ imageId, memberId, status, createdAt, updatedAt }: Member): MemberTable {
  return { image_id: imageId, member: memberId, status, created_at: createdAt, updated_at: updatedAt }
}

function memberOf(row: MemberTable): Member {
  return {
    imageId: row.image_id,
    memberId: row.member,
    status: row.status as MemberStatus,
    createdAt: Number(row.created_at),
    updatedAt: Number(row.updated_at),
  }
}
