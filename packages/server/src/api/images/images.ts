/** Images: create, list, show, update, delete; tags; deactivate and reactivate. */
import type { Image, ImageStatus, Location, NewImage } from '../../catalog/image.ts'
import type { Caller } from '../../identity/caller.ts'
import { explainFailure } from '../../import/explain.ts'
import { importMethods } from '../../import/methods.ts'
import type { Action } from '../../policy/rules.ts'
import type { Service } from '../../service.ts'
import { cancelTasks } from '../admin/tasks.ts'
import { dropUpload } from '../data/tus-parts.ts'
import { HttpError } from '../http-error.ts'
import {
  baseUrl,
  imageParams,
  mediaType,
  type Routes,
  readBody,
  refuseBody,
  refuseOtherMethods,
  sendJson,
  tagParams,
  unsupportedType,
} from '../routes.ts'
import { enforce, enforceOn, findImage, forbidden, isListed, noImage, ofNewImage, type Sight } from './access.ts'
import { checkQuotas } from './attributes.ts'
import { checkBootImages, touchesBoot } from './boot-images.ts'
import { checkProtections, readNewImage } from './create.ts'
import { imageDocument } from './image-document.ts'
import { readListQuery } from './list-query.ts'
import { applyPatch, type Change, type Permits, patchTypes, readPatch } from './patch.ts'
import { type LocationChange, refuseNone, resolveLocationChange } from './patch-locations.ts'

export function addImages(routes: Routes, service: Service): void {
  const { catalog, config, stores } = service

  routes.post('/v2/images', async (request, reply) => {
    const { caller } = request
    const given = readNewImage(readBody(request.body), service)
    const owner = given.owner === undefined ? caller.projectId : given.owner
    checkNew(service, caller, { ...given, owner })
    checkProtections(service, caller, given)
    await checkBootImages(service, caller, given)
    const { image_count_total: imagesAtMost } = await service.quotas.limitsOf(owner)
    const image = await catalog.create({ ...given, owner }, imagesAtMost)
    const document = imageDocument(service, image, request.caller)
    const methods = importMethods(config)
    if (methods.length > 0) reply.header('openstack-image-import-methods', methods.join(','))
    if (stores.multiple) reply.header('openstack-image-store-ids', stores.all.map(({ id: store }) => store).join(','))
    return sendJson(reply.header('location', `${baseUrl(service, request)}${document.self}`), document, 201)
  })

  routes.get('/v2/images', { onRequest: refuseBody }, async (request, reply) => {
    const at = request.url.indexOf('?')
    const parameters = new URLSearchParams(at < 0 ? '' : request.url.slice(at + 1))
    enforce(service, 'get_images', request.caller)
    const { images, more } = await catalog.list(readListQuery(parameters, service, request.caller))
    const listed = images.filter((image) => isListed(service, request.caller, image))
    parameters.delete('marker')
    const link = () => (parameters.size === 0 ? '/v2/images' : `/v2/images?${parameters}`)
    const document: Record<string, unknown> = {
      images: listed.map((image) => imageDocument(service, image, request.caller)),
      first: link(),
      schema: '/v2/schemas/images',
    }
    const last = images.at(-1)
    if (more && last !== undefined) {
      parameters.append('marker', last.id)
      document.next = link()
    }
    return sendJson(reply, document)
  })
  refuseOtherMethods(routes, '/v2/images', 'GET, POST')

  const params = { schema: { params: imageParams } }
  routes.get('/v2/images/:image_id', { ...params, onRequest: refuseBody }, async (request, reply) =>
    sendJson(
      reply,
      imageDocument(service, (await findImage(service, request.caller, request.params.image_id)).image, request.caller),
    ),
  )

  routes.patch('/v2/images/:image_id', params, async (request, reply) => {
    const id = request.params.image_id
    const type = mediaType(request)
    const draft = patchTypes[type]
    if (draft === undefined) {
      throw unsupportedType(type, { 'Accept-Patch': Object.keys(patchTypes).join(', ') })
    }
    const changes = readPatch(readBody(request.body), draft, service)
    const sight = await findImage(service, request.caller, id)
    checkChanges(service, sight, changes)
    const resolved = await resolveLocations(service, sight, changes)
    const permits: Permits = (operation, name) => service.protections.allows(operation, name, request.caller)
    if (touchesBoot(changes)) {
      await checkBootImages(service, request.caller, applyPatch(sight.image, resolved, permits), sight.image)
    }
    let gone: readonly Location[] = []
    const image = await catalog.update(id, (before) => {
      if (changes.length === 0) return undefined
      const after = applyPatch(before, resolved, permits)
      if (after.diskFormat !== before.diskFormat || after.containerFormat !== before.containerFormat) {
        service.schemas.checkAgreement(after)
      }
      checkQuotas(after, config)
      gone = before.locations.filter(({ key }) => !after.locations.some((location) => location.key === key))
      return after
    })
    if (image === undefined) throw noImage(id)
    await service.stores.remove(gone, ({ store, key }, error) =>
      request.log.error({ err: error, image: id, store, key }, 'image data cannot be removed'),
    )
    return sendJson(reply, imageDocument(service, image, request.caller))
  })

  routes.delete('/v2/images/:image_id', { ...params, onRequest: refuseBody }, async (request, reply) => {
    const id = request.params.image_id
    const missing = () => new HttpError(404, `Failed to find image ${id} to delete`)
    enforceOn(service, 'delete_image', await findImage(service, request.caller, id, missing))
    const upload = await catalog.resumables.get(id)
    const image = await catalog.remove(id, ({ protected: isProtected }) => {
      if (isProtected) throw new HttpError(403, `Image ${id} is protected and cannot be deleted.`)
    })
    if (image === undefined) throw missing()
    // From here on the image is gone; data that cannot be removed now is swept away at the next start.
    await cancelTasks(service, id)
    const kept = await catalog.work.closeForgotten()
    await service.stores.remove([...image.locations, ...kept], ({ store, key }, error) =>
      request.log.error({ err: error, image: id, store, key }, 'image data cannot be removed'),
    )
    if (upload !== undefined) await dropUpload(service, upload)
    await service.exports.removeAll(id)
    await service.imageCache.remove(id)
    return reply.code(204).send()
  })
  refuseOtherMethods(routes, '/v2/images/:image_id', 'GET, PATCH, DELETE')

  addTags(routes, service)
  addActions(routes, service)
}

