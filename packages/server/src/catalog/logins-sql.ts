/** Tokens, application credentials and wrong passwords in an SQL database. */
import { type InferResult, type Kysely, sql, type Transaction } from 'kysely'
import type { Role } from './accounts.ts'
import { projectOf, userOf } from './accounts-sql.ts'
import type { AccountTables, CredentialTable, TokenTable } from './accounts-tables.ts'
import type { ShortWays } from './batch.ts'
import { CatalogError } from './catalog.ts'
import type { ApplicationCredential, Attempt, Logins, Session, Token } from './logins.ts'

type SessionRow = InferResult<ReturnType<typeof compileSession>>[number]

/** Rows of what is over that are cleared away at a time. */
const clearedAtOnce = 100

export class SqlLogins implements Logins {
  readonly #db: Kysely<AccountTables>
  readonly #now: () => number
  readonly #session: ReturnType<typeof compileSession>
  readonly #look: ShortWays['look']

  constructor(db: Kysely<AccountTables>, now: () => number, { look }: Pick<ShortWays, 'look'>) {
    this.#db = db
    this.#now = now
    this.#session = compileSession(db)
    this.#look = look
  }

  addToken(token: Token): Promise<void> {
    return this.#db.transaction().execute(async (db) => {
      await clearAway(db, 'account_tokens', 'hash', 'expires_at', this.#now())
      await db.insertInto('account_tokens').values(tokenRow(token)).execute()
    })
  }

  async session(hash: string): Promise<Session | undefined> {
    const parameters = this.#session.parameters.map((value) =>
      value === asked.hash ? hash : value === asked.now ? this.#now() : value,
    )
    const { rows } = await this.#look<SessionRow>({ ...this.#session, parameters })
    const [row] = rows
    if (row === undefined) return undefined
    if (row.project_id !== null && row.project_enabled !== 1) return undefined
    if (row.c_expires_at !== null && row.c_expires_at <= this.#now()) return undefined
    const { user_id: id } = row
    const roles = rows.flatMap(({ role_id, role_name, role_description }): Role[] =>
      role_id === null || role_name === null ? [] : [{ id: role_id, name: role_name, description: role_description }],
    )
    return {
      token: tokenOf(row),
      user: userOf({
        id,
        name: row.user_name,
        enabled: 1,
        description: row.user_description,
        email: row.email,
        default_project_id: row.default_project_id,
        password_hash: null,
      }),
      project:
        row.project_id === null
          ? null
          : projectOf({
              id: row.project_id,
              name: row.project_name ?? '',
              enabled: 1,
              description: row.project_description ?? '',
              tags: row.tags ?? '[]',
            }),
      roles,
      credential:
        row.credential_id === null || row.project_id === null
          ? null
          : credentialOf({
              id: row.credential_id,
              user_id: id,
              project_id: row.project_id,
              name: row.c_name ?? '',
              description: row.c_description,
              secret_hash: '',
              roles: row.c_roles ?? '[]',
              expires_at: row.c_expires_at,
              unrestricted: row.c_unrestricted ?? 0,
            }),
    }
  }

  async removeToken(hash: string): Promise<boolean> {
    const { numDeletedRows } = await this.#db
      .deleteFrom('account_tokens')
      .where('hash', '=', hash)
      .executeTakeFirstOrThrow()
    return numDeletedRows > 0n
  }

  async credentials(userId: string, name?: string): Promise<ApplicationCredential[]> {
    let query = this.#db.selectFrom('account_credentials').selectAll().where('user_id', '=', userId).orderBy('name')
    if (name !== undefined) query = query.where('name', '=', name)
    return (await query.execute()).map(credentialOf)
  }

  async credential(id: string): Promise<ApplicationCredential | undefined> {
    const row = await this.#db.selectFrom('account_credentials').selectAll().where('id', '=', id).executeTakeFirst()
    return row === undefined ? undefined : credentialOf(row)
  }

  createCredential(credential: ApplicationCredential): Promise<void> {
    return this.#db.transaction().execute(async (db) => {
      const other = await db
        .selectFrom('account_credentials')
        .select('id')
        .where('user_id', '=', credential.userId)
        .where('name', '=', credential.name)
        .executeTakeFirst()
      if (other !== undefined) {
        throw new CatalogError(
          'taken',
          `Conflict occurred attempting to store application_credential - Duplicate entry found with name ${credential.name}.`,
        )
      }
      await db.insertInto('account_credentials').values(credentialRow(credential)).execute()
    })
  }

  async removeCredential(userId: string, id: string): Promise<boolean> {
    const { numDeletedRows } = await this.#db
      .deleteFrom('account_credentials')
      .where('user_id', '=', userId)
      .where('id', '=', id)
      .executeTakeFirstOrThrow()
    return numDeletedRows > 0n
  }

  countAttempts(attempts: readonly Attempt[], seconds: number): Promise<string | undefined> {
    return this.#db.transaction().execute(async (db) => {
      const now = this.#now()
      await clearAway(db, 'account_attempts', 'key', 'last_at', now - seconds)
      const rows = await db
        .selectFrom('account_attempts')
        .selectAll()
        .where(
          'key',
          'in',
          attempts.map(({ key }) => key),
        )
        .where('last_at', '>', now - seconds)
        .execute()
      const counts = new Map(rows.map(({ key, count }) => [key, count]))
      const spent = attempts.find(({ key, most }) => (counts.get(key) ?? 0) >= most)
      if (spent !== undefined) return spent.key
      for (const { key } of attempts) {
        const row = { count: (counts.get(key) ?? 0) + 1, last_at: now }
        await db
          .insertInto('account_attempts')
          .values({ key, ...row })
          .onConflict((conflict) => conflict.column('key').doUpdateSet(row))
          .execute()
      }
      return undefined
    })
  }

  forgetAttempts(all: readonly string[], one: readonly string[]): Promise<void> {
    return this.#db.transaction().execute(async (db) => {
      if (all.length > 0)
        await db
          .deleteFrom('account_attempts')
          .where('key', 'in', [...all])
          .execute()
      if (one.length === 0) return
      await db
        .updateTable('account_attempts')
        .set({ count: sql`count - 1` })
        .where('key', 'in', [...one])
        .where('count', '>', 0)
        .execute()
    })
  }
}

