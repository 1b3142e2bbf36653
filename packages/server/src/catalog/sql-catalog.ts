/** The catalog in an SQL database, through Kysely. */
import { MoraineError } from '@moraine/engine'
import { type Dialect, Kysely, type SelectQueryBuilder, sql, type Transaction } from 'kysely'
import { Migrator } from 'kysely/migration'
import type { Accounts } from './accounts.ts'
import { SqlAccounts } from './accounts-sql.ts'
import type { CachedImages } from './cached-images.ts'
import { SqlCachedImages } from './cached-images-sql.ts'
import { type Along, type Catalog, CatalogError, type ListQuery, type Page } from './catalog.ts'
import { type Image, type ImageStatus, type Location, type NewImage, queuedImage, type Visibility } from './image.ts'
import type { JsonObject } from './json.ts'
import { afterMarker, condition, sortExpression, totalOrder, visibleKinds } from './list.ts'
import type { Logins } from './logins.ts'
import { SqlLogins } from './logins-sql.ts'
import type { Members } from './members.ts'
import { SqlMembers } from './members-sql.ts'
import type { Metadefs } from './metadefs.ts'
import { SqlMetadefs } from './metadefs-sql.ts'
import { type ImageTable, migrations, type Tables } from './tables.ts'
import type { Usages } from './usage.ts'
import { countImages, SqlUsages, uploadingStatuses } from './usage-sql.ts'
import type { Work } from './work.ts'
import { deleteUpload, insertUpload, SqlWork } from './work-sql.ts'
import type { LocationTable } from './work-tables.ts'

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
  dialect: Dialect,
  { now = () => Math.floor(Date.now() / 1000), path = 'the catalog', beforeMigration }: CatalogOptions = {},
): Promise<Catalog> {
  const db = new Kysely<Tables>({ dialect })
  try {
    const migrator = new Migrator({ db, provider: { getMigrations: () => Promise.resolve({ ...migrations }) } })
    await refuseNewer(db, path)
    const known = await migrator.getMigrations()
    const next = known.find(({ executedAt }) => executedAt === undefined)
    if (next !== undefined && next !== known[0]) beforeMigration?.(next.name)
    const { error } = await migrator.migrateToLatest()
    if (error !== undefined) throw error
    return new SqlCatalog(db, now)
  } catch (error) {
    await db.destroy()
    throw error
  }
}

