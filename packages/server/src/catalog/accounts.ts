/** Accounts of the service itself: users, projects, roles and who has which role where, and what the service asks of the catalog about them.
 *  All are in one domain. Ids are 32 hexadecimal digits, as Keystone's. */

export interface User {
  readonly id: string
  /** The only one of its name. */
  name: string
  enabled: boolean
  description: string | null
  email: string | null
  /** Where a login goes that names no scope. */
  defaultProjectId: string | null
  /** Null: nobody can log in with a password. */
  passwordHash: string | null
}

export interface Project {
  readonly id: string
  /** The only one of its name. */
  name: string
  enabled: boolean
  description: string
  tags: readonly string[]
}

export interface Role {
  readonly id: string
  /** The only one of its name, whether in upper or lower case. */
  name: string
  description: string | null
}

/** A user has a role in a project, or on the whole system. */
export interface Assignment {
  userId: string
  roleId: string
  /** Null: the whole system. */
  projectId: string | null
}

/** An assignment with the things that it is about; `project` is null for the whole system. */
export interface NamedAssignment {
  user: Pick<User, 'id' | 'name'>
  role: Pick<Role, 'id' | 'name'>
  project: Pick<Project, 'id' | 'name'> | null
}

/** What a list is asked of; what is absent matches everything. */
export interface AccountFilter {
  name?: string | undefined
  enabled?: boolean | undefined
}

export interface AssignmentFilter {
  userId?: string | undefined
  roleId?: string | undefined
  /** Null: only those on the whole system. */
  projectId?: string | null | undefined
}

/** What a catalog begins with. */
export interface FirstAccounts {
  roles: readonly Role[]
  user: User
  project: Project
  assignments: readonly Assignment[]
}

/** Lists are in the order of names. Each call is one transaction. Undefined as an answer means that there is no such thing. */
export interface Accounts {
  /** Puts the first accounts in, unless there were any before. Resolves to whether it did. */
  begin(first: FirstAccounts): Promise<boolean>

  users(filter: AccountFilter): Promise<User[]>
  user(id: string): Promise<User | undefined>
  userByName(name: string): Promise<User | undefined>
  /** @throws CatalogError `taken`. */
  createUser(user: User): Promise<void>
  /** Changes a user. Another password, or being disabled, ends the user's tokens. @throws CatalogError `taken`. */
  changeUser(id: string, change: Partial<Omit<User, 'id'>>): Promise<User | undefined>
  /** Takes away the user with roles, tokens and application credentials. Resolves to whether there was one. */
  removeUser(id: string): Promise<boolean>

  projects(filter: AccountFilter): Promise<Project[]>
  project(id: string): Promise<Project | undefined>
  projectByName(name: string): Promise<Project | undefined>
  /** @throws CatalogError `taken`. */
  createProject(project: Project): Promise<void>
  /** Being disabled ends the project's tokens. @throws CatalogError `taken`. */
  changeProject(id: string, change: Partial<Omit<Project, 'id'>>): Promise<Project | undefined>
  /** Takes away the project with roles, tokens and application credentials; its images stay. */
  removeProject(id: string): Promise<boolean>

  roles(filter: Pick<AccountFilter, 'name'>): Promise<Role[]>
  role(id: string): Promise<Role | undefined>
  /** @throws CatalogError `taken`. */
  createRole(role: Role): Promise<void>
  /** @throws CatalogError `taken`. */
  changeRole(id: string, change: Partial<Omit<Role, 'id'>>): Promise<Role | undefined>
  removeRole(id: string): Promise<boolean>

  /** Gives a role, which may be there already. @throws CatalogError `missing` when user, project or role is not there. */
  assign(assignment: Assignment): Promise<void>
  /** Resolves to whether there was such an assignment. */
  unassign(assignment: Assignment): Promise<boolean>
  assignments(filter: AssignmentFilter): Promise<NamedAssignment[]>
}
