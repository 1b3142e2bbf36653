/** The database of a Glance, opened for reading only: its SQLite file, MySQL or MariaDB, PostgreSQL. */
import { closeSync, openSync, readSync } from 'node:fs'
import { DatabaseSync, type SQLInputValue } from 'node:sqlite'
import { MoraineError } from '@moraine/engine'
import { Kysely, MysqlDialect, PostgresDialect, type Selectable, SqliteDialect } from 'kysely'

/** What MySQL gives as a number, SQLite as 0 or 1 and PostgreSQL as text. */
export type Value = string | number | null
type Columns<Name extends string> = Record<Name, Value>

/** The columns that are read. Newer versions have more. */
export interface GlanceTables {
  images: Columns<
    | 'id'
    | 'name'
    | 'disk_format'
    | 'container_format'
    | 'size'
    | 'virtual_size'
    | 'status'
    | 'visibility'
    | 'checksum'
    | 'os_hash_algo'
    | 'os_hash_value'
    | 'min_disk'
    | 'min_ram'
    | 'owner'
    | 'protected'
    | 'os_hidden'
    | 'deleted'
    | 'created_at'
    | 'updated_at'
    | 'deleted_at'
  >
  image_properties: Columns<'image_id' | 'name' | 'value' | 'deleted'>
  image_tags: Columns<'id' | 'image_id' | 'value' | 'deleted'>
  image_members: Columns<'image_id' | 'member' | 'status' | 'deleted' | 'created_at' | 'updated_at'>
  image_locations: Columns<'id' | 'image_id' | 'value' | 'meta_data' | 'status' | 'deleted'>
  tasks: Columns<'id' | 'deleted'>
  metadef_namespaces: Columns<
    'id' | 'namespace' | 'display_name' | 'description' | 'visibility' | 'protected' | 'owner'
  >
  metadef_objects: Columns<'id' | 'namespace_id' | 'name' | 'description' | 'required' | 'json_schema'>
  metadef_properties: Columns<'id' | 'namespace_id' | 'name' | 'json_schema'>
  metadef_tags: Columns<'id' | 'namespace_id' | 'name'>
  metadef_resource_types: Columns<'id' | 'name'>
  metadef_namespace_resource_types: Columns<'namespace_id' | 'resource_type_id' | 'properties_target' | 'prefix'>
}

export type GlanceRow<Table extends keyof GlanceTables> = Selectable<GlanceTables[Table]>

/** @param connection A file of SQLite, or an address as in Glance's setting `connection`: `mysql+pymysql://USER:PASSWORD@HOST/glance`, `postgresql://…`, `sqlite:////PATH`.
 *  @throws MoraineError `missing`, `unsupported`, `invalid`. */
export async function openGlance(connection: string): Promise<Kysely<GlanceTables>> {
  if (isDatabaseFile(connection)) return new Kysely({ dialect: sqliteFile(connection) })
  // A user at no host is one at a socket; to the URL standard it is an error.
  const url = URL.parse(connection.replace(/^([^/]+:\/\/[^/?#]*@)(?=\/)/, '$1localhost'))
  const kind = url?.protocol.replace(/[+:].*$/s, '')
  if (url === null || kind === undefined) {
    throw new MoraineError('invalid', `${connection} is neither a database of SQLite nor the address of one`)
  }
  if (kind === 'sqlite')
    return new Kysely({ dialect: sqliteFile(decodeURIComponent(url.pathname.replace(/^\/(?=\/)/, ''))) })
  if (kind === 'mysql' || kind === 'mariadb') return new Kysely({ dialect: await mysql(url) })
  if (kind === 'postgresql' || kind === 'postgres') return new Kysely({ dialect: await postgres(url) })
  throw new MoraineError(
    'unsupported',
    `databases of the kind '${kind}' cannot be read; sqlite, mysql and postgresql can`,
  )
}

/** Whether it is a file that SQLite has written. */
export function isDatabaseFile(path: string): boolean {
  try {
    const file = openSync(path, 'r')
    try {
      const head = Buffer.alloc(16)
      readSync(file, head, 0, head.length, 0)
      return head.toString('latin1') === 'SQLite format 3\0'
    } finally {
      closeSync(file)
    }
  } catch {
    return false
  }
}

function sqliteFile(path: string): SqliteDialect {
  if (!isDatabaseFile(path)) throw new MoraineError('missing', `${path} is no database of SQLite`, { path })
  const database = new DatabaseSync(path, { readOnly: true })
  return new SqliteDialect({
    database: {
      close: () => database.close(),
      prepare(sql) {
        const statement = database.prepare(sql)
        const values = (parameters: readonly unknown[]) => parameters as SQLInputValue[]
        return {
          reader: statement.columns().length > 0,
          all: (parameters) => statement.all(...values(parameters)),
          run: (parameters) => statement.run(...values(parameters)),
          iterate: (parameters) => statement.iterate(...values(parameters)),
        }
      },
    },
  })
}

const login = (url: URL) => ({
  user: decodeURIComponent(url.username),
  password: decodeURIComponent(url.password),
  database: decodeURIComponent(url.pathname.slice(1)),
})

async function mysql(url: URL): Promise<MysqlDialect> {
  const { createPool } = await library('mysql2', () => import('mysql2'))
  const socket = url.searchParams.get('unix_socket')
  const where = socket === null ? { host: url.hostname, port: Number(url.port || 3306) } : { socketPath: socket }
  const pool = createPool({ ...login(url), ...where, connectionLimit: 1, dateStrings: true, supportBigNumbers: true })
  pool.on('connection', (connection) => connection.query('set session transaction read only'))
  return new MysqlDialect({ pool })
}

async function postgres(url: URL): Promise<PostgresDialect> {
  const { default: pg } = await library('pg', () => import('pg'))
  const host = url.searchParams.get('host') ?? url.hostname
  // Everything as text: times are read the same way for all databases.
  const types = { getTypeParser: () => (text: string) => text }
  const options = '-c default_transaction_read_only=on'
  const where = { host, port: Number(url.port || 5432) }
  return new PostgresDialect({ pool: new pg.Pool({ ...login(url), ...where, max: 1, options, types: types as never }) })
}

/** @throws MoraineError `unsupported` where it is not installed. */
async function library<Module>(name: string, load: () => Promise<Module>): Promise<Module> {
  try {
    return await load()
  } catch (cause) {
    throw new MoraineError('unsupported', `this database needs the package ${name}: npm install ${name}`, { cause })
  }
}
