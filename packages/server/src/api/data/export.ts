/** The stored image in another format, converted while it is sent. Glance has nothing like it; `/file` stays what Glance's is. */
import { createHash } from 'node:crypto'
import {
  allFormats,
  type ConversionPlan,
  closedGate,
  type Disk,
  type DiskFormat,
  findFormat,
  isMoraineError,
  openDisk,
  planConversion,
  readOptions,
  type StreamPlan,
} from '@moraine/engine'
import { nodeCodecs } from '@moraine/engine/node'
import type { FastifyBaseLogger, FastifyReply, FastifyRequest } from 'fastify'
import type { CacheWriter, FileCache } from '../../cache/file-cache.ts'
import { type Image, readableLocations } from '../../catalog/image.ts'
import { isLocked } from '../../import/lock.ts'
import type { Service } from '../../service.ts'
import { HttpError } from '../http-error.ts'
import { findImage } from '../images/access.ts'
import { imageParams, type Routes, refuseBody, refuseOtherMethods } from '../routes.ts'
import { checkDownload, openData } from './image-data.ts'
import { type Put, sendBytes } from './send-bytes.ts'
import { serveContent } from './serve-content.ts'

const url = '/v2/images/:image_id/export'
/** Formats that can be written front to back. */
const targets = allFormats.filter((format) => format.stream !== undefined)

export function addExport(routes: Routes, service: Service): void {
  routes.get(url, { schema: { params: imageParams }, onRequest: refuseBody }, async (request, reply) => {
    const sight = await findImage(service, request.caller, request.params.image_id)
    checkDownload(service, 'export_image', sight)
    const { image } = sight
    const parameters = new URLSearchParams(request.url.split('?')[1] ?? '')
    const format = targetFormat(parameters.get('format'))
    const options = attempt(() =>
      readOptions(
        format.options,
        [...parameters].filter(([name]) => name !== 'format' && name !== 'compress'),
      ),
    )
    const compress = readFlag('compress', parameters.get('compress'))
    const disk = await openStored(service, image, request.log)
    reply.header('content-type', 'application/octet-stream')
    reply.header('content-disposition', disposition(image, format))
    let plan: ConversionPlan
    let stream: StreamPlan | undefined
    const name = exportName(image, format, parameters)
    const made = await service.exports.get(name)
    try {
      plan = await planConversion(disk, { format, options, compress })
      if (made === undefined) stream = await plan.stream()
    } catch (error) {
      await disk.close()
      await made?.source.close()
      throw explain(error)
    }
    const losses = plan.losses.map(({ what }) => what)
    if (losses.length > 0) reply.header('x-moraine-losses', losses.join(', '))
    if (stream === undefined) {
      await disk.close()
      return sendMade(service.config.downloadIdleSeconds, request, reply, made as Made)
    }
    return sendMaking(
      service.config.downloadIdleSeconds,
      request,
      reply,
      stream,
      // The data of an image that is still looked at may turn out to be wrong, and others take its place.
      isLocked(image) ? undefined : await service.exports.begin(name),
      async () => {
        // The image may have been deleted meanwhile; then nothing of it may stay.
        const now = await service.catalog.get(image.id)
        await disk.close()
        return now !== undefined
      },
    )
  })
  refuseOtherMethods(routes, url, 'GET')
}

type Made = NonNullable<Awaited<ReturnType<FileCache['get']>>>

/** Sends an export that was made before. */
async function sendMade(
  idleSeconds: number,
  request: FastifyRequest,
  reply: FastifyReply,
  { source, tag }: Made,
): Promise<FastifyReply> {
  let isTaken = false
  const open = () => {
    isTaken = true
    return Promise.resolve(source)
  }
  try {
    return await serveContent(request, reply, { size: source.size, tag, idleSeconds, headers: {}, open })
  } finally {
    if (!isTaken) await source.close()
  }
}

/** Sends an export while it is made, and keeps it. @param finish Called in the end; resolves to whether the image is still there. */
function sendMaking(
  idleSeconds: number,
  request: FastifyRequest,
  reply: FastifyReply,
  stream: StreamPlan,
  copy: CacheWriter | undefined,
  finish: () => Promise<boolean>,
): Promise<FastifyReply> {
  if (stream.length !== undefined) reply.header('content-length', stream.length)
  let isWhole = false
  const send = async (put: Put, signal: AbortSignal) => {
    for await (const chunk of stream.chunks(signal)) {
      await put(chunk)
      await copy?.write(chunk)
    }
    isWhole = true
  }
  return sendBytes(idleSeconds, request, reply, send, async () => {
    if ((await finish()) && isWhole) await copy?.commit()
    else await copy?.abort()
  })
}

/** The name of an export among those that are kept: the same image data, format and options have the same one. */
function exportName(image: Image, format: DiskFormat, parameters: URLSearchParams): string {
  const options = [...parameters].filter(([name]) => name !== 'format').sort()
  const key = JSON.stringify([image.hashValue, image.checksum, image.size, format.name, options])
  return `${image.id}.${createHash('sha256').update(key).digest('hex')}`
}

function targetFormat(name: string | null): DiskFormat {
  const format = name === null ? undefined : findFormat(targets, name)
  if (format !== undefined) return format
  throw new HttpError(400, `format must be one of the following: ${targets.map((target) => target.name).join(', ')}`)
}

function readFlag(name: string, value: string | null): boolean {
  if (value === null || value === 'false') return false
  if (value === 'true') return true
  throw new HttpError(400, `${name} must be true or false`)
}

/** @throws HttpError 409 for an image without data, 400 for one that the engine does not read. */
async function openStored(service: Service, image: Image, log: FastifyBaseLogger): Promise<Disk> {
  if (readableLocations(image).length === 0) throw new HttpError(409, `Image ${image.id} has no data yet.`)
  const format = image.containerFormat === 'bare' ? findFormat(allFormats, image.diskFormat ?? '') : undefined
  if (format === undefined) {
    throw new HttpError(
      400,
      `Images of container format ${image.containerFormat} and disk format ${image.diskFormat} cannot be converted.`,
    )
  }
  const source = await openData(service, image, log)
  try {
    return await openDisk(source, {
      formats: allFormats,
      format: format.name,
      gate: closedGate,
      codecs: nodeCodecs,
    })
  } catch (error) {
    throw explain(error)
  }
}

/** What the engine says about the image or the request goes to the client; what the host says does not. */
function explain(error: unknown): unknown {
  if (!isMoraineError(error) || error.kind === 'io' || error.kind === 'cancelled') return error
  return new HttpError(400, `The image cannot be converted: ${error.reason}`)
}

function attempt<Result>(work: () => Result): Result {
  try {
    return work()
  } catch (error) {
    throw explain(error)
  }
}

/** A file name for browsers and for `curl -OJ`: the image's name, as far as it is plain. */
function disposition(image: Image, format: DiskFormat): string {
  const plain = (image.name ?? '').replace(/[^\w.+-]+/g, '-').replace(/^[.-]+|-+$/g, '')
  const extension = format.name === 'raw' ? 'img' : format.name
  const base = plain.replace(new RegExp(`\\.(${extension}|img|raw|qcow2)$`, 'i'), '')
  return `attachment; filename="${base === '' ? image.id : base}.${extension}"`
}
