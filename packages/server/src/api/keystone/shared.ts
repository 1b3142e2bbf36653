/** What the routes of accounts share: who asks, what they may, and how lists and errors look. */
import { STATUS_CODES } from 'node:http'
import { Type } from '@fastify/type-provider-typebox'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Session } from '../../catalog/logins.ts'
import { domain, LoginRefused } from '../../identity/local.ts'
import type { Service } from '../../service.ts'
import { HttpError } from '../http-error.ts'
import { baseUrl, type Routes, sendJson } from '../routes.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** What the token stands for that the request brings. Only there for paths below `/identity/v3`, but for those that need no token. */
    session: Session
  }
}

export const idParams = { params: Type.Object({ id: Type.String() }) }

/** As Keystone: 1 to 255 characters, not only blanks. And no zero bytes, which some databases cannot keep. */
export const nameType = (most = 255) =>
  Type.String({ minLength: 1, maxLength: most, pattern: '^[^\\u0000]*[^\\s\\u0000][^\\u0000]*$' })
export const textType = Type.Union([Type.String({ maxLength: 65_535 }), Type.Null()])

/** The two attributes that many things have, and that can only have one value here. */
export const commonFacts = {
  domain_id: Type.Optional(Type.String()),
  options: Type.Optional(Type.Object({}, { additionalProperties: false })),
}

/** Keystone's sentence for a wrong password, an unknown user and anything else that it does not explain. */
export function unauthorized(): HttpError {
  return new HttpError(401, 'The request you have made requires authentication.')
}

export function notFound(what: string, id: string): HttpError {
  return new HttpError(404, `Could not find ${what}: ${id}.`)
}

/** A sentence of Keystone's. @param what As in `password in identity`. */
export function expected(what: string): HttpError {
  const rest =
    'The server could not comply with the request since it is either malformed or otherwise incorrect. The client is assumed to be in error.'
  return new HttpError(400, `Expecting to find ${what}. ${rest}`)
}

const has = (session: Session, role: string) => session.roles.some(({ name }) => name.toLowerCase() === role)

/** Users, projects and roles are changed by administrators, of any project or of the system, as in Keystone. */
export const mayManage = (session: Session): boolean => has(session, 'admin')

/** They are seen by those, and by readers of the whole system. */
export const mayLook = (session: Session): boolean =>
  mayManage(session) || (session.token.system && has(session, 'reader'))

/** Tokens of others are seen by services, too. */
export const mayValidate = (session: Session): boolean => mayLook(session) || has(session, 'service')

/** @param action As Keystone names it, as in `list_users`. @throws HttpError 403 */
export function allow(isAllowed: boolean, action: string): void {
  if (isAllowed) return
  throw new HttpError(403, `You are not authorized to perform the requested action: identity:${action}.`)
}

/** There is one domain. @throws HttpError 404 */
export function checkDomain(id: string | undefined): void {
  if (id !== undefined && id !== domain.id) throw notFound('domain', id)
}

/** The URL of version 3 under which the client came. */
export function identityUrl(service: Service, request: FastifyRequest): string {
  return `${baseUrl(service, request)}/identity/v3`
}

/** Sends a list in the form that all of Keystone's lists have. @param document What is said of each, by default the thing itself; `url` is that of version 3. */
export function sendList<Thing extends object>(
  reply: FastifyReply,
  service: Service,
  request: FastifyRequest,
  name: string,
  things: readonly Thing[],
  document: (thing: Thing, url: string) => object = (thing) => thing,
): FastifyReply {
  const url = identityUrl(service, request)
  const self = `${baseUrl(service, request)}${request.url}`
  const documents = things.map((thing) => document(thing, url))
  return sendJson(reply, { [name]: documents, links: { next: null, self, previous: null } })
}

/** A parameter of a list that is true or false; there without a value counts as true, as in Keystone. */
export function flagOf(parameters: URLSearchParams, name: string): boolean | undefined {
  const value = parameters.get(name)
  return value === null ? undefined : !/^(0|false|no|off)$/i.test(value)
}

/** An error in Keystone's form. */
export function sendError(reply: FastifyReply, error: HttpError, base: string): FastifyReply {
  const { status, message, headers } = error
  if (status === 401) reply.header('WWW-Authenticate', `Keystone uri="${base}/identity/v3"`)
  return sendJson(reply.headers(headers), { error: { code: status, message, title: STATUS_CODES[status] } }, status)
}

/** What a refused login looks like from outside. */
export function refusal(error: LoginRefused, lockSeconds: number): HttpError {
  switch (error.reason) {
    case 'unknown':
      return unauthorized()
    case 'delegated':
      return new HttpError(
        403,
        'You are not authorized to perform the requested action: Using a delegated token to create another token is not allowed.',
      )
    case 'too-many':
      return new HttpError(429, 'Too many logins from this address were refused.', {
        headers: { 'Retry-After': String(lockSeconds) },
      })
  }
}

/** Runs what may be refused, with a line in the log when it is. */
export async function login<Result>(
  request: FastifyRequest,
  service: Service,
  work: () => Promise<Result>,
): Promise<Result> {
  try {
    return await work()
  } catch (error) {
    if (!(error instanceof LoginRefused)) throw error
    request.log.warn({ ip: request.ip, reason: error.detail }, 'login refused')
    throw refusal(error, service.config.loginLockSeconds)
  }
}

/** Users, projects or roles, as far as all are shown and deleted the same way. */
export interface Things<Thing> {
  what: 'user' | 'project' | 'role'
  find(id: string): Promise<Thing | undefined>
  remove(id: string): Promise<boolean>
  document(thing: Thing, url: string): object
  /** Whether somebody who may not look around may look at this one. */
  isOwn?(session: Session, id: string): boolean
  /** May throw to refuse. */
  beforeRemoval?(id: string): void
}

/** The routes that show and delete one of them. */
export function addOne<Thing>(routes: Routes, service: Service, path: string, things: Things<Thing>): void {
  const { what, isOwn = () => false } = things

  routes.get(path, { schema: idParams }, async (request, reply) => {
    const { id } = request.params
    allow(mayLook(request.session) || isOwn(request.session, id), `get_${what}`)
    const thing = await things.find(id)
    if (thing === undefined) throw notFound(what, id)
    return sendJson(reply, { [what]: things.document(thing, identityUrl(service, request)) })
  })

  routes.delete(path, { schema: idParams }, async (request, reply) => {
    const { id } = request.params
    allow(mayManage(request.session), `delete_${what}`)
    things.beforeRemoval?.(id)
    if (!(await things.remove(id))) throw notFound(what, id)
    return reply.code(204).send()
  })
}
