/** The metadata definitions in an SQL database. */
import { type Kysely, type RawBuilder, type SqlBool, sql, type Transaction } from 'kysely'
import { CatalogError } from './catalog.ts'
import type { JsonObject } from './json.ts'
import type {
  Metadefs,
  Namespace,
  NamespaceFacts,
  NamespacePage,
  NamespaceQuery,
  NamespaceVisibility,
  NewPart,
  PageQuery,
  Part,
  PartKind,
  ResourceType,
  TagSortKey,
} from './metadefs.ts'
import type { MetadefTables, NamespaceTable, PartTable } from './metadefs-tables.ts'

type Queries = Kysely<MetadefTables> | Transaction<MetadefTables>
type NamespaceRow = Omit<NamespaceTable, 'id'> & { id: number }
type PartRow = Omit<PartTable, 'id'> & { id: number }

export class SqlMetadefs implements Metadefs {
  readonly #db: Kysely<MetadefTables>
  readonly #now: () => number

  constructor(db: Kysely<MetadefTables>, now: () => number) {
    this.#db = db
    this.#now = now
  }

  list({ viewer, visibility, resourceTypes, ...page }: NamespaceQuery): Promise<NamespacePage> {
    return this.#db.transaction().execute(async (db) => {
      let query = db.selectFrom('metadef_namespaces').selectAll()
      if (viewer !== undefined) {
        const { projectId } = viewer
        query = query.where(({ eb, or }) => {
          const open = [eb('visibility', '=', 'public'), eb('owner', 'is', null)]
          return or(projectId === null ? open : [...open, eb('owner', '=', projectId)])
        })
      }
      if (visibility !== undefined) query = query.where('visibility', '=', visibility)
      if (resourceTypes !== undefined) {
        query = query.where('id', 'in', (builder) =>
          builder
            .selectFrom('metadef_parts')
            .select('namespace_id')
            .where('kind', '=', 'resource_types')
            .where('name', 'in', [...resourceTypes]),
        )
      }
      if (page.marker !== undefined) {
        const marker = await selectNamespace(db, page.marker)
        if (marker === undefined) {
          throw new CatalogError('missing', `Metadata definition namespace=${page.marker} was not found.`)
        }
        query = query.where(afterMarker(page, marker, sortValue(marker, page.sort)))
      }
      for (const key of order(page.sort)) query = query.orderBy(key, page.descending ? 'desc' : 'asc')
      if (page.limit === 0) return { namespaces: [], more: false }
      if (page.limit !== undefined) query = query.limit(page.limit + 1)
      const rows = await query.execute()
      const shown = rows.slice(0, page.limit)
      const associations = await selectParts(
        db,
        shown.map(({ id }) => id),
        ['resource_types'],
      )
      const namespaces = shown.map((row) => ({
        namespace: namespaceOf(row),
        associations: associations.filter(({ namespace_id }) => namespace_id === row.id).map(partOf),
      }))
      return { namespaces, more: rows.length > shown.length }
    })
  }

  async get(namespace: string): Promise<Namespace | undefined> {
    const row = await selectNamespace(this.#db, namespace)
    return row === undefined ? undefined : namespaceOf(row)
  }

  create(facts: NamespaceFacts, parts: readonly NewPart[]): Promise<Namespace> {
    return this.#db.transaction().execute(async (db) => {
      if ((await selectNamespace(db, facts.name)) !== undefined) {
        throw new CatalogError('taken', `The metadata definition namespace=${facts.name} already exists.`)
      }
      const now = this.#now()
      const row = await db
        .insertInto('metadef_namespaces')
        .values({ ...rowOf(facts), created_at: now, updated_at: now })
        .returningAll()
        .executeTakeFirstOrThrow()
      await insertParts(db, row, parts, now)
      return namespaceOf(row)
    })
  }

  replace(namespace: string, facts: NamespaceFacts): Promise<Namespace | undefined> {
    return this.#db.transaction().execute(async (db) => {
      const row = await selectNamespace(db, namespace)
      if (row === undefined) return undefined
      if (facts.name !== namespace && (await selectNamespace(db, facts.name)) !== undefined) {
        const what = 'metadata definition namespace with the same name of'
        throw new CatalogError('taken', `Invalid update. It would result in a duplicate ${what} ${facts.name}`)
      }
      const after = await db
        .updateTable('metadef_namespaces')
        .set({ ...rowOf(facts), updated_at: this.#now() })
        .where('id', '=', row.id)
        .returningAll()
        .executeTakeFirstOrThrow()
      return namespaceOf(after)
    })
  }

  remove(namespace: string, allowed: (namespace: Namespace) => void): Promise<Namespace | undefined> {
    return this.#change(namespace, async (db, row) => {
      allowed(namespaceOf(row))
      await db.deleteFrom('metadef_namespaces').where('id', '=', row.id).execute()
      return namespaceOf(row)
    })
  }

  parts(namespace: string, kinds: readonly PartKind[]): Promise<Part[] | undefined> {
    return this.#change(namespace, async (db, { id }) => (await selectParts(db, [id], kinds)).map(partOf))
  }

  tags(namespace: string, page: PageQuery<TagSortKey>): Promise<Part[] | undefined> {
    return this.#change(namespace, async (db, { id }) => {
      let query = db.selectFrom('metadef_parts').selectAll().where('namespace_id', '=', id).where('kind', '=', 'tags')
      if (page.marker !== undefined) {
        const marker = await selectPart(db, id, 'tags', page.marker)
        if (marker === undefined) throw new CatalogError('missing', `Could not find metadata tag ${page.marker}`)
        query = query.where(afterMarker(page, marker, marker[page.sort]))
      }
      for (const key of order(page.sort)) query = query.orderBy(key, page.descending ? 'desc' : 'asc')
      if (page.limit !== undefined) query = query.limit(page.limit)
      return (await query.execute()).map(partOf)
    })
  }

  part(namespace: string, kind: PartKind, name: string): Promise<{ part: Part | undefined } | undefined> {
    return this.#change(namespace, async (db, { id }) => found(await selectPart(db, id, kind, name)))
  }

  addParts(namespace: string, parts: readonly NewPart[], anew: boolean): Promise<Part[] | undefined> {
    return this.#change(namespace, async (db, row) => {
      for (const kind of anew ? new Set(parts.map((part) => part.kind)) : []) await deleteParts(db, row.id, kind)
      return insertParts(db, row, parts, this.#now())
    })
  }

  replacePart(namespace: string, name: string, part: NewPart): Promise<{ part: Part | undefined } | undefined> {
    return this.#change(namespace, async (db, { id }) => {
      const before = await selectPart(db, id, part.kind, name)
      if (before === undefined) return found(undefined)
      if (part.name !== name && (await selectPart(db, id, part.kind, part.name)) !== undefined) {
        throw new CatalogError('taken', takenByUpdate(part, namespace))
      }
      const after = await db
        .updateTable('metadef_parts')
        .set({ name: part.name, definition: JSON.stringify(part.definition), updated_at: this.#now() })
        .where('id', '=', before.id)
        .returningAll()
        .executeTakeFirstOrThrow()
      return found(after)
    })
  }

  removePart(
    namespace: string,
    kind: PartKind,
    name: string,
    allowed: (namespace: Namespace) => void,
  ): Promise<{ part: Part | undefined } | undefined> {
    return this.#change(namespace, async (db, row) => {
      const part = await selectPart(db, row.id, kind, name)
      if (part !== undefined) {
        allowed(namespaceOf(row))
        await db.deleteFrom('metadef_parts').where('id', '=', part.id).execute()
      }
      return found(part)
    })
  }

  clearParts(
    namespace: string,
    kind: PartKind,
    allowed: (namespace: Namespace) => void,
  ): Promise<Namespace | undefined> {
    return this.#change(namespace, async (db, row) => {
      allowed(namespaceOf(row))
      await deleteParts(db, row.id, kind)
      return namespaceOf(row)
    })
  }

  async resourceTypes(): Promise<ResourceType[]> {
    const rows = await this.#db.selectFrom('metadef_resource_types').selectAll().orderBy('id').execute()
    return rows.map(({ name, created_at, updated_at }) => ({ name, createdAt: created_at, updatedAt: updated_at }))
  }

  /** Works on one namespace, with nobody in between. */
  #change<Result>(
    namespace: string,
    work: (db: Transaction<MetadefTables>, row: NamespaceRow) => Promise<Result>,
  ): Promise<Result | undefined> {
    return this.#db.transaction().execute(async (db) => {
      const row = await selectNamespace(db, namespace)
      return row === undefined ? undefined : work(db, row)
    })
  }
}

