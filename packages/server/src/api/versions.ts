/** The list of API versions: what clients ask first. */
import type { FastifyRequest } from 'fastify'
import type { Service } from '../service.ts'
import { baseUrl, type Routes, sendJson } from './routes.ts'

/** What a version is listed for. */
type When = 'always' | 'several-stores' | 'cache'

/** The versions whose features are there, the newest first. A number tells of features and is never sent by clients, so there may be gaps, as in Glance's own
 *  list. Facts: Glance's API reference and release notes. */
const versions: readonly [id: string, when: When][] = [
  // Cleaning and pruning of the cache.
  ['v2.18', 'cache'],
  // Locations.
  ['v2.17', 'always'],
  // The cache of image data; the `glance` client asks for it only where 2.14 is listed.
  ['v2.16', 'cache'],
  // What a project uses.
  ['v2.15', 'always'],
  ['v2.14', 'cache'],
  // Up to here: tasks of an image, copies from store to store, deletion from one store.
  ['v2.13', 'several-stores'],
  ['v2.12', 'several-stores'],
  ['v2.11', 'several-stores'],
  ['v2.10', 'several-stores'],
  // Stores, no longer an experiment; Glance lists it where there is one only, too.
  ['v2.9', 'always'],
  ['v2.8', 'several-stores'],
  // Hidden images, hashes of any kind.
  ['v2.7', 'always'],
  // Staging and import.
  ['v2.6', 'always'],
  // Visibilities `community` and `shared`.
  ['v2.5', 'always'],
  // The end of version 1.
  ['v2.4', 'always'],
  // Deactivation.
  ['v2.3', 'always'],
  // Tasks, metadata definitions.
  ['v2.2', 'always'],
  // Members.
  ['v2.1', 'always'],
  // Images, their data, tags, schemas.
  ['v2.0', 'always'],
]

/** Paths may begin with any minor version up to this one, whatever it brought: those who say 2.1 mean images. */
const newestMinor = 18

/** The document with all versions. */
export function versionsDocument(service: Service, request: FastifyRequest): object {
  const links = [{ rel: 'self', href: `${baseUrl(service, request)}/v2/` }]
  const has: Record<When, boolean> = {
    always: true,
    'several-stores': service.stores.multiple,
    cache: service.config.imageCacheSize > 0,
  }
  const listed = versions.filter(([, when]) => has[when])
  return {
    versions: listed.map(([id], index) => ({ id, status: index === 0 ? 'CURRENT' : 'SUPPORTED', links })),
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
