/** Image data: upload and download. */
import type { ByteSource } from '@moraine/engine'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Image } from '../catalog/image.ts'
import { anybody } from '../identity/caller.ts'
import type { Service } from '../service.ts'
import { enforceOn, findImage, type Sight } from './access.ts'
import { HttpError } from './http-error.ts'
import { answerAndDrain, letContinue } from './linger.ts'
import { readRange } from './range.ts'
import { Disconnected, receive } from './receive.ts'
import { imageParams, mediaType, type Routes, refuseBody, refuseOtherMethods, unsupportedType } from './routes.ts'
import { copyRange, sendBytes } from './send-bytes.ts'

const url = '/v2/images/:image_id/file'
const binary = 'application/octet-stream'

export function addImageData(routes: Routes, service: Service): void {
  const params = { schema: { params: imageParams } }

  // Here the body stays a stream, whatever it is called.
  routes.register(async (data) => {
    data.removeAllContentTypeParsers()
    data.addContentTypeParser('*', (_request, _payload, done) => done(null, undefined))
    const uploads = data as unknown as Routes
    uploads.put(url, params, async (request, reply) => {
      try {
        await upload(service, request.params.image_id, request, reply)
      } catch (error) {
        return refuseUpload(service, request, reply, error)
      }
      return reply.code(204).send()
    })
  })

  routes.get(url, { ...params, onRequest: refuseBody }, async (request, reply) => {
    const sight = await findImage(service, request.caller, request.params.image_id)
    checkDownload(service, 'download_image', sight)
    return download(service, sight.image, request, reply)
  })
  refuseOtherMethods(routes, url, 'GET, PUT')
}

async function upload(service: Service, id: string, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  enforceOn(service, 'upload_image', await findImage(service, request.caller, id))
  const type = mediaType(request)
  if (type !== binary) throw unsupportedType(type)
  await service.uploads.run(
    receive({ service, id, message: request.raw, log: request.log, onReady: () => letContinue(request, reply) }),
  )
}

async function refuseUpload(
  service: Service,
  request: FastifyRequest,
  reply: FastifyReply,
  error: unknown,
): Promise<FastifyReply> {
  if (error instanceof Disconnected) {
    request.log.info({ reason: error.message }, 'upload given up')
    reply.hijack()
    reply.raw.destroy()
    return reply
  }
  const isPlain = error instanceof HttpError
  if (!isPlain) request.log.error({ err: error }, 'upload failed')
  if (request.raw.complete) throw error
  await answerAndDrain(request, reply, isPlain ? error : new HttpError(500), service.config.drainBytes)
  return reply
}

async function download(
  service: Service,
  image: Image,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  if (image.dataKey === null) return reply.code(204).send()
  const size = image.size ?? 0
  const range = readRange(request.headers, size)
  const { start, end } = range ?? { start: 0, end: size }
  const source = await openData(service, image, image.dataKey)
  reply.headers({ 'content-type': binary, 'content-length': end - start, 'accept-ranges': 'bytes' })
  if (image.checksum !== null) reply.header('content-md5', image.checksum)
  if (range !== undefined) reply.code(206).header('content-range', `bytes ${start}-${end - 1}/${size}`)
  return sendBytes(
    request,
    reply,
    (put) => copyRange(source, start, end, put),
    () => source.close(),
  )
}

/** Opens the data of an image. @throws Error when not all of it is there any more, which is nothing that the client could know. */
export async function openData({ store }: Service, image: Image, key: string): Promise<ByteSource> {
  const source = await store.open(key)
  const size = image.size ?? 0
  if (source.size >= size) return source
  await source.close()
  throw new Error(`the data of image ${image.id} is cut: ${source.size} of ${size} bytes are left`)
}

/** @throws HttpError 403 for a deactivated image, but to an admin, and for who may look but not take. */
export function checkDownload(service: Service, action: 'download_image' | 'export_image', sight: Sight): void {
  const { image, caller } = sight
  enforceOn(service, action, sight)
  if (image.status !== 'deactivated' || (caller.roles.has('admin') && caller !== anybody)) return
  throw new HttpError(403, 'The requested image has been deactivated. Image data download is forbidden.')
}
