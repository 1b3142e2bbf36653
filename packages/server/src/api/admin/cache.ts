/** The cache of image data, for operators: what is in it, what is to come, and away with it. */
import type { Service } from '../../service.ts'
import { HttpError } from '../http-error.ts'
import { enforce, enforceOn, findImage } from '../images/access.ts'
import { baseUrl, imageParams, type Routes, refuseBody, refuseOtherMethods, sendJson } from '../routes.ts'

const url = '/v2/cache'
const one = `${url}/:image_id`

export function addCache(routes: Routes, service: Service): void {
  const { imageCache: cache } = service
  const params = { schema: { params: imageParams }, onRequest: refuseBody }
  const mustBeOn = () => {
    if (!cache.isOn) throw new HttpError(404, 'Caching via API is not supported at this site.')
  }
  const notFound = (id: string) => new HttpError(404, `Image ${id} not found.`)

  routes.get(url, { onRequest: refuseBody }, async (request, reply) => {
    enforce(service, 'cache_list', request.caller)
    mustBeOn()
    const cached = await cache.list()
    return sendJson(reply, {
      cached_images: cached.map(({ imageId, size, hits, lastAccessed, lastModified }) => ({
        image_id: imageId,
        hits,
        last_accessed: lastAccessed,
        last_modified: lastModified,
        size,
      })),
      queued_images: await cache.queued(),
    })
  })

  routes.delete(url, { onRequest: refuseBody }, async (request, reply) => {
    enforce(service, 'cache_delete', request.caller)
    mustBeOn()
    const target = String(request.headers['x-image-cache-clear-target'] ?? '').toLowerCase()
    if (!['', 'cache', 'queue'].includes(target)) {
      throw new HttpError(400, "If provided 'x-image-cache-clear-target' must be 'cache', 'queue' or empty string.")
    }
    if (target !== 'queue') await cache.clear()
    if (target !== 'cache') await cache.clearQueue()
    return reply.code(204).send()
  })
  refuseOtherMethods(routes, url, 'GET, DELETE')

  // Glance lists the addresses of its processes; a cache here is that of a machine, and what serves from it is reached under one.
  // Source: glance-specs 2025.1, "New API to list nodes where Image is cached".
  const nodes = `${url}/nodes/:image_id`
  routes.get(nodes, params, async (request, reply) => {
    enforce(service, 'list_cached_nodes', request.caller)
    if (!cache.isOn) throw new HttpError(409, 'Caching via API is not supported at this site.')
    const { image } = await findImage(service, request.caller, request.params.image_id, notFound)
    return sendJson(reply, { cached_nodes: (await cache.has(image)) ? [baseUrl(service, request)] : [] })
  })
  refuseOtherMethods(routes, nodes, 'GET')

  // Some send an empty document here, some nothing.
  routes.post(`${url}/clean`, async (request, reply) => {
    enforce(service, 'cache_clean', request.caller)
    mustBeOn()
    await cache.clean()
    return reply.code(200).send()
  })
  refuseOtherMethods(routes, `${url}/clean`, 'POST')

  routes.post(`${url}/prune`, async (request, reply) => {
    enforce(service, 'cache_prune', request.caller)
    mustBeOn()
    const { files, bytes } = await cache.prune()
    return sendJson(reply, { total_files_pruned: files, total_bytes_pruned: bytes })
  })
  refuseOtherMethods(routes, `${url}/prune`, 'POST')

  routes.put(one, params, async (request, reply) => {
    const sight = await findImage(service, request.caller, request.params.image_id, notFound)
    enforceOn(service, 'cache_image', sight)
    mustBeOn()
    if (sight.image.status !== 'active') {
      throw new HttpError(400, 'Only images with status active can be targeted for queueing')
    }
    await cache.queue(sight.image.id)
    return reply.code(202).send()
  })

  routes.delete(one, params, async (request, reply) => {
    const id = request.params.image_id
    const isSeen = await findImage(service, request.caller, id, notFound).then(
      (sight) => {
        enforceOn(service, 'cache_delete', sight)
        return true
      },
      (error: unknown) => {
        // Copies of images that are gone are an operator's business.
        const isGone = error instanceof HttpError && service.policy.allows('cache_delete', request.caller)
        if (!isGone) throw error
        return false
      },
    )
    mustBeOn()
    const wasThere = /^[0-9a-f-]{36}$/.test(id) && (await cache.remove(id))
    if (!wasThere && !isSeen) throw notFound(id)
    return reply.code(204).send()
  })
  refuseOtherMethods(routes, one, 'DELETE, PUT')
}
