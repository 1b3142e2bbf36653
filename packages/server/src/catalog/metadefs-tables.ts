/** The tables of the metadata definitions. */
import type { Generated, Kysely } from 'kysely'
import type { Migration } from 'kysely/migration'
import { starterNamespaces, starterOwner } from './metadefs-starter.ts'

export interface NamespaceTable {
  /** In the order of creation. */
  id: Generated<number>
  namespace: string
  display_name: string | null
  description: string | null
  visibility: string
  /** 0 or 1. */
  protected: number
  owner: string | null
  /** Seconds since 1970, as are all times. */
  created_at: number
  updated_at: number
}

/** Objects, properties, tags and associations with resource types differ only in what JSON stands in `definition`. */
export interface PartTable {
  id: Generated<number>
  namespace_id: number
  kind: string
  name: string
  definition: string
  created_at: number
  updated_at: number
}

export interface MetadefTables {
  metadef_namespaces: NamespaceTable
  metadef_parts: PartTable
  metadef_resource_types: { id: Generated<number>; name: string; created_at: number; updated_at: number }
}

/** Makes the tables and puts the starter set in. That happens once in the life of a catalog: what an operator deletes or changes stays so. A later starter
 *  set needs a migration of its own. */
export const metadefMigration: Migration = {
  async up(db: Kysely<MetadefTables>) {
    await db.schema
      .createTable('metadef_namespaces')
      .addColumn('id', 'integer', (column) => column.primaryKey().autoIncrement())
      .addColumn('namespace', 'text', (column) => column.notNull().unique())
      .addColumn('display_name', 'text')
      .addColumn('description', 'text')
      .addColumn('visibility', 'text', (column) => column.notNull())
      .addColumn('protected', 'integer', (column) => column.notNull())
      .addColumn('owner', 'text')
      .addColumn('created_at', 'bigint', (column) => column.notNull())
      .addColumn('updated_at', 'bigint', (column) => column.notNull())
      .execute()
    await db.schema
      .createIndex('metadef_namespaces_by_age')
      .on('metadef_namespaces')
      .columns(['created_at', 'id'])
      .execute()
    await db.schema
      .createTable('metadef_parts')
      .addColumn('id', 'integer', (column) => column.primaryKey().autoIncrement())
      .addColumn('namespace_id', 'integer', (column) =>
        column.notNull().references('metadef_namespaces.id').onDelete('cascade'),
      )
      .addColumn('kind', 'text', (column) => column.notNull())
      .addColumn('name', 'text', (column) => column.notNull())
      .addColumn('definition', 'text', (column) => column.notNull())
      .addColumn('created_at', 'bigint', (column) => column.notNull())
      .addColumn('updated_at', 'bigint', (column) => column.notNull())
      .addUniqueConstraint('metadef_parts_name', ['namespace_id', 'kind', 'name'])
      .execute()
    await db.schema.createIndex('metadef_parts_by_name').on('metadef_parts').columns(['kind', 'name']).execute()
    await db.schema
      .createTable('metadef_resource_types')
      .addColumn('id', 'integer', (column) => column.primaryKey().autoIncrement())
      .addColumn('name', 'text', (column) => column.notNull().unique())
      .addColumn('created_at', 'bigint', (column) => column.notNull())
      .addColumn('updated_at', 'bigint', (column) => column.notNull())
      .execute()
    await loadStarterSet(db, Math.floor(Date.now() / 1000))
  },
}

/** On its own, so that the migration stays what it is when the code for requests changes. */
async function loadStarterSet(db: Kysely<MetadefTables>, now: number): Promise<void> {
  const times = { created_at: now, updated_at: now }
  const names = starterNamespaces.flatMap(({ resource_type_associations: types }) => types.map(({ name }) => name))
  for (const name of new Set(names)) {
    await db
      .insertInto('metadef_resource_types')
      .values({ name, ...times })
      .execute()
  }
  for (const document of starterNamespaces) {
    const { namespace, display_name, description, resource_type_associations, properties, objects, tags } = document
    const facts = { namespace, display_name, description, visibility: 'public', protected: 1, owner: starterOwner }
    const { id } = await db
      .insertInto('metadef_namespaces')
      .values({ ...facts, ...times })
      .returning('id')
      .executeTakeFirstOrThrow()
    const part = (kind: string, name: string, definition: object) => ({
      namespace_id: id,
      kind,
      name,
      definition: JSON.stringify(definition),
      ...times,
    })
    const parts = [
      ...resource_type_associations.map(({ name, ...rest }) => part('resource_types', name, rest)),
      ...Object.entries(properties ?? {}).map(([name, schema]) => part('properties', name, schema)),
      ...(objects ?? []).map(({ name, ...rest }) => part('objects', name, rest)),
      ...(tags ?? []).map(({ name }) => part('tags', name, {})),
    ]
    await db.insertInto('metadef_parts').values(parts).execute()
  }
}