/** @throws HttpError 403 for an image in another project's name, or for everybody when the caller may not say so. */
function checkNew(service: Service, caller: Caller, image: NewImage & { owner: string | null }): void {
  const { policy } = service
  const target = ofNewImage(image)
  if (!policy.allows('add_image', caller, target)) {
    if (image.owner === caller.projectId) throw forbidden('add_image')
    throw new HttpError(403, undefined, { detail: `You are not permitted to create images owned by '${image.owner}'` })
  }
  const action = visibilityAction(image.visibility)
  if (action !== undefined) enforce(service, action, caller, target)
}

/** @throws HttpError 403 for a change that is not the caller's to make. */
function checkChanges(service: Service, sight: Sight, changes: readonly Change[]): void {
  for (const { operation, name, value } of changes) {
    if (operation === 'remove') continue
    if (name === 'locations') refuseNone(value as LocationChange)
    const action = name === 'visibility' ? visibilityAction(value) : undefined
    if (action !== undefined) enforceOn(service, action, sight)
    if (name === 'owner' && !service.policy.isAdmin(sight.caller)) {
      throw new HttpError(403, undefined, { detail: "Owner can't be updated by non admin." })
    }
  }
  // Locations have rules of their own.
  if (changes.length === 0 || changes.some(({ name }) => name !== 'locations'))
    enforceOn(service, 'modify_image', sight)
}

/** Asks the stores about locations in a patch. @throws HttpError 400 or 403. */
async function resolveLocations(service: Service, sight: Sight, changes: readonly Change[]): Promise<Change[]> {
  const resolved: Change[] = []
  for (const change of changes) {
    if (change.name !== 'locations') {
      resolved.push(change)
      continue
    }
    enforceOn(service, change.operation === 'remove' ? 'delete_image_location' : 'set_image_location', sight)
    try {
      const value = await resolveLocationChange(service, sight.image, change.value as LocationChange)
      resolved.push({ ...change, value })
    } catch (error) {
      if (error instanceof HttpError) throw error
      throw new HttpError(400, `Invalid location: ${explainFailure(error)}`)
    }
  }
  return resolved
}

function visibilityAction(visibility: unknown): Action | undefined {
  if (visibility === 'public') return 'publicize_image'
  return visibility === 'community' ? 'communitize_image' : undefined
}

function addTags(routes: Routes, service: Service): void {
  const { catalog, config } = service
  const options = { schema: { params: tagParams }, onRequest: refuseBody }
  const url = '/v2/images/:image_id/tags/:tag_value'
  const notFound = (id: string) => new HttpError(404, `Image ${id} not found.`)

  routes.put(url, options, async (request, reply) => {
    const { image_id: id, tag_value: tag } = request.params
    service.schemas.check({ tags: [tag] })
    enforceOn(service, 'modify_image', await findImage(service, request.caller, id, notFound))
    const image = await catalog.update(id, (before) => {
      if (before.tags.includes(tag)) return undefined
      const after: Image = { ...before, tags: [...before.tags, tag] }
      checkQuotas(after, config)
      return after
    })
    if (image === undefined) throw notFound(id)
    return reply.code(204).send()
  })

  routes.delete(url, options, async (request, reply) => {
    const { image_id: id, tag_value: tag } = request.params
    enforceOn(service, 'modify_image', await findImage(service, request.caller, id, notFound))
    const image = await catalog.update(id, (before) => {
      if (!before.tags.includes(tag)) throw new HttpError(404)
      return { ...before, tags: before.tags.filter((other) => other !== tag) }
    })
    if (image === undefined) throw notFound(id)
    return reply.code(204).send()
  })
  refuseOtherMethods(routes, url, 'PUT, DELETE')
}

function addActions(routes: Routes, service: Service): void {
  const { catalog } = service
  const action = (verb: 'deactivate' | 'reactivate', from: ImageStatus, to: ImageStatus) => {
    const url = `/v2/images/:image_id/actions/${verb}`
    routes.post(url, { schema: { params: imageParams }, onRequest: refuseBody }, async (request, reply) => {
      const id = request.params.image_id
      enforceOn(service, verb, await findImage(service, request.caller, id))
      const image = await catalog.update(id, (before) => {
        if (before.status === to) return undefined
        if (before.status === from) return { ...before, status: to }
        throw new HttpError(403, `Not allowed to ${verb} image in status '${before.status}'`)
      })
      if (image === undefined) throw noImage(id)
      return reply.code(204).send()
    })
    refuseOtherMethods(routes, url, 'POST')
  }
  action('deactivate', 'active', 'deactivated')
  action('reactivate', 'deactivated', 'active')
}
