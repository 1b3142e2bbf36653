/** Uploads that go on where they were cut: the tus protocol 1.0.0 (core, creation, expiration, termination) beside Glance's PUT. One upload of an image has one address.
 *  Source: https://tus.io/protocols/resumable-upload */
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Image } from '../../catalog/image.ts'
import { nobodysWorker, type Resumable } from '../../catalog/resumables.ts'
import { newKey } from '../../import/new-key.ts'
import type { Service } from '../../service.ts'
import { HttpError } from '../http-error.ts'
import { enforceOn, findImage, noImage } from '../images/access.ts'
import { baseUrl, imageParams, mediaType, type Routes, refuseOtherMethods, unsupportedType } from '../routes.ts'
import { staleLock, withoutLock } from './import-lock.ts'
import { letContinue } from './linger.ts'
import { checkFormats, explain, refuseUpload, refuseWithoutRoom, tooLarge } from './receive.ts'
import { abandon, abandonExpired, appendPart, busy, expiryOf, takeEmpty } from './tus-parts.ts'

const url = '/v2/images/:image_id/tus'
const version = '1.0.0'
/** How often uploads are looked for that nobody goes on with. */
const clearMilliseconds = 10 * 60 * 1000
const partType = 'application/offset+octet-stream'

export function addTus(routes: Routes, service: Service): void {
  const { catalog, config, stores, worker } = service
  const clear = () =>
    void abandonExpired(service).catch((error) => routes.log.error({ err: error }, 'old uploads stay'))
  const timer = setInterval(clear, clearMilliseconds).unref()
  routes.addHook('onClose', async () => clearInterval(timer))
  const params = { schema: { params: imageParams } }

  routes.options(url, params, (_request, reply) =>
    describe(reply)
      .headers({
        'tus-version': version,
        'tus-extension': 'creation,expiration,termination',
        'tus-max-size': config.imageSizeCap,
      })
      .code(204)
      .send(),
  )

  routes.post(url, params, async (request, reply) => {
    checkVersion(request)
    describe(reply)
    const id = request.params.image_id
    const sight = await findImage(service, request.caller, id)
    enforceOn(service, 'upload_image', sight)
    const stale = await staleLock(service, sight.image)
    const length = readCount(request, 'upload-length')
    if (length > config.imageSizeCap) throw tooLarge()
    const store = stores.default
    const { resume } = store.data
    if (resume === undefined) throw new HttpError(400, `Store ${store.id} takes no uploads that go on later.`)
    const upload = { store: store.id, key: newKey(id), imageId: id }
    const begins: Resumable = { ...upload, length, received: 0, workerId: null, expiresAt: expiryOf(service) }
    const change = (image: Image): Image => {
      if (image.status !== 'queued') {
        throw new HttpError(409, `Image status transition from ${image.status} to uploading is not allowed`)
      }
      checkFormats(image)
      return { ...withoutLock(image, stale), status: 'uploading' }
    }
    const { owner } = sight.image
    const { image_count_uploading: uploadsAtMost } = await service.quotas.limitsOf(owner)
    const opens = { ...upload, workerId: nobodysWorker, kind: 'upload' as const }
    const image = await catalog.update(id, change, { opens, begins, uploadsAtMost }).catch(refuseWithoutRoom)
    if (image === undefined) throw noImage(id)
    try {
      await (await service.quotas.reserve(upload.key, owner)).expect(length)
      const data = await store.data.begin(upload.key, length)
      if (length === 0) await takeEmpty(service, image, begins, data, { message: request.raw, log: request.log })
      else await data.suspend?.()
    } catch (error) {
      await abandon(service, begins)
      throw explain(error, request.raw)
    }
    return showOffset(reply, begins)
      .header('location', `${baseUrl(service, request)}/v2/images/${id}/tus`)
      .code(201)
      .send()
  })

  routes.head(url, params, async (request, reply) => {
    checkVersion(request)
    describe(reply).header('cache-control', 'no-store')
    const upload = await findUpload(service, request, request.params.image_id)
    return showOffset(reply, upload).header('upload-length', upload.length).code(200).send()
  })

  routes.delete(url, params, async (request, reply) => {
    checkVersion(request)
    const upload = await findUpload(service, request, request.params.image_id)
    if (upload.received === upload.length) throw gone()
    if (!(await catalog.resumables.hold(upload.imageId, worker.id))) throw busy()
    await abandon(service, upload)
    return describe(reply).code(204).send()
  })

  // Here the body stays a stream.
  routes.register(async (scope) => {
    scope.removeAllContentTypeParsers()
    scope.addContentTypeParser('*', (_request, _payload, done) => done(null, undefined))
    const parts = scope as unknown as Routes
    parts.patch(url, params, async (request, reply) => {
      describe(reply)
      try {
        await takePart(service, request, reply)
      } catch (error) {
        return refuseUpload(service, request, reply, error)
      }
      return reply.code(204).send()
    })
  })
  refuseOtherMethods(routes, url, 'OPTIONS, POST, HEAD, PATCH, DELETE')
}

async function takePart(service: Service, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  checkVersion(request)
  const { image_id: id } = request.params as { image_id: string }
  const type = mediaType(request)
  if (type !== partType) throw unsupportedType(type)
  const offset = readCount(request, 'upload-offset')
  const upload = await findUpload(service, request, id)
  const part = {
    service,
    upload,
    offset,
    message: request.raw,
    log: request.log,
    onReady: () => letContinue(request, reply),
  }
  const received = await service.uploads.run(appendPart(part))
  showOffset(reply, { ...upload, received })
}

/** @throws HttpError 404. */
async function findUpload(service: Service, request: FastifyRequest, id: string): Promise<Resumable> {
  enforceOn(service, 'upload_image', await findImage(service, request.caller, id))
  const upload = await service.catalog.resumables.get(id)
  if (upload === undefined) throw gone()
  return upload
}

function gone(): HttpError {
  return new HttpError(404, 'There is no such upload (any more).')
}

function checkVersion(request: FastifyRequest): void {
  if (request.headers['tus-resumable'] === version) return
  throw new HttpError(412, `Tus-Resumable must be ${version}.`, { headers: { 'Tus-Version': version } })
}

function describe(reply: FastifyReply): FastifyReply {
  return reply.header('tus-resumable', version)
}

function showOffset(reply: FastifyReply, { received, expiresAt }: Resumable): FastifyReply {
  return reply.headers({ 'upload-offset': received, 'upload-expires': new Date(expiresAt * 1000).toUTCString() })
}

/** @throws HttpError 400. */
function readCount(request: FastifyRequest, name: 'upload-length' | 'upload-offset'): number {
  const written = request.headers[name]
  if (typeof written === 'string' && /^\d{1,15}$/.test(written)) return Number(written)
  throw new HttpError(400, `${name} must be a whole number of bytes.`)
}
