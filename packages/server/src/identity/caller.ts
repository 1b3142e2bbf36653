/** Who sends a request, as the identity room found out. */

/** A user in the scope of a project, or of the whole system. */
export interface Caller {
  /** Null where nobody has to say who they are. */
  readonly userId: string | null
  readonly userName: string | null
  /** The project in whose name the request comes; null for a scope of the whole system, and where nobody has to say who they are. */
  readonly projectId: string | null
  /** In lower case, with the roles that they imply: an admin is also manager, member and reader. */
  readonly roles: ReadonlySet<string>
  /** The user's token comes with a second one, of a service that has the role `service`, as Nova and Cinder send it. */
  readonly isService: boolean
}

const implied: Readonly<Record<string, readonly string[]>> = {
  admin: ['manager', 'member', 'reader'],
  manager: ['member', 'reader'],
  member: ['reader'],
}

/** Roles as they count: in lower case, with those that they imply. */
export function effectiveRoles(given: Iterable<string>): ReadonlySet<string> {
  const roles = new Set<string>()
  for (const written of given) {
    const role = written.toLowerCase()
    roles.add(role)
    for (const other of implied[role] ?? []) roles.add(other)
  }
  return roles
}

/** Everybody, where nobody has to say who they are: whoever reaches the service may do everything. */
export const anybody: Caller = {
  userId: null,
  userName: null,
  projectId: null,
  roles: effectiveRoles(['admin', 'service']),
  isService: true,
}
