/** Where image data lies: adding data by its address, and telling services where it is. */
import { randomUUID } from 'node:crypto'
import { Type } from '@fastify/type-provider-typebox'
import { Compile } from 'typebox/compile'
import { type Image, type Location, readableLocations } from '../../catalog/image.ts'
import type { JsonObject } from '../../catalog/json.ts'
import { locationInput } from '../../import/location.ts'
import { locked } from '../../import/lock.ts'
import type { Service } from '../../service.ts'
import { StoreError } from '../../store/store.ts'
import { staleLock, withoutLock } from '../data/import-lock.ts'
import { HttpError } from '../http-error.ts'
import { imageParams, type Routes, readBody, refuseBody, refuseOtherMethods, sendJson } from '../routes.ts'
import { enforceOn, findImage, noImage } from './access.ts'
import { checkMatch } from './match.ts'

const url = '/v2/images/:image_id/locations'

/** What is posted. */
export const locationBody = Type.Object(
  {
    url: Type.String({ maxLength: 4096 }),
    validation_data: Type.Optional(
      Type.Object(
        {
          checksum: Type.Optional(Type.String({ pattern: '^[0-9a-fA-F]{32}$' })),
          os_hash_algo: Type.Literal('sha512'),
          os_hash_value: Type.String({ pattern: '^[0-9a-fA-F]{128}$' }),
        },
        { additionalProperties: false },
      ),
    ),
  },
  { additionalProperties: false },
)

const added = Compile(locationBody)

export function addLocations(routes: Routes, service: Service): void {
  const { catalog, tasks } = service
  const params = { schema: { params: imageParams } }

  routes.post(url, params, async (request, reply) => {
    const id = request.params.image_id
    const sight = await findImage(service, request.caller, id)
    enforceOn(service, 'add_image_location', sight)
    const body = readBody(request.body)
    checkMatch(added, 'location', body)
    const { url: address, validation_data: said } = body as {
      url: string
      validation_data?: { checksum?: string; os_hash_value: string }
    }
    checkQueued(sight.image)
    const stale = await staleLock(service, sight.image)
    const location = await findLocation(service, address, {})
    const taskId = randomUUID()
    const { projectId: owner, userId } = request.caller
    const expected = {
      ...(said?.checksum === undefined ? {} : { checksum: said.checksum.toLowerCase() }),
      ...(said === undefined ? {} : { hashValue: said.os_hash_value.toLowerCase() }),
    }
    const starts = {
      ...{ id: taskId, type: 'location_import' as const, owner: owner ?? sight.image.owner, imageId: id, userId },
      ...{ requestId: request.id, input: locationInput(id, address, expected) },
    }
    const change = (before: Image) => {
      checkQueued(before)
      return locked({ ...withoutLock(before, stale), status: 'importing' as const, locations: [location] }, taskId)
    }
    if ((await catalog.update(id, change, { starts })) === undefined) throw noImage(id)
    tasks.kick()
    return reply.code(202).send()
  })

  routes.get(url, { ...params, onRequest: refuseBody }, async (request, reply) => {
    const sight = await findImage(service, request.caller, request.params.image_id)
    enforceOn(service, 'fetch_image_location', sight)
    return sendJson(reply, shownLocations(service, sight.image))
  })
  refuseOtherMethods(routes, url, 'GET, POST')
}

function checkQueued({ status, diskFormat, containerFormat }: Image): void {
  if (status !== 'queued') throw new HttpError(409, `It's not allowed to add locations if image status is ${status}.`)
  if (diskFormat !== null && containerFormat !== null) return
  throw new HttpError(409, "'disk_format' and 'container_format' need to be set before a location is added")
}

/** The location that an address means. @throws HttpError 400 when no store has anything there. */
export async function findLocation({ stores }: Service, address: string, metadata: JsonObject): Promise<Location> {
  for (const { id, data } of stores.all) {
    try {
      const key = await data.keyOf(address)
      if (key !== undefined) return { store: id, key, status: 'active', metadata }
    } catch (error) {
      if (!(error instanceof StoreError) || error.kind !== 'refused')
        throw new HttpError(400, `Invalid location: ${address}`)
      throw new HttpError(400, `URI for add location does not pass filtering: ${address} (${error.message})`)
    }
  }
  throw new HttpError(400, `Invalid location: ${address}`)
}

/** The copies of an image, those first that are read first. */
export function shownLocations(
  { stores }: Pick<Service, 'stores'>,
  image: Image,
): { url: string; metadata: JsonObject }[] {
  return stores.inOrder(readableLocations(image)).flatMap(({ store, key, metadata }) => {
    const kept = stores.get(store)?.data.urlOf(key)
    return kept === undefined ? [] : [{ url: kept, metadata: stores.multiple ? { ...metadata, store } : metadata }]
  })
}