/** Clears away some rows whose time is not after `until`. */
async function clearAway<Name extends 'account_tokens' | 'account_attempts'>(
  db: Transaction<AccountTables>,
  table: Name,
  key: keyof AccountTables[Name] & string,
  time: keyof AccountTables[Name] & string,
  until: number,
): Promise<void> {
  const [all, name, when] = [sql.table(table), sql.ref(key), sql.ref(time)]
  await sql`delete from ${all} where ${name} in (select ${name} from ${all} where ${when} <= ${until} limit ${clearedAtOnce})`.execute(
    db,
  )
}

/** What stands in the place of values in a query that is put together once. */
const asked = { hash: '?hash', now: -1 }

/** All about a token at once, as this is asked for each request: a row for each role. */
function compileSession(db: Kysely<AccountTables>) {
  return db
    .selectFrom('account_tokens as t')
    .innerJoin('account_users as u', 'u.id', 't.user_id')
    .leftJoin('account_projects as p', 'p.id', 't.project_id')
    .leftJoin('account_credentials as c', 'c.id', 't.credential_id')
    .leftJoin('account_assignments as a', (join) =>
      join
        .onRef('a.user_id', '=', 't.user_id')
        .on(sql<boolean>`(a.project_id = t.project_id or (t.system = 1 and a.project_id is null))`),
    )
    .leftJoin('account_roles as r', 'r.id', 'a.role_id')
    .selectAll('t')
    .select(['u.name as user_name', 'u.description as user_description', 'u.email', 'u.default_project_id'])
    .select(['p.name as project_name', 'p.enabled as project_enabled', 'p.description as project_description'])
    .select(['p.tags', 'r.id as role_id', 'r.name as role_name', 'r.description as role_description'])
    .select(['c.name as c_name', 'c.description as c_description', 'c.roles as c_roles'])
    .select(['c.expires_at as c_expires_at', 'c.unrestricted as c_unrestricted'])
    .where('t.hash', '=', asked.hash)
    .where('t.expires_at', '>', asked.now)
    .where('u.enabled', '=', 1)
    .compile()
}

function tokenRow(token: Token): TokenTable {
  return {
    hash: token.hash,
    user_id: token.userId,
    project_id: token.projectId,
    system: token.system ? 1 : 0,
    methods: JSON.stringify(token.methods),
    audit_ids: JSON.stringify(token.auditIds),
    credential_id: token.credentialId,
    issued_at: token.issuedAt,
    expires_at: token.expiresAt,
  }
}

function tokenOf(row: TokenTable): Token {
  return {
    hash: row.hash,
    userId: row.user_id,
    projectId: row.project_id,
    system: row.system !== 0,
    methods: JSON.parse(row.methods) as string[],
    auditIds: JSON.parse(row.audit_ids) as string[],
    credentialId: row.credential_id,
    issuedAt: row.issued_at,
    expiresAt: row.expires_at,
  }
}

function credentialRow(credential: ApplicationCredential): CredentialTable {
  return {
    id: credential.id,
    user_id: credential.userId,
    project_id: credential.projectId,
    name: credential.name,
    description: credential.description,
    secret_hash: credential.secretHash,
    roles: JSON.stringify(credential.roles.map(({ id, name }) => ({ id, name }))),
    expires_at: credential.expiresAt,
    unrestricted: credential.unrestricted ? 1 : 0,
  }
}

function credentialOf(row: CredentialTable): ApplicationCredential {
  return {
    id: row.id,
    userId: row.user_id,
    projectId: row.project_id,
    name: row.name,
    description: row.description,
    secretHash: row.secret_hash,
    roles: JSON.parse(row.roles) as ApplicationCredential['roles'],
    expiresAt: row.expires_at,
    unrestricted: row.unrestricted !== 0,
  }
}
