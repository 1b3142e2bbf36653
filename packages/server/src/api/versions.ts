/** The list of API versions: what clients ask first. */
import type { FastifyRequest } from 'fastify'
import type { Service } from '../service.ts'
import { baseUrl, type Routes, sendJson } from './routes.ts'

/** The versions whose features are there, the newest first. A number tells of features and is never sent by clients, so there may be gaps, as in Glance's own
 *  list: what is left out are members (2.1), tasks and metadata definitions (2.2), and import (2.6). Facts: Glance's API reference and release notes. */
const versions = [
  // Hidden images, hashes of any kind.
  'v2.7',
  // Visibilities `community` and `shared`.
  'v2.5',
  // The end of version 1.
  'v2.4',
  // Deactivation.
  'v2.3',
  // Images, their data, tags, schemas.
  'v2.0',
]

/** Paths may begin with any minor version up to the current one, whatever it brought: those who say 2.1 mean images. */
const newestMinor = 7

/** The document with all versions. */
export function versionsDocument(service: Service, request: FastifyRequest): object {
  const links = [{ rel: 'self', href: `${baseUrl(service, request)}/v2/` }]
  return {
    versions: versions.map((id, index) => ({ id, status: index === 0 ? 'CURRENT' : 'SUPPORTED', links })),
  }
}

/** A path that begins with a version may name the minor one too: `/v2.3/images` is `/v2/images`. */
export function withoutMinorVersion(url: string): string {
  const [, minor, rest] = /^\/v2\.(\d+)((?:[/?].*)?)$/s.exec(url) ?? []
  return minor === undefined || Number(minor) > newestMinor ? url : `/v2${rest}`
}

export function addVersions(routes: Routes, service: Service): void {
  routes.get('/', (request, reply) => sendJson(reply, versionsDocument(service, request), 300))
  for (const url of ['/versions', '/versions/']) {
    routes.route({
      method: ['GET', 'HEAD'],
      url,
      handler: (request, reply) => sendJson(reply, versionsDocument(service, request)),
    })
  }
  routes.all('/v2', (request, reply) => reply.redirect(`${baseUrl(service, request)}/v2/`, 302))
  routes.get('/healthcheck', (_request, reply) => reply.type('text/plain; charset=UTF-8').send('OK'))
}
