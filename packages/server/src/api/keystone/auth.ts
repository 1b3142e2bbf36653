/** Tokens: logging in, asking what a token is good for, and giving it up. */
import { type Static, Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import type { Session } from '../../catalog/logins.ts'
import {
  callerOf,
  domain,
  type LocalIdentity,
  type NewToken,
  type Scope,
  tokenHash,
  type UserName,
} from '../../identity/local.ts'
import { longestPassword } from '../../identity/passwords.ts'
import type { Service } from '../../service.ts'
import { HttpError } from '../http-error.ts'
import { readQuery } from '../metadefs/shared.ts'
import { baseUrl, type Routes, refuseOtherMethods, sendJson } from '../routes.ts'
import { catalogDocument, projectDocument, tokenDocument } from './documents.ts'
import {
  allow,
  expected,
  identityUrl,
  login,
  mayManage,
  mayValidate,
  nameType,
  sendList,
  unauthorized,
} from './shared.ts'

const text = Type.Optional(Type.String())
const domainType = Type.Optional(Type.Object({ id: text, name: text }))
const secretType = Type.String({ maxLength: longestPassword })
const userType = Type.Object({ id: text, name: text, domain: domainType })

const loginType = Type.Object({
  auth: Type.Object({
    identity: Type.Object({
      methods: Type.Array(Type.String()),
      password: Type.Optional(
        Type.Object({
          user: Type.Object({ id: text, name: text, domain: domainType, password: Type.Optional(secretType) }),
        }),
      ),
      token: Type.Optional(Type.Object({ id: nameType(4096) })),
      application_credential: Type.Optional(
        Type.Object({ id: text, name: text, secret: secretType, user: Type.Optional(userType) }),
      ),
    }),
    scope: Type.Optional(
      Type.Union([
        Type.Literal('unscoped'),
        Type.Object({
          project: Type.Optional(Type.Object({ id: text, name: text, domain: domainType })),
          domain: domainType,
          system: Type.Optional(Type.Object({ all: Type.Optional(Type.Boolean()) })),
        }),
      ]),
    ),
  }),
})

type Login = Static<typeof loginType>['auth']

/** Routes that need no token. */
export function addLogin(routes: Routes, service: Service, identity: LocalIdentity): void {
  routes.post('/v3/auth/tokens', { schema: { body: loginType } }, async (request, reply) => {
    const { token, session } = await login(request, service, () => logIn(identity, request.body.auth, request.ip))
    request.caller = callerOf(session)
    reply.header('X-Subject-Token', token)
    return sendJson(reply, shown(service, request, session), 201)
  })
}

/** Routes that need one. */
export function addAuth(routes: Routes, service: Service, identity: LocalIdentity): void {
  const url = '/v3/auth/tokens'

  /** The token that the request is about. */
  const subject = async (request: FastifyRequest): Promise<{ token: string; session: Session }> => {
    const token = request.headers['x-subject-token']
    if (typeof token !== 'string' || token === '') throw new HttpError(404, 'No token in the request')
    const session = await identity.session(token)
    if (session === undefined) throw new HttpError(404, 'Failed to validate token')
    return { token, session }
  }
  const isOwn = (request: FastifyRequest, { user }: Session) => user.id === request.session.user.id

  routes.route({
    method: ['GET', 'HEAD'],
    url,
    handler: async (request, reply) => {
      const { token, session } = await subject(request)
      allow(isOwn(request, session) || mayValidate(request.session), 'validate_token')
      reply.header('X-Subject-Token', token)
      return sendJson(reply, shown(service, request, session))
    },
  })
  routes.delete(url, async (request, reply) => {
    const { token, session } = await subject(request)
    allow(isOwn(request, session) || mayManage(request.session), 'revoke_token')
    await identity.logins.removeToken(tokenHash(token))
    return reply.code(204).send()
  })
  refuseOtherMethods(routes, url, 'GET, HEAD, POST, DELETE')

  routes.get('/v3/auth/catalog', (request, reply) => {
    const catalog = catalogDocument(baseUrl(service, request), service.config.region)
    return sendJson(reply, { catalog, links: { self: `${identityUrl(service, request)}/auth/catalog` } })
  })
  routes.get('/v3/auth/projects', async (request, reply) => {
    const projects = await projectsOf(identity, request.session.user.id, true)
    return sendList(reply, service, request, 'projects', projects, projectDocument)
  })
  // Nobody has a role in the domain itself.
  routes.get('/v3/auth/domains', (request, reply) => sendList(reply, service, request, 'domains', []))
  routes.get('/v3/auth/system', async (request, reply) => {
    const held = await identity.accounts.assignments({ userId: request.session.user.id, projectId: null })
    const self = `${identityUrl(service, request)}/auth/system`
    return sendJson(reply, { system: held.length > 0 ? [{ all: true }] : [], links: { self } })
  })
}

/** The projects in which a user has a role. */
export async function projectsOf({ accounts }: LocalIdentity, userId: string, onlyEnabled: boolean) {
  const held = await accounts.assignments({ userId })
  const ids = new Set(held.map(({ project }) => project?.id))
  return (await accounts.projects(onlyEnabled ? { enabled: true } : {})).filter(({ id }) => ids.has(id))
}

function shown(service: Service, request: FastifyRequest, session: Session): object {
  const isLong = !readQuery(request).has('nocatalog')
  return tokenDocument(session, isLong ? catalogDocument(baseUrl(service, request), service.config.region) : undefined)
}

/** @throws HttpError 400, 401; LoginRefused; IdentityUnavailable */
async function logIn(identity: LocalIdentity, { identity: given, scope }: Login, address: string): Promise<NewToken> {
  const { methods, password, token, application_credential: credential } = given
  const [method, ...more] = methods
  if (method === undefined) throw unauthorized()
  if (more.length > 0) throw new HttpError(400, 'Only one authentication method at a time is known here.')
  if (!Object.hasOwn(given, method)) throw expected(`${method} in identity`)
  switch (method) {
    case 'password': {
      if (password?.user.password === undefined) throw expected('password in identity')
      const who = readUser(password.user, 'identity/password/user')
      return identity.withPassword(who, password.user.password, readScope(scope), address)
    }
    case 'token':
      if (token === undefined) throw expected('token in identity')
      return identity.withToken(token.id, readScope(scope))
    case 'application_credential': {
      if (credential === undefined) throw expected('application_credential in identity')
      if (scope !== undefined) {
        throw new HttpError(
          401,
          'Error authenticating with application credential: Application credentials cannot request a scope.',
        )
      }
      const { id, name, user, secret } = credential
      if (id !== undefined) return identity.withCredential({ id }, secret, address)
      if (name === undefined || user === undefined) throw expected('id, or name and user, in application_credential')
      const owner = readUser(user, 'identity/application_credential/user')
      return identity.withCredential({ name, user: owner }, secret, address)
    }
    default:
      // Also what Keystone knows and this service does not: totp, mapped, oauth1 …
      throw unauthorized()
  }
}

type Domain = Static<typeof domainType>

const isOurs = ({ id, name }: NonNullable<Domain>) => (id === undefined ? name === domain.name : id === domain.id)

function readUser({ id, name, domain: where }: Static<typeof userType>, field: string): UserName {
  if (id !== undefined) return { id }
  if (name === undefined) throw new HttpError(400, `Invalid input for field ${field}: id or name must be present.`)
  if (where === undefined) throw expected('domain in user')
  // No user has such a name, so one of another domain is as unknown as any.
  return { name: isOurs(where) ? name : `${where.id ?? where.name}\0${name}` }
}

function readScope(scope: Login['scope']): Scope | undefined {
  if (scope === undefined) return undefined
  if (scope === 'unscoped') return { kind: 'unscoped' }
  const { project, domain: where, system } = scope
  if ([project, where, system].filter((one) => one !== undefined).length !== 1) {
    throw expected('one of project, domain and system in scope')
  }
  if (system !== undefined) {
    if (system.all !== true) throw expected('all in system')
    return { kind: 'system' }
  }
  if (project === undefined) return { kind: 'domain' }
  const { id, name } = project
  if (id !== undefined) return { kind: 'project', id }
  if (name === undefined) throw expected('id or name in project')
  if (project.domain === undefined) throw expected('domain in project')
  return isOurs(project.domain) ? { kind: 'project', name } : { kind: 'domain' }
}
