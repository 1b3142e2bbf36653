/** Accounts in an SQL database. */
import type { Kysely, Transaction } from 'kysely'
import { sql } from 'kysely'
import type {
  AccountFilter,
  Accounts,
  Assignment,
  AssignmentFilter,
  FirstAccounts,
  NamedAssignment,
  Project,
  Role,
  User,
} from './accounts.ts'
import type { AccountTables, ProjectTable, UserTable } from './accounts-tables.ts'
import { CatalogError } from './catalog.ts'

type Queries = Kysely<AccountTables> | Transaction<AccountTables>

export class SqlAccounts implements Accounts {
  readonly #db: Kysely<AccountTables>

  constructor(db: Kysely<AccountTables>) {
    this.#db = db
  }

  begin({ roles, user, project, assignments }: FirstAccounts): Promise<boolean> {
    return this.#db.transaction().execute(async (db) => {
      if ((await db.selectFrom('account_roles').select('id').limit(1).executeTakeFirst()) !== undefined) return false
      await db
        .insertInto('account_roles')
        .values(roles.map((role) => ({ ...role })))
        .execute()
      await db.insertInto('account_users').values(userRow(user)).execute()
      await db.insertInto('account_projects').values(projectRow(project)).execute()
      await db.insertInto('account_assignments').values(assignments.map(assignmentRow)).execute()
      return true
    })
  }

  async users({ name, enabled }: AccountFilter): Promise<User[]> {
    let query = this.#db.selectFrom('account_users').selectAll().orderBy('name')
    if (name !== undefined) query = query.where('name', '=', name)
    if (enabled !== undefined) query = query.where('enabled', '=', enabled ? 1 : 0)
    return (await query.execute()).map(userOf)
  }

  async user(id: string): Promise<User | undefined> {
    const row = await selectUser(this.#db, id)
    return row === undefined ? undefined : userOf(row)
  }

  async userByName(name: string): Promise<User | undefined> {
    return (await this.users({ name }))[0]
  }

  createUser(user: User): Promise<void> {
    return this.#db.transaction().execute(async (db) => {
      await refuseTaken(db, 'user', user)
      await db.insertInto('account_users').values(userRow(user)).execute()
    })
  }

  changeUser(id: string, change: Partial<Omit<User, 'id'>>): Promise<User | undefined> {
    return this.#db.transaction().execute(async (db) => {
      const row = await selectUser(db, id)
      if (row === undefined) return undefined
      const user = { ...userOf(row), ...change }
      await refuseTaken(db, 'user', user)
      await db.updateTable('account_users').set(userRow(user)).where('id', '=', id).execute()
      if (!user.enabled || user.passwordHash !== row.password_hash) {
        await db.deleteFrom('account_tokens').where('user_id', '=', id).execute()
      }
      return user
    })
  }

  removeUser(id: string): Promise<boolean> {
    return remove(this.#db, 'account_users', id)
  }

  async projects({ name, enabled }: AccountFilter): Promise<Project[]> {
    let query = this.#db.selectFrom('account_projects').selectAll().orderBy('name')
    if (name !== undefined) query = query.where('name', '=', name)
    if (enabled !== undefined) query = query.where('enabled', '=', enabled ? 1 : 0)
    return (await query.execute()).map(projectOf)
  }

  async project(id: string): Promise<Project | undefined> {
    const row = await selectProject(this.#db, id)
    return row === undefined ? undefined : projectOf(row)
  }

  async projectByName(name: string): Promise<Project | undefined> {
    return (await this.projects({ name }))[0]
  }

  createProject(project: Project): Promise<void> {
    return this.#db.transaction().execute(async (db) => {
      await refuseTaken(db, 'project', project)
      await db.insertInto('account_projects').values(projectRow(project)).execute()
    })
  }

  changeProject(id: string, change: Partial<Omit<Project, 'id'>>): Promise<Project | undefined> {
    return this.#db.transaction().execute(async (db) => {
      const row = await selectProject(db, id)
      if (row === undefined) return undefined
      const project = { ...projectOf(row), ...change }
      await refuseTaken(db, 'project', project)
      await db.updateTable('account_projects').set(projectRow(project)).where('id', '=', id).execute()
      if (!project.enabled) await db.deleteFrom('account_tokens').where('project_id', '=', id).execute()
      return project
    })
  }

  removeProject(id: string): Promise<boolean> {
    return this.#db.transaction().execute(async (db) => {
      await db
        .updateTable('account_users')
        .set({ default_project_id: null })
        .where('default_project_id', '=', id)
        .execute()
      return remove(db, 'account_projects', id)
    })
  }

  roles({ name }: Pick<AccountFilter, 'name'>): Promise<Role[]> {
    let query = this.#db.selectFrom('account_roles').selectAll().orderBy('name')
    if (name !== undefined) query = query.where('name', '=', name)
    return query.execute()
  }

  role(id: string): Promise<Role | undefined> {
    return this.#db.selectFrom('account_roles').selectAll().where('id', '=', id).executeTakeFirst()
  }

  createRole(role: Role): Promise<void> {
    return this.#db.transaction().execute(async (db) => {
      await refuseTaken(db, 'role', role)
      await db
        .insertInto('account_roles')
        .values({ ...role })
        .execute()
    })
  }

  changeRole(id: string, change: Partial<Omit<Role, 'id'>>): Promise<Role | undefined> {
    return this.#db.transaction().execute(async (db) => {
      const row = await db.selectFrom('account_roles').selectAll().where('id', '=', id).executeTakeFirst()
      if (row === undefined) return undefined
      const role = { ...row, ...change }
      await refuseTaken(db, 'role', role)
      await db.updateTable('account_roles').set(role).where('id', '=', id).execute()
      return role
    })
  }

  removeRole(id: string): Promise<boolean> {
    return remove(this.#db, 'account_roles', id)
  }

  assign(assignment: Assignment): Promise<void> {
    return this.#db.transaction().execute(async (db) => {
      const { userId, roleId, projectId } = assignment
      const role = await db.selectFrom('account_roles').select('id').where('id', '=', roleId).executeTakeFirst()
      if (role === undefined) throw new CatalogError('missing', `Could not find role: ${roleId}.`)
      if ((await selectUser(db, userId)) === undefined) {
        throw new CatalogError('missing', `Could not find user: ${userId}.`)
      }
      if (projectId !== null && (await selectProject(db, projectId)) === undefined) {
        throw new CatalogError('missing', `Could not find project: ${projectId}.`)
      }
      await db
        .insertInto('account_assignments')
        .values(assignmentRow(assignment))
        .onConflict((conflict) => conflict.doNothing())
        .execute()
    })
  }

  async unassign({ userId, roleId, projectId }: Assignment): Promise<boolean> {
    const { numDeletedRows } = await this.#db
      .deleteFrom('account_assignments')
      .where('user_id', '=', userId)
      .where('role_id', '=', roleId)
      .where('project_id', projectId === null ? 'is' : '=', projectId)
      .executeTakeFirstOrThrow()
    return numDeletedRows > 0n
  }

  async assignments({ userId, roleId, projectId }: AssignmentFilter): Promise<NamedAssignment[]> {
    let query = this.#db
      .selectFrom('account_assignments as a')
      .innerJoin('account_users as u', 'u.id', 'a.user_id')
      .innerJoin('account_roles as r', 'r.id', 'a.role_id')
      .leftJoin('account_projects as p', 'p.id', 'a.project_id')
      .select(['u.id as user_id', 'u.name as user', 'r.id as role_id', 'r.name as role', 'a.project_id'])
      .select('p.name as project')
      .orderBy('u.name')
      .orderBy('p.name')
      .orderBy('r.name')
    if (userId !== undefined) query = query.where('a.user_id', '=', userId)
    if (roleId !== undefined) query = query.where('a.role_id', '=', roleId)
    if (projectId !== undefined) query = query.where('a.project_id', projectId === null ? 'is' : '=', projectId)
    return (await query.execute()).map((row) => ({
      user: { id: row.user_id, name: row.user },
      role: { id: row.role_id, name: row.role },
      project: row.project_id === null ? null : { id: row.project_id, name: row.project ?? row.project_id },
    }))
  }
}

