/** Several stores: which there are, and taking an image's data out of one of them. */
import { Type } from '@fastify/type-provider-typebox'
import { readableLocations } from '../../catalog/image.ts'
import type { Service } from '../../service.ts'
import { HttpError } from '../http-error.ts'
import { enforce, enforceOn, findImage } from '../images/access.ts'
import { type Routes, refuseBody, refuseOtherMethods, sendJson } from '../routes.ts'

const storeUrl = '/v2/stores/:store_id/:image_id'

export function addStores(routes: Routes, service: Service): void {
  const { stores, catalog } = service

  routes.get('/v2/info/stores', { onRequest: refuseBody }, (_request, reply) =>
    sendJson(reply, { stores: shownStores(service) }),
  )
  refuseOtherMethods(routes, '/v2/info/stores', 'GET')

  routes.get('/v2/info/stores/detail', { onRequest: refuseBody }, (request, reply) => {
    const shown = shownStores(service)
    enforce(service, 'stores_info_detail', request.caller)
    const details = stores.all.map(({ type, weight, data }) => ({ type, weight, properties: data.properties }))
    return sendJson(reply, { stores: shown.map((store, at) => ({ ...store, ...details[at] })) })
  })
  refuseOtherMethods(routes, '/v2/info/stores/detail', 'GET')

  const params = Type.Object({ store_id: Type.String(), image_id: Type.String() })
  routes.delete(storeUrl, { schema: { params }, onRequest: refuseBody }, async (request, reply) => {
    const { store_id: store, image_id: id } = request.params
    if (!stores.multiple) throw new HttpError(404)
    if (stores.get(store) === undefined) {
      throw new HttpError(409, `The selected store ${store} is not available on this node.`)
    }
    const missing = () => new HttpError(404, `Failed to find image ${id}`)
    const sight = await findImage(service, request.caller, id, missing)
    enforceOn(service, 'get_image_location', sight)
    enforceOn(service, 'delete_image_location', sight)
    let removed: { store: string; key: string }[] = []
    const image = await catalog.update(id, (before) => {
      if (before.status !== 'active') {
        throw new HttpError(409, "It's not allowed to remove image data from store if image status is not 'active'")
      }
      const copies = readableLocations(before)
      removed = copies.filter((copy) => copy.store === store).slice(0, 1)
      if (copies.length === 1) {
        throw new HttpError(
          403,
          'Cannot delete image data from the only store containing it. Consider deleting the image instead.',
        )
      }
      if (removed.length === 0) throw new HttpError(404, `Image ${id} is not stored in store ${store}.`)
      return { ...before, locations: before.locations.filter((location) => !removed.includes(location)) }
    })
    if (image === undefined) throw missing()
    await stores.remove(removed, ({ key }, error) =>
      request.log.error({ err: error, image: id, store, key }, 'image data cannot be removed'),
    )
    return reply.code(204).send()
  })
  refuseOtherMethods(routes, storeUrl, 'DELETE')
}

/** @throws HttpError 404 where there is only one store. */
function shownStores({ stores }: Service): Record<string, string>[] {
  if (!stores.multiple) throw new HttpError(404, 'Multi backend is not supported at this site.')
  // Flags are text, as in Glance.
  return stores.all.map(({ id, description, isDefault, readOnly }) => ({
    id,
    ...(description === '' ? {} : { description }),
    ...(isDefault ? { default: 'true' } : {}),
    ...(readOnly ? { 'read-only': 'true' } : {}),
  }))
}