function selectNamespace(db: Queries, name: string): Promise<NamespaceRow | undefined> {
  return db.selectFrom('metadef_namespaces').selectAll().where('namespace', '=', name).executeTakeFirst()
}

function selectPart(db: Queries, namespaceId: number, kind: PartKind, name: string): Promise<PartRow | undefined> {
  return db
    .selectFrom('metadef_parts')
    .selectAll()
    .where('namespace_id', '=', namespaceId)
    .where('kind', '=', kind)
    .where('name', '=', name)
    .executeTakeFirst()
}

async function selectParts(db: Queries, ids: readonly number[], kinds: readonly PartKind[]): Promise<PartRow[]> {
  if (ids.length === 0) return []
  return db
    .selectFrom('metadef_parts')
    .selectAll()
    .where('namespace_id', 'in', [...ids])
    .where('kind', 'in', [...kinds])
    .orderBy(sql`case when kind = 'objects' then name else '' end`)
    .orderBy('id')
    .execute()
}

async function deleteParts(db: Queries, namespaceId: number, kind: PartKind): Promise<void> {
  await db.deleteFrom('metadef_parts').where('namespace_id', '=', namespaceId).where('kind', '=', kind).execute()
}

/** @throws CatalogError `taken`, also for a name that is given twice. */
async function insertParts(db: Queries, row: NamespaceRow, parts: readonly NewPart[], now: number): Promise<Part[]> {
  const times = { created_at: now, updated_at: now }
  const made: Part[] = []
  for (const { kind, name, definition } of parts) {
    if ((await selectPart(db, row.id, kind, name)) !== undefined) {
      throw new CatalogError('taken', taken[kind](name, row.namespace))
    }
    if (kind === 'resource_types') {
      await db
        .insertInto('metadef_resource_types')
        .values({ name, ...times })
        .onConflict((conflict) => conflict.column('name').doNothing())
        .execute()
    }
    const inserted = await db
      .insertInto('metadef_parts')
      .values({ namespace_id: row.id, kind, name, definition: JSON.stringify(definition), ...times })
      .returningAll()
      .executeTakeFirstOrThrow()
    made.push(partOf(inserted))
  }
  return made
}

