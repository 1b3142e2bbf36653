/** Puts the HTTP side together: routes, errors, request ids, logs. */
import { randomUUID } from 'node:crypto'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import fastify, { type FastifyBaseLogger, type FastifyError, type FastifyReply } from 'fastify'
import { addCache } from './api/admin/cache.ts'
import { addInfo } from './api/admin/info.ts'
import { addStores } from './api/admin/stores.ts'
import { addTasks } from './api/admin/tasks.ts'
import { authenticate } from './api/authenticate.ts'
import { answerOfCatalog } from './api/catalog-errors.ts'
import { addExport } from './api/data/export.ts'
import { addImageData } from './api/data/image-data.ts'
import { addImport } from './api/data/import.ts'
import { letContinue, markWaiting } from './api/data/linger.ts'
import { notAnswering } from './api/data/receive.ts'
import { addTus } from './api/data/tus.ts'
import { guardAgainstBrowsers } from './api/guard.ts'
import { HttpError, renderError } from './api/http-error.ts'
import { addImages } from './api/images/images.ts'
import { addLocations } from './api/images/locations.ts'
import { addMembers } from './api/images/members.ts'
import { addKeystone } from './api/keystone/routes.ts'
import { limitRequests } from './api/limit-requests.ts'
import { addMetadefs } from './api/metadefs/routes.ts'
import { addOpenApi } from './api/openapi.ts'
import { type Routes, sendJson } from './api/routes.ts'
import { addVersions, versionsDocument, withoutMinorVersion } from './api/versions.ts'
import { CatalogError } from './catalog/catalog.ts'
import { IdentityUnavailable } from './identity/identity.ts'
import { LocalIdentity } from './identity/local.ts'
import { readAddresses } from './operate/addresses.ts'
import { addHealth, type Readiness } from './operate/health.ts'
import { Metrics } from './operate/metrics.ts'
import { observe } from './operate/observe.ts'
import type { Certificate } from './operate/tls.ts'
import type { Service } from './service.ts'
import { StoreError } from './store/store.ts'

/** Where bodies are read as they come, once everything else is in order. */
const streams = new Set(['/v2/images/:image_id/file', '/v2/images/:image_id/stage', '/v2/images/:image_id/tus'])
/** What an application may have besides. */
export interface AppParts {
  /** Absent: plain HTTP. */
  certificate?: Certificate | undefined
  /** Where audit lines go; absent: into the log. */
  audit?: Pick<FastifyBaseLogger, 'info'> | undefined
  readiness?: Readiness
}

/** The application, ready to listen or to be asked directly. It closes nothing of `service`. */
export function createApp(service: Service, logger: FastifyBaseLogger, parts: AppParts = {}): Routes {
  const trusted = readAddresses('trustedProxies', service.config.trustedProxies)
  const app: Routes = fastify({
    ...(parts.certificate === undefined ? {} : { https: parts.certificate as never }),
    trustProxy: trusted.length > 0 && trusted,
    loggerInstance: logger,
    // One line for each request is enough: see observe below.
    logController: new fastify.LogController({ disableRequestLogging: true }),
    genReqId: () => `req-${randomUUID()}`,
    rewriteUrl: ({ url }) => withoutMinorVersion(url ?? '/'),
    exposeHeadRoutes: false,
    forceCloseConnections: 'idle',
    // Uploads may take hours; they have their own clock.
    requestTimeout: 0,
    // Tags are parts of paths, 255 characters of four bytes, percent-encoded.
    routerOptions: { maxParamLength: 255 * 12 },
    frameworkErrors: (error, request, reply) => {
      const answer: FastifyReply = reply as never
      const { type, body } = renderError(toHttpError(error), request.headers.accept)
      answer
        .code(error.statusCode ?? 400)
        .header('content-type', type)
        .send(Buffer.from(body))
    },
  }).withTypeProvider<TypeBoxTypeProvider>()

  // Bodies are read as they are, whatever they are called; each route knows what it takes.
  app.removeAllContentTypeParsers()
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
  const metrics = new Metrics(service.uploads)
  observe(app, metrics, parts.audit)
  app.addHook('onRequest', async (request, reply) => {
    reply.header('x-openstack-request-id', request.id)
  })
  app.addHook('onRequest', guardAgainstBrowsers(service.config))
  app.decorateRequest('caller')
  const identify = authenticate(service)
  const { requestLimits } = service
  app.addHook('onRequest', requestLimits === undefined ? identify : limitRequests(requestLimits, metrics, identify))
  app.addHook('onRequest', async (request) => {
    // A part of the path that is empty names nothing.
    if (Object.values(request.params ?? {}).includes('')) throw new HttpError(404)
  })
  app.addHook('preParsing', async (request, reply) => {
    if (streams.has(request.routeOptions.url ?? '')) return
    letContinue(request, reply)
    // Image data has a clock of its own; what is short must come soon.
    const late = setTimeout(() => request.raw.destroy(), service.config.requestSeconds * 1000)
    request.raw.once('end', () => clearTimeout(late)).once('close', () => clearTimeout(late))
  })
  app.server.on('checkContinue', (message, answer) => {
    markWaiting(message)
    app.server.emit('request', message, answer)
  })

  app.setErrorHandler((error: FastifyError, request, reply) => {
    const shown = toHttpError(error)
    if (shown.status >= 500 && !(error instanceof HttpError)) request.log.error({ err: error }, 'request failed')
    const { type, body } = renderError(shown, request.headers.accept)
    // As bytes, because fastify adds a charset to JSON text, and Glance names none.
    return reply.code(shown.status).headers(shown.headers).header('content-type', type).send(Buffer.from(body))
  })
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split('?')[0] ?? ''
    if (path === '/v2' || path.startsWith('/v2/')) throw new HttpError(404)
    return sendJson(reply, versionsDocument(service, request), 300)
  })

  addOpenApi(app, service)
  addHealth(app, service, metrics, parts.readiness ?? { isStopping: false })
  addVersions(app, service)
  addInfo(app, service)
  addImages(app, service)
  addMembers(app, service)
  addImageData(app, service)
  addTus(app, service)
  addExport(app, service)
  addCache(app, service)
  addMetadefs(app, service)
  addStores(app, service)
  addImport(app, service)
  addTasks(app, service)
  addLocations(app, service)
  if (service.identity instanceof LocalIdentity) addKeystone(app, service, service.identity)
  return app
}

function toHttpError(error: unknown): HttpError {
  if (error instanceof HttpError) return error
  if (error instanceof IdentityUnavailable) return new HttpError(503)
  if (error instanceof StoreError && error.kind === 'stalled') return notAnswering(error)
  if (error instanceof CatalogError) return answerOfCatalog(error)
  const { statusCode, message } = error as Partial<FastifyError>
  return statusCode !== undefined && statusCode < 500 ? new HttpError(statusCode, message) : new HttpError(500)
}
