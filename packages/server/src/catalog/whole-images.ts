/** Images with all that belongs to them, in one query: what stands in other tables comes as JSON beside each row. */
import {
  type CompiledQuery,
  type Expression,
  type ExpressionBuilder,
  type Kysely,
  type SqlBool,
  sql,
  type Transaction,
} from 'kysely'
import type { ShortWays } from './batch.ts'
import type { Image, ImageStatus, Location, Visibility } from './image.ts'
import type { JsonObject } from './json.ts'
import type { ImageTable, Tables } from './tables.ts'

type Queries = Kysely<Tables> | Transaction<Tables>

/** An object of properties, an object of tags with their positions (to sort here costs less), a list of locations as lists. The functions are SQLite's; PostgreSQL has the like. */
const belongings = {
  properties: sql<string>`(select json_group_object(name, value) from image_properties where image_id = images.id)`,
  tags: sql<string>`(select json_group_object(value, position) from image_tags where image_id = images.id)`,
  locations: sql<string>`(select json_group_array(json_array(store, key, status, metadata) order by position) from image_locations where image_id = images.id)`,
}

type WholeRow = ImageTable & { all_properties: string; all_tags: string; all_locations: string }

/** Images that are not deleted, in no order. @param which What must hold of them. */
export function selectWhole(db: Queries, which: (builder: ExpressionBuilder<Tables, 'images'>) => Expression<SqlBool>) {
  return db
    .selectFrom('images')
    .selectAll()
    .select([
      belongings.properties.as('all_properties'),
      belongings.tags.as('all_tags'),
      belongings.locations.as('all_locations'),
    ])
    .where('deleted_at', 'is', null)
    .where(which)
}

/** One image; undefined when there is none. */
export async function getWhole(db: Queries, id: string): Promise<Image | undefined> {
  const row = await selectWhole(db, (builder) => builder('images.id', '=', id)).executeTakeFirst()
  return row === undefined ? undefined : imageOf(row)
}

/** The same for what is committed, by a query that is put together once: it is asked for most requests. */
export function lookUpWhole(db: Queries, ways: ShortWays): (id: string) => Promise<Image | undefined> {
  const asked = '?id'
  const query = selectWhole(db, (builder) => builder('images.id', '=', asked)).compile()
  return async (id) => {
    const parameters = query.parameters.map((value) => (value === asked ? id : value))
    const [row] = (await ways.look<WholeRow>({ ...query, parameters } as CompiledQuery<WholeRow>)).rows
    return row === undefined ? undefined : imageOf(row)
  }
}

export function rowOf(image: Image): ImageTable {
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

export function imageOf(row: WholeRow): Image {
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
    properties: propertiesOf(row.all_properties),
    tags: tagsOf(row.all_tags),
    locations: (JSON.parse(row.all_locations) as LocationRow[]).map(locationOf),
  }
}

type LocationRow = [store: string, key: string, status: string, metadata: string]

function locationOf([store, key, status, metadata]: LocationRow): Location {
  return { store, key, status: status as Location['status'], metadata: JSON.parse(metadata) as JsonObject }
}

/** By their positions. */
function tagsOf(json: string): string[] {
  if (json === '{}') return []
  const positions = Object.entries(JSON.parse(json) as Record<string, number>)
  return positions.sort(([, one], [, other]) => one - other).map(([tag]) => tag)
}

/** To `JSON.parse` and entries, `__proto__` is a name like any other. */
function propertiesOf(json: string): Map<string, string> {
  return json === '{}' ? new Map() : new Map(Object.entries(JSON.parse(json) as Record<string, string>))
}
