/** How accounts and tokens are shown: Keystone's documents. */
import type { NamedAssignment, Project, Role, User } from '../../catalog/accounts.ts'
import type { ApplicationCredential, Session } from '../../catalog/logins.ts'
import { domain } from '../../identity/local.ts'
import { fixedId, fixedRoles } from '../../identity/roles.ts'

const interfaces = ['public', 'internal', 'admin'] as const

/** Seconds since 1970 as Keystone writes times. */
export function timeText(seconds: number, end = 'Z'): string {
  return new Date(seconds * 1000).toISOString().replace(/\.\d+Z$/, `.000000${end}`)
}

/** @param url Of version 3. */
export function userDocument(user: User, url: string): object {
  const { id, name, enabled, description, email, defaultProjectId } = user
  return {
    ...(description === null ? {} : { description }),
    ...(email === null ? {} : { email }),
    ...(defaultProjectId === null ? {} : { default_project_id: defaultProjectId }),
    id,
    name,
    domain_id: domain.id,
    enabled,
    password_expires_at: null,
    options: {},
    links: { self: `${url}/users/${id}` },
  }
}

export function projectDocument({ id, name, enabled, description, tags }: Project, url: string): object {
  return {
    id,
    name,
    domain_id: domain.id,
    description,
    enabled,
    parent_id: domain.id,
    is_domain: false,
    tags,
    options: {},
    links: { self: `${url}/projects/${id}` },
  }
}

const fixedIds = new Set(fixedRoles.map(({ id }) => id))
export const isFixed = ({ id }: Pick<Role, 'id'>) => fixedIds.has(id)

export function roleDocument(role: Role, url: string): object {
  return { ...roleFacts(role), links: { self: `${url}/roles/${role.id}` } }
}

function roleFacts({ id, name, description }: Role): object {
  return { id, name, domain_id: null, description, options: isFixed({ id }) ? { immutable: true } : {} }
}

export function domainDocument(url: string): object {
  return {
    ...domain,
    description: 'The default domain',
    enabled: true,
    tags: [],
    options: {},
    links: { self: `${url}/domains/${domain.id}` },
  }
}

export function assignmentDocument({ user, role, project }: NamedAssignment, url: string, withNames: boolean): object {
  const where = project === null ? 'system' : `projects/${project.id}`
  const shown = (thing: { id: string; name: string }, more = {}) =>
    withNames ? { ...thing, ...more } : { id: thing.id }
  return {
    links: { assignment: `${url}/${where}/users/${user.id}/roles/${role.id}` },
    scope: project === null ? { system: { all: true } } : { project: shown(project, { domain }) },
    user: shown(user, { domain }),
    role: shown(role),
  }
}

export function credentialDocument(credential: ApplicationCredential, url: string): object {
  const { id, name, description, userId, projectId, expiresAt, unrestricted, roles } = credential
  return {
    id,
    name,
    description,
    user_id: userId,
    project_id: projectId,
    system: null,
    expires_at: expiresAt === null ? null : timeText(expiresAt, ''),
    unrestricted,
    roles: roles.map((role) => roleFacts({ ...role, description: null })),
    links: { self: `${url}/users/${userId}/application_credentials/${id}` },
  }
}

/** A service of the catalog, with its endpoints. */
interface CatalogService {
  id: string
  type: string
  name: string
  url: string
}

/** @param base The URL of the service as a whole. */
export function catalogServices(base: string): CatalogService[] {
  return [
    { id: fixedId('service identity'), type: 'identity', name: 'keystone', url: `${base}/identity/v3` },
    { id: fixedId('service image'), type: 'image', name: 'glance', url: base },
  ]
}

export function endpointsOf({ type, url, id }: CatalogService, region: string) {
  return interfaces.map((side) => ({
    id: fixedId(`endpoint ${type} ${side}`),
    interface: side,
    region_id: region,
    region,
    url,
    service_id: id,
  }))
}

export function catalogDocument(base: string, region: string): object[] {
  return catalogServices(base).map((entry) => ({
    endpoints: endpointsOf(entry, region).map(({ service_id: _, ...endpoint }) => endpoint),
    id: entry.id,
    type: entry.type,
    name: entry.name,
  }))
}

/** @param catalog Undefined: not asked for. */
export function tokenDocument({ token, user, project, roles, credential }: Session, catalog: object[] | undefined) {
  const hasScope = project !== null || token.system
  return {
    token: {
      methods: token.methods,
      user: { domain, id: user.id, name: user.name, password_expires_at: null },
      audit_ids: token.auditIds,
      expires_at: timeText(token.expiresAt),
      issued_at: timeText(token.issuedAt),
      ...(project === null ? {} : { project: { domain, id: project.id, name: project.name }, is_domain: false }),
      ...(token.system ? { system: { all: true } } : {}),
      ...(hasScope ? { roles: roles.map(({ id, name }) => ({ id, name })) } : {}),
      ...(hasScope && catalog !== undefined ? { catalog } : {}),
      ...(credential === null
        ? {}
        : {
            application_credential: {
              id: credential.id,
              name: credential.name,
              restricted: !credential.unrestricted,
            },
          }),
    },
  }
}