function selectUser(db: Queries, id: string): Promise<UserTable | undefined> {
  return db.selectFrom('account_users').selectAll().where('id', '=', id).executeTakeFirst()
}

function selectProject(db: Queries, id: string): Promise<ProjectTable | undefined> {
  return db.selectFrom('account_projects').selectAll().where('id', '=', id).executeTakeFirst()
}

type Kind = 'user' | 'project' | 'role'

/** @throws CatalogError `taken` when another thing of the kind has the name. */
async function refuseTaken(db: Queries, kind: Kind, { id, name }: { id: string; name: string }): Promise<void> {
  const isSame = kind === 'role' ? sql<boolean>`lower(name) = lower(${name})` : sql<boolean>`name = ${name}`
  const other = await db
    .selectFrom(`account_${kind}s`)
    .select('id')
    .where(isSame)
    .where('id', '!=', id)
    .executeTakeFirst()
  if (other === undefined) return
  throw new CatalogError(
    'taken',
    `Conflict occurred attempting to store ${kind} - Duplicate entry found with name ${name}.`,
  )
}

async function remove(db: Queries, table: `account_${Kind}s`, id: string): Promise<boolean> {
  const { numDeletedRows } = await db.deleteFrom(table).where('id', '=', id).executeTakeFirstOrThrow()
  return numDeletedRows > 0n
}

function assignmentRow({ userId, roleId, projectId }: Assignment) {
  return { user_id: userId, role_id: roleId, project_id: projectId }
}

function userRow(user: User): UserTable {
  return {
    id: user.id,
    name: user.name,
    enabled: user.enabled ? 1 : 0,
    description: user.description,
    email: user.email,
    default_project_id: user.defaultProjectId,
    password_hash: user.passwordHash,
  }
}

export function userOf(row: UserTable): User {
  return {
    id: row.id,
    name: row.name,
    enabled: row.enabled !== 0,
    description: row.description,
    email: row.email,
    defaultProjectId: row.default_project_id,
    passwordHash: row.password_hash,
  }
}

function projectRow({ tags, enabled, ...project }: Project): ProjectTable {
  return { ...project, enabled: enabled ? 1 : 0, tags: JSON.stringify(tags) }
}

export function projectOf({ enabled, tags, ...row }: ProjectTable): Project {
  return { ...row, enabled: enabled !== 0, tags: JSON.parse(tags) as string[] }
}