/** What a newer version has written may not mean what this one takes it for. */
async function refuseNewer(db: Kysely<Tables>, path: string): Promise<void> {
  const tables = await db.introspection.getTables({ withInternalKyselyTables: true })
  if (!tables.some(({ name }) => name === 'kysely_migration')) return
  const { rows } = await sql<{ name: string }>`select name from kysely_migration`.execute(db)
  const unknown = rows.find(({ name }) => !Object.hasOwn(migrations, name))
  if (unknown === undefined) return
  throw new MoraineError('unsupported', `${path} was changed by a newer version of moraine (${unknown.name})`, { path })
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
  readonly members: Members
  readonly metadefs: Metadefs
  readonly work: Work
  readonly #db: Kysely<Tables>
  readonly #now: () => number

  constructor(db: Kysely<Tables>, now: () => number) {
    this.#db = db
    this.#now = now
    this.accounts = new SqlAccounts(db)
    this.logins = new SqlLogins(db, now)
    this.cached = new SqlCachedImages(db)
    this.usages = new SqlUsages(db)
    this.members = new SqlMembers(db, now)
    this.metadefs = new SqlMetadefs(db, now)
    this.work = new SqlWork(db, now, (id, change, along) => this.update(id, change, along))
  }

  async create(given: NewImage, imagesAtMost?: number): Promise<Image> {
    const image = queuedImage(given, this.#now())
    await this.#db.transaction().execute(async (db) => {
      const taken = await db.selectFrom('images').select('id').where('id', '=', image.id).executeTakeFirst()
      if (taken !== undefined) throw new CatalogError('taken', `Image ID ${image.id} already exists!`)
      if (imagesAtMost !== undefined) {
        const count = await countImages(db, image.owner)
        if (count >= imagesAtMost) throw overLimit('image_count_total', imagesAtMost, count)
      }
      await db.insertInto('images').values(rowOf(image)).execute()
      await writeProperties(db, image)
      await writeTags(db, image)
    })
    return image
  }

  async get(id: string): Promise<Image | undefined> {
    const row = await selectLive(this.#db, id)
    return row === undefined ? undefined : (await complete(this.#db, [row]))[0]
  }

  async list({ viewer, filters, sort, limit, marker }: ListQuery): Promise<Page> {
    const order = totalOrder(sort)
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
    const page = (kind?: Kind) => {
      let query = this.#db.selectFrom('images').selectAll().where('deleted_at', 'is', null)
      if (kind !== undefined) query = query.where((builder) => kind(builder))
      for (const filter of filters) query = query.where((builder) => condition(builder, filter))
      if (after !== undefined) {
        const row = after
        query = query.where((builder) => afterMarker(builder, order, row))
      }
      return inOrder(query, order).limit(limit + 1)
    }
    const [first, ...others] = (kinds ?? [undefined]).map(page)
    if (first === undefined) return { images: [], more: false }
    const whole = others.length === 0 ? first : inOrder(joined(this.#db, [first, ...others]), order).limit(limit + 1)
    const rows = await whole.execute()
    return { images: await complete(this.#db, rows.slice(0, limit)), more: rows.length > limit }
  }

  async update(id: string, change: (image: Image) => Image | undefined, along: Along = {}): Promise<Image | undefined> {
    return this.#db.transaction().execute(async (db) => {
      if (along.closes !== undefined && !(await deleteUpload(db, along.closes))) {
        throw new CatalogError('lost', 'the upload was taken for dead, and its data was removed')
      }
      const row = await selectLive(db, id)
      if (row === undefined) return undefined
      const [before] = await complete(db, [row])
      if (before === undefined) return undefined
      const changed = change(before)
      if (changed !== undefined && along.uploadsAtMost !== undefined) {
        const count = await countImages(db, before.owner, uploadingStatuses)
        if (count >= along.uploadsAtMost) throw overLimit('image_count_uploading', along.uploadsAtMost, count)
      }
      if (changed === undefined) return before
      const after: Image = { ...changed, updatedAt: this.#now() }
      await db.updateTable('images').set(rowOf(after)).where('id', '=', id).execute()
      if (after.properties !== before.properties) {
        await db.deleteFrom('image_properties').where('image_id', '=', id).execute()
        await writeProperties(db, after)
      }
      if (after.tags !== before.tags) {
        await db.deleteFrom('image_tags').where('image_id', '=', id).execute()
        await writeTags(db, after)
      }
      if (after.locations !== before.locations) {
        await db.deleteFrom('image_locations').where('image_id', '=', id).execute()
        await writeLocations(db, after)
      }
      if (along.opens !== undefined) await insertUpload(db, along.opens)
      return after
    })
  }

  async remove(id: string, allowed: (image: Image) => void): Promise<Image | undefined> {
    return this.#db.transaction().execute(async (db) => {
      const row = await selectLive(db, id)
      const [image] = row === undefined ? [] : await complete(db, [row])
      if (image === undefined) return undefined
      allowed(image)
      await db.updateTable('images').set({ deleted_at: this.#now() }).where('id', '=', id).execute()
      await db.deleteFrom('image_properties').where('image_id', '=', id).execute()
      await db.deleteFrom('image_tags').where('image_id', '=', id).execute()
      await db.deleteFrom('image_members').where('image_id', '=', id).execute()
      await db.deleteFrom('image_locations').where('image_id', '=', id).execute()
      return image
    })
  }

  async totalSize(): Promise<number> {
    const row = await this.#db
      .selectFrom('images')
      .select(({ fn }) => fn.sum<number | null>('size').as('total'))
      .where('deleted_at', 'is', null)
      .executeTakeFirst()
    return Number(row?.total ?? 0)
  }

  async close(): Promise<void> {
    await this.#db.destroy()
  }
}

type Kind = ReturnType<typeof visibleKinds>[number]
type ImageQuery = SelectQueryBuilder<Tables, 'images', ImageTable>

function inOrder(query: ImageQuery, order: ListQuery['sort']): ImageQuery {
  return order.reduce(
    (sorted, { key, descending }) => sorted.orderBy(sortExpression(key), descending ? 'desc' : 'asc'),
    query,
  )
}

/** The images of several queries, each once. */
function joined(db: Kysely<Tables>, [first, ...others]: readonly [ImageQuery, ...ImageQuery[]]): ImageQuery {
  // A part of a union can have an order of its own only as a table of its own.
  const part = (query: ImageQuery) => db.selectFrom(query.as('part')).selectAll()
  const union = others.reduce((all, other) => all.union(part(other)), part(first))
  return db.selectFrom(union.as('images')).selectAll() as unknown as ImageQuery
}

function selectLive(db: Queries, id: string): Promise<ImageTable | undefined> {
  return db.selectFrom('images').selectAll().where('id', '=', id).where('deleted_at', 'is', null).executeTakeFirst()
}

/** Adds what stands in the other tables. */
async function complete(db: Queries, rows: readonly ImageTable[]): Promise<Image[]> {
  if (rows.length === 0) return []
  const ids = rows.map(({ id }) => id)
  const properties = new Map<string, Map<string, string>>()
  const tags = new Map<string, string[]>()
  const propertyRows = await db
    .selectFrom('image_properties')
    .selectAll()
    .where('image_id', 'in', ids)
    .orderBy('name')
    .execute()
  for (const { image_id, name, value } of propertyRows) {
    const known = properties.get(image_id)
    if (known === undefined) properties.set(image_id, new Map([[name, value]]))
    else known.set(name, value)
  }
  const tagRows = await db
    .selectFrom('image_tags')
    .selectAll()
    .where('image_id', 'in', ids)
    .orderBy('position')
    .execute()
  for (const { image_id, value } of tagRows) {
    const known = tags.get(image_id)
    if (known === undefined) tags.set(image_id, [value])
    else known.push(value)
  }
  const locations = Map.groupBy(
    await db.selectFrom('image_locations').selectAll().where('image_id', 'in', ids).orderBy('position').execute(),
    ({ image_id }) => image_id,
  )
  return rows.map((row) => ({
    ...imageOf(row, properties.get(row.id) ?? new Map(), tags.get(row.id) ?? []),
    locations: (locations.get(row.id) ?? []).map(locationOf),
  }))
}

async function writeProperties(db: Queries, image: Image): Promise<void> {
  if (image.properties.size === 0) return
  const rows = [...image.properties].map(([name, value]) => ({ image_id: image.id, name, value }))
  await db.insertInto('image_properties').values(rows).execute()
}

async function writeTags(db: Queries, image: Image): Promise<void> {
  if (image.tags.length === 0) return
  const rows = image.tags.map((value, position) => ({ image_id: image.id, position, value }))
  await db.insertInto('image_tags').values(rows).execute()
}

async function writeLocations(db: Queries, image: Image): Promise<void> {
  if (image.locations.length === 0) return
  const rows = image.locations.map(({ metadata, ...location }, position) => ({
    ...location,
    image_id: image.id,
    position,
    metadata: JSON.stringify(metadata),
  }))
  await db.insertInto('image_locations').values(rows).execute()
}

function locationOf({ store, key, status, metadata }: LocationTable): Location {
  return { store, key, status: status as Location['status'], metadata: JSON.parse(metadata) as JsonObject }
}

function rowOf(image: Image): ImageTable {
  return {
    id: image.id,
    name: image.name,
    status: image.status,
    visibility: image.visibility,
    owner: image.owner,
    disk_format: image.diskFormat,
    container_format: image.containerFormat,
    size: image.size,
    virtual_size: image.virtualSize,
    checksum: image.checksum,
    os_hash_algo: image.hashAlgorithm,
    os_hash_value: image.hashValue,
    protected: image.protected ? 1 : 0,
    os_hidden: image.hidden ? 1 : 0,
    min_ram: image.minRam,
    min_disk: image.minDisk,
    created_at: image.createdAt,
    updated_at: image.updatedAt,
    deleted_at: null,
  }
}

function imageOf(row: ImageTable, properties: Map<string, string>, tags: string[]): Omit<Image, 'locations'> {
  return {
    id: row.id,
    name: row.name,
    status: row.status as ImageStatus,
    visibility: row.visibility as Visibility,
    owner: row.owner,
    diskFormat: row.disk_format,
    containerFormat: row.container_format,
    size: row.size,
    virtualSize: row.virtual_size,
    checksum: row.checksum,
    hashAlgorithm: row.os_hash_algo,
    hashValue: row.os_hash_value,
    protected: row.protected !== 0,
    hidden: row.os_hidden !== 0,
    minRam: row.min_ram,
    minDisk: row.min_disk,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
    properties,
    tags,
  }
}
