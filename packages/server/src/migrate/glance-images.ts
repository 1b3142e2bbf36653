/** Images as they stand in Glance's tables. */
import type { Kysely } from 'kysely'
import type { Visibility } from '../catalog/image.ts'
import type { Member, MemberStatus } from '../catalog/members.ts'
import type { GlanceRow, GlanceTables, Value } from './glance-database.ts'

const pageSize = 200

/** An image of a Glance. Times are seconds since 1970. */
export interface GlanceImage {
  id: string
  name: string | null
  status: string
  visibility: Visibility
  owner: string | null
  diskFormat: string | null
  containerFormat: string | null
  size: number | null
  virtualSize: number | null
  checksum: string | null
  hashAlgorithm: string | null
  hashValue: string | null
  protected: boolean
  hidden: boolean
  minRam: number
  minDisk: number
  createdAt: number
  updatedAt: number
  /** Null: it is there. */
  deletedAt: number | null
  properties: ReadonlyMap<string, string>
  tags: readonly string[]
  locations: readonly GlanceLocation[]
  members: readonly Member[]
}

export interface GlanceLocation {
  url: string
  /** The name of the store that the location was written down with; empty for none. */
  store: string
}

/** All images, deleted ones too, by their ids. */
export async function* readImages(db: Kysely<GlanceTables>): AsyncGenerator<GlanceImage> {
  for (let last = ''; ; ) {
    const rows = await db
      .selectFrom('images')
      .selectAll()
      .where('id', '>', last)
      .orderBy('id')
      .limit(pageSize)
      .execute()
    const ids = rows.map(({ id }) => String(id))
    if (ids.length === 0) return
    last = ids.at(-1) ?? last
    const properties = await belongings(db, 'image_properties', ids)
    const tags = await belongings(db, 'image_tags', ids)
    const members = await belongings(db, 'image_members', ids)
    const locations = await belongings(db, 'image_locations', ids)
    for (const row of rows) {
      const id = String(row.id)
      yield {
        ...imageOf(row),
        properties: new Map(
          (properties.get(id) ?? []).flatMap(({ name, value }) =>
            value === null ? [] : [[String(name), String(value)]],
          ),
        ),
        tags: sorted(tags.get(id) ?? []).map(({ value }) => String(value)),
        members: (members.get(id) ?? []).map((member) => memberOf(id, member)),
        locations: sorted(locations.get(id) ?? []).map(locationOf),
      }
    }
  }
}

/** How many tasks there are. */
export async function countTasks(db: Kysely<GlanceTables>): Promise<number> {
  const row = await db
    .selectFrom('tasks')
    .select(({ fn }) => fn.countAll().as('count'))
    .executeTakeFirst()
  return Number(row?.count ?? 0)
}

type Belonging = 'image_properties' | 'image_tags' | 'image_members' | 'image_locations'

async function belongings<Table extends Belonging>(
  db: Kysely<GlanceTables>,
  table: Table,
  ids: readonly string[],
): Promise<Map<string, GlanceRow<Table>[]>> {
  const query = db
    .selectFrom(table as Belonging)
    .selectAll()
    .where('image_id', 'in', ids)
  const rows = (await query.execute()).filter(({ deleted }) => !isTrue(deleted))
  return Map.groupBy(rows as GlanceRow<Table>[], (row) => String((row as GlanceRow<Belonging>).image_id))
}

/** In the order in which they were added. */
function sorted<Row extends { id: Value }>(rows: readonly Row[]): Row[] {
  return rows.toSorted((one, other) => Number(one.id) - Number(other.id))
}

function imageOf(row: GlanceRow<'images'>) {
  return {
    id: String(row.id),
    name: text(row.name),
    status: String(row.status),
    visibility: String(row.visibility) as Visibility,
    owner: text(row.owner),
    diskFormat: text(row.disk_format),
    containerFormat: text(row.container_format),
    size: number(row.size),
    virtualSize: number(row.virtual_size),
    checksum: text(row.checksum),
    hashAlgorithm: text(row.os_hash_algo),
    hashValue: text(row.os_hash_value),
    protected: isTrue(row.protected),
    hidden: isTrue(row.os_hidden),
    minRam: number(row.min_ram) ?? 0,
    minDisk: number(row.min_disk) ?? 0,
    createdAt: seconds(row.created_at) ?? 0,
    updatedAt: seconds(row.updated_at) ?? seconds(row.created_at) ?? 0,
    deletedAt: isTrue(row.deleted) ? (seconds(row.deleted_at) ?? 0) : null,
  }
}

function memberOf(imageId: string, row: GlanceRow<'image_members'>): Member {
  const createdAt = seconds(row.created_at) ?? 0
  const status = String(row.status) as MemberStatus
  return { imageId, memberId: String(row.member), status, createdAt, updatedAt: seconds(row.updated_at) ?? createdAt }
}

function locationOf({ value, meta_data }: GlanceRow<'image_locations'>): GlanceLocation {
  let store = ''
  try {
    const metadata = JSON.parse(String(meta_data)) as { store?: unknown; backend?: unknown }
    store = String(metadata.store ?? metadata.backend ?? '')
  } catch {
    // Nothing that is known stands there.
  }
  return { url: String(value), store }
}

const text = (value: Value) => (value === null ? null : String(value))
const number = (value: Value) => (value === null ? null : Number(value))

export function isTrue(value: Value): boolean {
  return value === 1 || value === '1' || value === 't' || value === 'true' || (value as unknown) === true
}

/** Glance writes UTC without a zone. */
function seconds(value: Value): number | null {
  if (value === null) return null
  const milliseconds = Date.parse(
    `${String(value)
      .replace(' ', 'T')
      .replace(/\.\d+$/, '')}Z`,
  )
  return Number.isNaN(milliseconds) ? null : Math.floor(milliseconds / 1000)
}
