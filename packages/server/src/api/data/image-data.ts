/** Image data: upload and download. */
import type { ByteSource } from '@moraine/engine'
import type { FastifyBaseLogger, FastifyReply, FastifyRequest } from 'fastify'
import { type Image, type Location, readableLocations } from '../../catalog/image.ts'
import { anybody } from '../../identity/caller.ts'
import { importMethods } from '../../import/methods.ts'
import type { Service } from '../../service.ts'
import { HttpError } from '../http-error.ts'
import { enforceOn, findImage, type Sight } from '../images/access.ts'
import { imageParams, mediaType, type Routes, refuseBody, refuseOtherMethods, unsupportedType } from '../routes.ts'
import { letContinue } from './linger.ts'
import { receive, refuseUpload } from './receive.ts'
import { serveContent } from './serve-content.ts'

const url = '/v2/images/:image_id/file'
const stageUrl = '/v2/images/:image_id/stage'
const binary = 'application/octet-stream'

export function addImageData(routes: Routes, service: Service): void {
  const params = { schema: { params: imageParams } }

  // Here the body stays a stream, whatever it is called.
  routes.register(async (data) => {
    data.removeAllContentTypeParsers()
    data.addContentTypeParser('*', (_request, _payload, done) => done(null, undefined))
    const uploads = data as unknown as Routes
    uploads.put(url, params, async (request, reply) => {
      await take(service, request.params.image_id, chosenStore(service, request), request, reply)
      return reply
    })
    uploads.put(stageUrl, params, async (request, reply) => {
      if (!importMethods(service.config).includes('glance-direct')) {
        throw new HttpError(404, "'glance-direct' method is not available at this site.")
      }
      await take(service, request.params.image_id, undefined, request, reply)
      return reply
    })
  })
  refuseOtherMethods(routes, stageUrl, 'PUT')

  routes.route({
    method: ['GET', 'HEAD'],
    url,
    ...params,
    onRequest: refuseBody,
    handler: async (request, reply) => {
      const sight = await findImage(service, request.caller, request.params.image_id)
      checkDownload(service, 'download_image', sight)
      return download(service, sight.image, preferred(service, sight, request), request, reply)
    },
  })
  // Glance has no HEAD here, and says so in `Allow`.
  refuseOtherMethods(routes, url, 'GET, PUT', ['HEAD'])
}

/** The store that an upload names. @throws HttpError 400. */
function chosenStore({ stores }: Service, request: FastifyRequest): string {
  const named = request.headers['x-image-meta-store']
  if (!stores.multiple || typeof named !== 'string') return stores.default.id
  if (stores.get(named) === undefined) throw new HttpError(400, `Store for identifier ${named} not found`)
  return named
}

/** Takes an upload, and answers. @param store Undefined to stage the data. */
async function take(
  service: Service,
  id: string,
  store: string | undefined,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<void> {
  const type = mediaType(request)
  try {
    const sight = await findImage(service, request.caller, id)
    enforceOn(service, store === undefined ? 'modify_image' : 'upload_image', sight)
    if (type !== binary) throw unsupportedType(type)
    const onReady = () => letContinue(request, reply)
    const receiving = { service, id, store, message: request.raw, log: request.log, onReady }
    await service.uploads.run(receive(receiving))
  } catch (error) {
    await refuseUpload(service, request, reply, error)
    return
  }
  reply.code(204).send()
}

async function download(
  service: Service,
  image: Image,
  prefer: readonly string[],
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  if (readableLocations(image).length === 0) return reply.code(204).send()
  const { imageCache } = service
  return serveContent(request, reply, {
    size: image.size ?? 0,
    idleSeconds: service.config.downloadIdleSeconds,
    tag: image.hashValue ?? image.checksum ?? undefined,
    headers: { 'content-type': binary, ...(image.checksum === null ? {} : { 'content-md5': image.checksum }) },
    open: async () => (await imageCache.open(image)) ?? (await openData(service, image, request.log, prefer)),
    copy: async () => {
      const writer = await imageCache.beginCopy(image)
      if (writer === undefined) return undefined
      // The image may have been deleted meanwhile; then there must be no copy.
      const isWanted = async () => (await service.catalog.get(image.id)) !== undefined
      return {
        write: (bytes) => writer.write(bytes),
        end: async (isWhole) => void (isWhole && (await isWanted()) ? await writer.commit() : await writer.abort()),
      }
    },
  })
}

/** The stores that a download would rather read from: `?prefer=A,B`. @throws HttpError 400, or 403 for who has no say in that. */
function preferred(service: Service, sight: Sight, request: FastifyRequest): string[] {
  const named = new URLSearchParams(request.url.split('?')[1] ?? '').get('prefer')
  if (named === null) return []
  enforceOn(service, 'download_from_store', sight)
  const { stores } = service
  if (!stores.multiple) throw new HttpError(400, 'prefer: there is only one store here.')
  const names = named.split(',').map((name) => name.trim())
  const unknown = names.find((name) => stores.get(name) === undefined)
  if (unknown !== undefined) throw new HttpError(400, `prefer: Store for identifier ${unknown} not found`)
  return names
}

/** Opens the data of an image. @throws Error when no copy of it can be read, which is nothing that the client could know. */
export function openData(
  { stores }: Service,
  image: Image,
  log: FastifyBaseLogger,
  prefer: readonly string[] = [],
): Promise<ByteSource> {
  const onTrouble = (location: Location, error: unknown) =>
    log.error({ err: error, image: image.id, store: location.store, key: location.key }, 'image data cannot be read')
  return stores.open(image, onTrouble, prefer)
}

/** @throws HttpError 403 for a deactivated image, but to an admin, and for who may look but not take. */
export function checkDownload(service: Service, action: 'download_image' | 'export_image', sight: Sight): void {
  const { image, caller } = sight
  enforceOn(service, action, sight)
  if (image.status !== 'deactivated' || (caller !== anybody && service.policy.isAdmin(caller))) return
  throw new HttpError(403, 'The requested image has been deactivated. Image data download is forbidden.')
}
