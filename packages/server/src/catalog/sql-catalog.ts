/** The catalog in an SQL database, through Kysely. */
import { Kysely, sql, type Transaction } from 'kysely'
import { Migrator } from 'kysely/migration'
import type { Accounts } from './accounts.ts'
import { SqlAccounts } from './accounts-sql.ts'
import { type BatchStep, EmptyStep, type ShortDialect, type ShortWays } from './batch.ts'
import type { CachedImages } from './cached-images.ts'
import { SqlCachedImages } from './cached-images-sql.ts'
import { type Along, type Catalog, CatalogError, type ListQuery, type Page } from './catalog.ts'
import { type Image, type NewImage, queuedImage } from './image.ts'
import { inOrder, selectPage, totalOrder, visibleKinds } from './list.ts'
import type { Logins } from './logins.ts'
import { SqlLogins } from './logins-sql.ts'
import type { Member, Members } from './members.ts'
import { memberRow, SqlMembers } from './members-sql.ts'
import type { Metadefs } from './metadefs.ts'
import { SqlMetadefs } from './metadefs-sql.ts'
import type { Resumables } from './resumables.ts'
import { endResumable, insertResumable, removeResumable, SqlResumables } from './resumables-sql.ts'
import { type ImageTable, migrations, refuseNewer, type Tables } from './tables.ts'
import { insertTask } from './tasks-sql.ts'
import type { Usages } from './usage.ts'
import { countImages, numberOfImages, SqlUsages, uploadingStatuses } from './usage-sql.ts'
import { getWhole, imageOf, lookUpWhole, rowOf, selectWhole } from './whole-images.ts'
import type { Work } from './work.ts'
import { deleteUpload, insertUpload, SqlWork } from './work-sql.ts'

/** How a catalog is opened. */
export interface CatalogOptions {
  /** Seconds since 1970. */
  now?: () => number
  /** For messages. */
  path?: string
  /** Called before tables with content are changed, with the name of the first change. */
  beforeMigration?(name: string): void
}

/** Opens the catalog and brings its tables up to date. @throws MoraineError `unsupported` when a newer version has changed it. */
export async function openSqlCatalog(
  dialect: ShortDialect,
  { now = () => Math.floor(Date.now() / 1000), path = 'the catalog', beforeMigration }: CatalogOptions = {},
): Promise<Catalog> {
  const db = new Kysely<Tables>({ dialect })
  try {
    const migrator = new Migrator({ db, provider: { getMigrations: () => Promise.resolve({ ...migrations }) } })
    refuseNewer(path, await migrationsSeen(db))
    const known = await migrator.getMigrations()
    const next = known.find(({ executedAt }) => executedAt === undefined)
    if (next !== undefined && next !== known[0]) beforeMigration?.(next.name)
    const { error } = await migrator.migrateToLatest()
    if (error !== undefined) throw error
    return new SqlCatalog(db, dialect, now)
  } catch (error) {
    await db.destroy()
    throw error
  }
}

/** The names of the migrations that a database has seen. */
async function migrationsSeen(db: Kysely<Tables>): Promise<string[]> {
  const tables = await db.introspection.getTables({ withInternalKyselyTables: true })
  if (!tables.some(({ name }) => name === 'kysely_migration')) return []
  const { rows } = await sql<{ name: string }>`select name from kysely_migration`.execute(db)
  return rows.map(({ name }) => name)
}

/** In the words of Keystone's limits, which Glance has too. */
function overLimit(resource: string, limit: number, usage: number): CatalogError {
  return new CatalogError(
    'too-many',
    `Resource ${resource} is over limit of ${limit} due to current usage ${usage} and delta 1`,
  )
}

type Queries = Kysely<Tables> | Transaction<Tables>

class SqlCatalog implements Catalog {
  readonly accounts: Accounts
  readonly logins: Logins
  readonly cached: CachedImages
  readonly usages: Usages
  readonly resumables: Resumables
  readonly members: Members
  readonly metadefs: Metadefs
  readonly work: Work
  readonly #db: Kysely<Tables>
  readonly #batch: ShortWays['batch']
  readonly #look: (id: string) => Promise<Image | undefined>
  readonly #now: () => number

  constructor(db: Kysely<Tables>, ways: ShortWays, now: () => number) {
    this.#db = db
    this.#batch = ways.batch
    this.#look = lookUpWhole(db, ways)
    this.#now = now
    this.accounts = new SqlAccounts(db)
    this.logins = new SqlLogins(db, now, ways)
    this.cached = new SqlCachedImages(db)
    this.usages = new SqlUsages(db)
    this.resumables = new SqlResumables(db, now)
    this.members = new SqlMembers(db, now)
    this.metadefs = new SqlMetadefs(db, now)
    this.work = new SqlWork(db, now, (id, change, along) => this.update(id, change, along))
  }