/** What is said when a name is there already, in Glance's words. */
const taken: Readonly<Record<PartKind, (name: string, namespace: string) => string>> = {
  objects: (name, namespace) =>
    `A metadata definition object with name=${name} already exists in namespace=${namespace}.`,
  properties: (name, namespace) =>
    `A metadata definition property with name=${name} already exists in namespace=${namespace}.`,
  tags: (name, namespace) =>
    `A metadata tag with name=${name} already exists in namespace=${namespace}. (Please note that metadata tag names are case insensitive).`,
  resource_types: (name, namespace) =>
    `The metadata definition resource-type association of resource-type=${name} to namespace=${namespace} already exists.`,
}

function takenByUpdate({ kind, name }: NewPart, namespace: string): string {
  if (kind !== 'objects' && kind !== 'properties') return taken[kind](name, namespace)
  const what = `metadata definition ${kind === 'objects' ? 'object' : 'property'}`
  return `Invalid update. It would result in a duplicate ${what} with the same name=${name} in namespace=${namespace}.`
}

/** Nothing counts as an empty text, so that a marker can be compared. */
function column(key: string): RawBuilder<string | number> {
  const isNullable = key === 'display_name' || key === 'description' || key === 'owner'
  return isNullable ? sql`coalesce(${sql.ref(key)}, '')` : sql.ref(key)
}

function order(sort: string): RawBuilder<string | number>[] {
  const keys = sort === 'created_at' || sort === 'id' ? ['created_at', 'id'] : [sort, 'created_at', 'id']
  return keys.map(column)
}

/** "Comes after the marker", by the same keys in the same order. */
function afterMarker(
  { sort, descending }: PageQuery<string>,
  marker: { created_at: number; id: number },
  value: string | number,
): RawBuilder<SqlBool> {
  const keys = order(sort)
  const values = [...(keys.length === 3 ? [value] : []), marker.created_at, marker.id]
  return sql<SqlBool>`(${sql.join(keys)}) ${sql.raw(descending ? '<' : '>')} (${sql.join(values)})`
}

function sortValue(row: NamespaceRow, key: NamespaceQuery['sort']): string | number {
  return row[key] ?? ''
}

function rowOf(facts: NamespaceFacts): Omit<NamespaceTable, 'id' | 'created_at' | 'updated_at'> {
  return {
    namespace: facts.name,
    display_name: facts.displayName,
    description: facts.description,
    visibility: facts.visibility,
    protected: facts.protected ? 1 : 0,
    owner: facts.owner,
  }
}

function namespaceOf(row: NamespaceRow): Namespace {
  return {
    name: row.namespace,
    displayName: row.display_name,
    description: row.description,
    visibility: row.visibility as NamespaceVisibility,
    protected: row.protected !== 0,
    owner: row.owner,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  }
}

function partOf(row: PartRow): Part {
  return {
    kind: row.kind as PartKind,
    name: row.name,
    definition: JSON.parse(row.definition) as JsonObject,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  }
}

function found(row: PartRow | undefined): { part: Part | undefined } {
  return { part: row === undefined ? undefined : partOf(row) }
}
