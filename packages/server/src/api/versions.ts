/** The list of API versions: what clients ask first. */
import type { FastifyRequest } from 'fastify'
import type { Service } from '../service.ts'
import { baseUrl, type Routes, refuseBody, sendJson } from './routes.ts'

/** The newest version whose resources are all there, and those before it. The number tells features and is never sent by clients. */
const current = 'v2.5'
const supported = ['v2.4', 'v2.3', 'v2.2', 'v2.1', 'v2.0']

/** The document with all versions. */
export function versionsDocument(service: Service, request: FastifyRequest): object {
  const links = [{ rel: 'self', href: `${baseUrl(service, request)}/v2/` }]
  return {
    versions: [
      { id: current, status: 'CURRENT', links },
      ...supported.map((id) => ({ id, status: 'SUPPORTED', links })),
    ],
  }
}

/** A path that begins with a version may name the minor one too: `/v2.3/images` is `/v2/images`. */
export function withoutMinorVersion(url: string): string {
  const [, minor, rest] = /^\/(v2\.\d+)((?:[/?].*)?)$/s.exec(url) ?? []
  return minor === undefined || ![current, ...supported].includes(minor) ? url : `/v2${rest}`
}

export function addVersions(routes: Routes, service: Service): void {
  routes.get('/', (request, reply) => sendJson(reply, versionsDocument(service, request), 300))
  routes.get('/versions', { onRequest: refuseBody }, (request, reply) =>
    sendJson(reply, versionsDocument(service, request)),
  )
  routes.get('/healthcheck', (_request, reply) => reply.type('text/plain; charset=UTF-8').send('OK'))
}
