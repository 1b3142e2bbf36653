/** The tables of accounts and logins. */
import { type Kysely, sql } from 'kysely'
import type { Migration } from 'kysely/migration'

export interface UserTable {
  id: string
  name: string
  /** 0 or 1, as are all flags. */
  enabled: number
  description: string | null
  email: string | null
  default_project_id: string | null
  password_hash: string | null
}

export interface ProjectTable {
  id: string
  name: string
  enabled: number
  description: string
  /** JSON. */
  tags: string
}

export interface RoleTable {
  id: string
  name: string
  description: string | null
}

export interface AssignmentTable {
  user_id: string
  role_id: string
  project_id: string | null
}

export interface TokenTable {
  hash: string
  user_id: string
  project_id: string | null
  system: number
  /** JSON, both. */
  methods: string
  audit_ids: string
  credential_id: string | null
  /** Seconds since 1970, as are all times. */
  issued_at: number
  expires_at: number
}

export interface CredentialTable {
  id: string
  user_id: string
  project_id: string
  name: string
  description: string | null
  secret_hash: string
  /** JSON: ids and names. */
  roles: string
  expires_at: number | null
  unrestricted: number
}

export interface AttemptTable {
  key: string
  count: number
  last_at: number
}

export interface AccountTables {
  account_users: UserTable
  account_projects: ProjectTable
  account_roles: RoleTable
  account_assignments: AssignmentTable
  account_tokens: TokenTable
  account_credentials: CredentialTable
  account_attempts: AttemptTable
}

export const accountMigration: Migration = {
  async up(db: Kysely<AccountTables>) {
    await db.schema
      .createTable('account_users')
      .addColumn('id', 'text', (column) => column.primaryKey().notNull())
      .addColumn('name', 'text', (column) => column.notNull().unique())
      .addColumn('enabled', 'integer', (column) => column.notNull())
      .addColumn('description', 'text')
      .addColumn('email', 'text')
      .addColumn('default_project_id', 'text')
      .addColumn('password_hash', 'text')
      .execute()
    await db.schema
      .createTable('account_projects')
      .addColumn('id', 'text', (column) => column.primaryKey().notNull())
      .addColumn('name', 'text', (column) => column.notNull().unique())
      .addColumn('enabled', 'integer', (column) => column.notNull())
      .addColumn('description', 'text', (column) => column.notNull())
      .addColumn('tags', 'text', (column) => column.notNull())
      .execute()
    await db.schema
      .createTable('account_roles')
      .addColumn('id', 'text', (column) => column.primaryKey().notNull())
      .addColumn('name', 'text', (column) => column.notNull())
      .addColumn('description', 'text')
      .execute()
    await sql`create unique index account_roles_by_name on account_roles (lower(name))`.execute(db)
    await db.schema
      .createTable('account_assignments')
      .addColumn('user_id', 'text', (column) => column.notNull().references('account_users.id').onDelete('cascade'))
      .addColumn('role_id', 'text', (column) => column.notNull().references('account_roles.id').onDelete('cascade'))
      .addColumn('project_id', 'text', (column) => column.references('account_projects.id').onDelete('cascade'))
      .execute()
    await sql`create unique index account_assignments_key on account_assignments (user_id, coalesce(project_id, ''), role_id)`.execute(
      db,
    )
    await db.schema
      .createIndex('account_assignments_by_project')
      .on('account_assignments')
      .column('project_id')
      .execute()
    await db.schema.createIndex('account_assignments_by_role').on('account_assignments').column('role_id').execute()
    await db.schema
      .createTable('account_credentials')
      .addColumn('id', 'text', (column) => column.primaryKey().notNull())
      .addColumn('user_id', 'text', (column) => column.notNull().references('account_users.id').onDelete('cascade'))
      .addColumn('project_id', 'text', (column) =>
        column.notNull().references('account_projects.id').onDelete('cascade'),
      )
      .addColumn('name', 'text', (column) => column.notNull())
      .addColumn('description', 'text')
      .addColumn('secret_hash', 'text', (column) => column.notNull())
      .addColumn('roles', 'text', (column) => column.notNull())
      .addColumn('expires_at', 'bigint')
      .addColumn('unrestricted', 'integer', (column) => column.notNull())
      .addUniqueConstraint('account_credentials_name', ['user_id', 'name'])
      .execute()
    await db.schema
      .createIndex('account_credentials_by_project')
      .on('account_credentials')
      .column('project_id')
      .execute()
    await db.schema
      .createTable('account_tokens')
      .addColumn('hash', 'text', (column) => column.primaryKey().notNull())
      .addColumn('user_id', 'text', (column) => column.notNull().references('account_users.id').onDelete('cascade'))
      .addColumn('project_id', 'text', (column) => column.references('account_projects.id').onDelete('cascade'))
      .addColumn('system', 'integer', (column) => column.notNull())
      .addColumn('methods', 'text', (column) => column.notNull())
      .addColumn('audit_ids', 'text', (column) => column.notNull())
      .addColumn('credential_id', 'text', (column) => column.references('account_credentials.id').onDelete('cascade'))
      .addColumn('issued_at', 'bigint', (column) => column.notNull())
      .addColumn('expires_at', 'bigint', (column) => column.notNull())
      .execute()
    for (const column of ['user_id', 'project_id', 'credential_id', 'expires_at'] as const) {
      await db.schema.createIndex(`account_tokens_by_${column}`).on('account_tokens').column(column).execute()
    }
    await db.schema
      .createTable('account_attempts')
      .addColumn('key', 'text', (column) => column.primaryKey().notNull())
      .addColumn('count', 'integer', (column) => column.notNull())
      .addColumn('last_at', 'bigint', (column) => column.notNull())
      .execute()
    await db.schema.createIndex('account_attempts_by_age').on('account_attempts').column('last_at').execute()
  },
}
