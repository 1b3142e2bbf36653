/** Metadata definitions as they stand in Glance's tables. */
import type { Kysely } from 'kysely'
import type { JsonObject } from '../catalog/json.ts'
import type { NamespaceFacts, NamespaceVisibility, NewPart, PartKind } from '../catalog/metadefs.ts'
import type { GlanceTables, Value } from './glance-database.ts'
import { isTrue } from './glance-images.ts'

/** All namespaces with what is in them. */
export async function* readNamespaces(
  db: Kysely<GlanceTables>,
): AsyncGenerator<{ facts: NamespaceFacts; parts: NewPart[] }> {
  const types = await db.selectFrom('metadef_resource_types').select(['id', 'name']).execute()
  const typeNames = new Map(types.map(({ id, name }) => [String(id), String(name)]))
  for (const row of await db.selectFrom('metadef_namespaces').selectAll().orderBy('id').execute()) {
    const here = (kind: PartKind, name: Value | undefined, definition: JsonObject): NewPart => ({
      ...{ kind, name: String(name), definition },
    })
    const within = <Table extends 'metadef_objects' | 'metadef_properties' | 'metadef_tags'>(table: Table) =>
      db
        .selectFrom(table as 'metadef_objects')
        .selectAll()
        .where('namespace_id', '=', row.id)
        .orderBy('id')
        .execute()
    const associations = await db
      .selectFrom('metadef_namespace_resource_types')
      .selectAll()
      .where('namespace_id', '=', row.id)
      .execute()
    const parts = [
      ...associations.map(({ resource_type_id, prefix, properties_target }) =>
        here('resource_types', typeNames.get(String(resource_type_id)), {
          ...(prefix === null ? {} : { prefix }),
          ...(properties_target === null ? {} : { properties_target }),
        }),
      ),
      ...(await within('metadef_properties')).map(({ name, json_schema }) =>
        here('properties', name, parse(json_schema)),
      ),
      ...(await within('metadef_objects')).map(({ name, description, required, json_schema }) =>
        here('objects', name, {
          ...(description === null ? {} : { description }),
          required: required === null || required === '' ? [] : String(required).split(','),
          properties: parse(json_schema),
        }),
      ),
      ...(await within('metadef_tags')).map(({ name }) => here('tags', name, {})),
    ]
    const facts: NamespaceFacts = {
      name: String(row.namespace),
      displayName: row.display_name === null ? null : String(row.display_name),
      description: row.description === null ? null : String(row.description),
      visibility: String(row.visibility ?? 'private') as NamespaceVisibility,
      protected: isTrue(row.protected),
      owner: row.owner === null ? null : String(row.owner),
    }
    yield { facts, parts }
  }
}

function parse(json: Value): JsonObject {
  return json === null || json === '' ? {} : (JSON.parse(String(json)) as JsonObject)
}
