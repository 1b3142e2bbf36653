/** Accounts of the service over HTTP, in the form of Keystone's Identity API v3, so that stock clients log in and administrators use `openstack`. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import { TypeBoxValidatorCompiler } from '@fastify/type-provider-typebox'
import type { FastifyError } from 'fastify'
import { CatalogError } from '../../catalog/catalog.ts'
import { IdentityUnavailable } from '../../identity/identity.ts'
import { callerOf, type LocalIdentity } from '../../identity/local.ts'
import type { Service } from '../../service.ts'
import { answerOfCatalog } from '../catalog-errors.ts'
import { HttpError } from '../http-error.ts'
import { baseUrl, type Routes, sendJson } from '../routes.ts'
import { addAuth, addLogin } from './auth.ts'
import { addCatalog } from './catalog.ts'
import { addCredentials } from './credentials.ts'
import { addProjects } from './projects.ts'
import { addRoles } from './roles.ts'
import { sendError, unauthorized } from './shared.ts'
import { addUsers } from './users.ts'

/** Bytes of a request's body; Keystone's own bound. */
const longestBody = 114_688

export function addKeystone(app: Routes, service: Service, identity: LocalIdentity): void {
  app.decorateRequest('session')
  app.register(
    async (scope) => {
      const routes: Routes = scope.withTypeProvider<TypeBoxTypeProvider>()
      routes.setValidatorCompiler(TypeBoxValidatorCompiler)
      routes.removeAllContentTypeParsers()
      routes.addContentTypeParser('*', { parseAs: 'buffer', bodyLimit: longestBody }, (_request, body, done) => {
        try {
          done(null, parseBody(body as Buffer))
        } catch (error) {
          done(error as Error)
        }
      })
      routes.addHook('onRequest', async (_request, reply) => {
        reply.header('Vary', 'X-Auth-Token')
      })
      routes.setErrorHandler((error: FastifyError, request, reply) => {
        const shown = toHttpError(error)
        if (shown.status >= 500) request.log.error({ err: error }, 'request failed')
        return sendError(reply, shown, baseUrl(service, request))
      })
      routes.setNotFoundHandler(() => {
        throw new HttpError(404, 'The requested URL was not found on the server.')
      })
      addVersions(routes, service)
      addLogin(routes, service, identity)
      routes.register(async (inner) => {
        const closed: Routes = inner.withTypeProvider<TypeBoxTypeProvider>()
        closed.addHook('onRequest', async (request) => {
          const token = request.headers['x-auth-token']
          const session = await identity.session(typeof token === 'string' ? token : undefined)
          if (session === undefined) throw unauthorized()
          request.session = session
          request.caller = callerOf(session)
        })
        addAuth(closed, service, identity)
        addUsers(closed, service, identity)
        addProjects(closed, service, identity)
        addRoles(closed, service, identity)
        addCredentials(closed, service, identity)
        addCatalog(closed, service)
      })
    },
    { prefix: '/identity' },
  )
}

function addVersions(routes: Routes, service: Service): void {
  const version = (base: string) => ({
    id: 'v3.14',
    status: 'stable',
    updated: '2020-04-07T00:00:00Z',
    links: [{ rel: 'self', href: `${base}/identity/v3/` }],
    'media-types': [{ base: 'application/json', type: 'application/vnd.openstack.identity-v3+json' }],
  })
  // With and without a slash at the end.
  routes.get('/', (request, reply) => {
    const base = baseUrl(service, request)
    reply.header('Location', `${base}/identity/v3/`)
    return sendJson(reply, { versions: { values: [version(base)] } }, 300)
  })
  for (const url of ['/v3', '/v3/']) {
    routes.get(url, (request, reply) => sendJson(reply, { version: version(baseUrl(service, request)) }))
  }
}

/** @throws HttpError 400 */
function parseBody(body: Buffer): unknown {
  if (body.length === 0) return undefined
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
  } catch {
    throw new HttpError(400, 'Expecting to find valid JSON in request body.')
  }
}

function toHttpError(error: unknown): HttpError {
  if (error instanceof HttpError) return error
  if (error instanceof CatalogError) return answerOfCatalog(error)
  if (error instanceof IdentityUnavailable) return new HttpError(503, error.message)
  const { statusCode, message } = error as Partial<FastifyError>
  return statusCode !== undefined && statusCode < 500
    ? new HttpError(statusCode, message)
    : new HttpError(500, 'An unexpected error prevented the server from fulfilling your request.')
}