  async create(given: NewImage, imagesAtMost?: number): Promise<Image> {
    const image = queuedImage(given, this.#now())
    const steps = insertWhole(this.#db, image)
    if (imagesAtMost !== undefined) {
      const within = numberOfImages(this.#db, image.owner).having(({ fn }) => fn.countAll(), '<=', imagesAtMost)
      steps.push({ query: within.compile(), mustGive: true })
    }
    try {
      await this.#batch(steps)
    } catch (error) {
      if (!(error instanceof EmptyStep)) throw error
      if (error.step === 0) throw new CatalogError('taken', `Image ID ${image.id} already exists!`)
      throw overLimit('image_count_total', imagesAtMost ?? 0, await countImages(this.#db, image.owner))
    }
    return image
  }

  async adopt(image: Image, members: readonly Member[], deletedAt?: number): Promise<void> {
    const steps = insertWhole(this.#db, image, members, deletedAt)
    try {
      await this.#batch(steps)
    } catch (error) {
      if (!(error instanceof EmptyStep)) throw error
      throw new CatalogError('taken', `Image ID ${image.id} already exists!`)
    }
  }

  async isTaken(id: string): Promise<boolean> {
    const row = await this.#db.selectFrom('images').select('id').where('id', '=', id).executeTakeFirst()
    return row !== undefined
  }

  get(id: string): Promise<Image | undefined> {
    return this.#look(id)
  }

  async list(query: ListQuery): Promise<Page> {
    const { viewer, limit, marker } = query
    const kinds = viewer === undefined ? undefined : visibleKinds(viewer)
    let after: ImageTable | undefined
    if (marker !== undefined) {
      const known = this.#db.selectFrom('images').selectAll().where('id', '=', marker).where('deleted_at', 'is', null)
      const seen =
        kinds === undefined ? known : known.where((builder) => builder.or(kinds.map((kind) => kind(builder))))
      after = await seen.executeTakeFirst()
      if (after === undefined) throw new CatalogError('unknown-marker', `No image found with ID ${marker}`)
    }
    if (limit === 0) return { images: [], more: false }
    const ids = selectPage(this.#db, query, kinds, after)
    const whole = selectWhole(this.#db, (builder) => builder('images.id', 'in', ids))
    const rows = await inOrder(whole, totalOrder(query.sort)).execute()
    return { images: rows.slice(0, limit).map(imageOf), more: rows.length > limit }
  }

  async update(id: string, change: (image: Image) => Image | undefined, along: Along = {}): Promise<Image | undefined> {
    return this.#db.transaction().execute(async (db) => {
      if (along.closes !== undefined && !(await deleteUpload(db, along.closes))) {
        throw new CatalogError('lost', 'the upload was taken for dead, and its data was removed')
      }
      const before = await getWhole(db, id)
      const changed = before === undefined ? undefined : change(before)
      if (along.closes !== undefined) await endResumable(db, along.closes, changed ?? before)
      if (before === undefined) return undefined
      if (changed !== undefined && along.uploadsAtMost !== undefined) {
        const count = await countImages(db, before.owner, uploadingStatuses)
        if (count >= along.uploadsAtMost) throw overLimit('image_count_uploading', along.uploadsAtMost, count)
      }
      if (changed === undefined) return before
      const after: Image = { ...changed, updatedAt: this.#now() }
      await db.updateTable('images').set(rowOf(after)).where('id', '=', id).execute()
      if (after.properties !== before.properties) {
        await db.deleteFrom('image_properties').where('image_id', '=', id).execute()
        await insertProperties(db, after)?.execute()
      }
      if (after.tags !== before.tags) {
        await db.deleteFrom('image_tags').where('image_id', '=', id).execute()
        await insertTags(db, after)?.execute()
      }
      if (after.locations !== before.locations) {
        await db.deleteFrom('image_locations').where('image_id', '=', id).execute()
        await insertLocations(db, after)?.execute()
      }
      if (along.opens !== undefined) await insertUpload(db, along.opens)
      if (along.begins !== undefined) await insertResumable(db, along.begins)
      if (along.starts !== undefined) await insertTask(db, along.starts, this.#now())
      return after
    })
  }

  async remove(id: string, allowed: (image: Image) => void): Promise<Image | undefined> {
    return this.#db.transaction().execute(async (db) => {
      const image = await getWhole(db, id)
      if (image === undefined) return undefined
      allowed(image)
      await db.updateTable('images').set({ deleted_at: this.#now() }).where('id', '=', id).execute()
      await db.deleteFrom('image_properties').where('image_id', '=', id).execute()
      await db.deleteFrom('image_tags').where('image_id', '=', id).execute()
      await db.deleteFrom('image_members').where('image_id', '=', id).execute()
      await db.deleteFrom('image_locations').where('image_id', '=', id).execute()
      await removeResumable(db, id)
      return image
    })
  }

  async close(): Promise<void> {
    await this.#db.destroy()
  }
}

/** A new image with all that belongs to it. The first step gives nothing when its id is taken. @param deletedAt Only the id of a deleted one is kept. */
function insertWhole(
  db: Queries,
  image: Image,
  members: readonly Member[] = [],
  deletedAt: number | null = null,
): BatchStep[] {
  const insert = db
    .insertInto('images')
    .values({ ...rowOf(image), deleted_at: deletedAt })
    .onConflict((conflict) => conflict.column('id').doNothing())
  const belongings = [
    insertProperties(db, image),
    insertTags(db, image),
    insertLocations(db, image),
    members.length === 0 ? undefined : db.insertInto('image_members').values(members.map(memberRow)),
  ]
  const steps = belongings.flatMap((other) => (other === undefined ? [] : [{ query: other.compile() }]))
  return [{ query: insert.compile(), mustGive: true }, ...(deletedAt === null ? steps : [])]
}

function insertProperties(db: Queries, image: Image) {
  if (image.properties.size === 0) return undefined
  const rows = [...image.properties].map(([name, value]) => ({ image_id: image.id, name, value }))
  return db.insertInto('image_properties').values(rows)
}

function insertTags(db: Queries, image: Image) {
  if (image.tags.length === 0) return undefined
  const rows = image.tags.map((value, position) => ({ image_id: image.id, position, value }))
  return db.insertInto('image_tags').values(rows)
}

function insertLocations(db: Queries, image: Image) {
  if (image.locations.length === 0) return undefined
  const rows = image.locations.map(({ metadata, ...location }, position) => ({
    ...location,
    image_id: image.id,
    position,
    metadata: JSON.stringify(metadata),
  }))
  return db.insertInto('image_locations').values(rows)
}
