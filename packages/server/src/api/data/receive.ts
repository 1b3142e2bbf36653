/** One upload from its first check to the image being active, or its data staged; whatever goes wrong on the way leaves a queued image and no data. */
import type { IncomingMessage } from 'node:http'
import type { FastifyBaseLogger, FastifyReply, FastifyRequest } from 'fastify'
import { CatalogError } from '../../catalog/catalog.ts'
import { canBecome, emptied, type Image } from '../../catalog/image.ts'
import { newKey } from '../../import/new-key.ts'
import { type Taken, takeData } from '../../import/take-data.ts'
import { RefusedContent } from '../../inspect/judge.ts'
import { OverQuota } from '../../quota/reservation.ts'
import type { Service } from '../../service.ts'
import { SignatureError } from '../../signature/signature.ts'
import { takeIn } from '../../store/intake.ts'
import { StoreError, type StoreUpload } from '../../store/store.ts'
import { stagingStore } from '../../store/stores.ts'
import { HttpError } from '../http-error.ts'
import { noImage } from '../images/access.ts'
import { staleLock, withoutLock } from './import-lock.ts'
import { answerAndDrain } from './linger.ts'
import { piecesOf } from './pieces.ts'

/** The client went away; nobody is there to be answered. */
export class Disconnected extends Error {}

export interface Receiving {
  service: Service
  id: string
  message: IncomingMessage
  log: FastifyBaseLogger
  /** The name of a store; undefined: the data is staged for a later import. */
  store: string | undefined
  /** Called once all that can be checked without the body is. */
  onReady(): void
}

const retryMilliseconds = 2000

/** What a way of receiving means for the image. */
const stages = { upload: 'saving', stage: 'uploading' } as const

/** Takes the image data in. @throws HttpError for the client, Disconnected. */
export async function receive(receiving: Receiving): Promise<void> {
  const { service, id, message, log, store = stagingStore } = receiving
  const kind = receiving.store === undefined ? 'stage' : 'upload'
  const expected = checkHeaders(message, service)
  const data = service.stores.dataOf(store)
  const key = newKey(id)
  const image = await begin(receiving, stages[kind], { key, store, imageId: id, workerId: service.worker.id, kind })
  let upload: StoreUpload | undefined
  try {
    const verification =
      kind === 'stage' ? undefined : await service.signatures.verification(image, { token: tokenOf(message) })
    const reservation = await service.quotas.reserve(key, image.owner, kind === 'stage')
    await reservation.expect(expected ?? 0)
    if (service.stores.get(store)?.readOnly) throw new StoreError('read-only', `store ${store} is read-only`)
    upload = await data.begin(key, expected)
    receiving.onReady()
    const idle = idleClock(receiving)
    let size = 0
    const onBytes = (length: number) => {
      idle.refresh()
      size += length
      if (size > service.config.imageSizeCap) throw tooLarge()
      return reservation.take(length)
    }
    const taking = { ...receiving, ...service, image, upload, onBytes }
    try {
      const body = piecesOf(message)
      if (kind === 'stage') {
        await takeIn(body, upload, { ...taking, algorithms: [], headBytes: 1, onHead: async () => {} })
        checkSize(message, size)
        await upload.commit()
        await finish(receiving, key, (before) => staged(before, key, size))
      } else {
        const taken = await takeData({ ...taking, verification, body, onEnd: (whole) => checkSize(message, whole) })
        await upload.commit()
        await finish(receiving, key, (before) => activated(before, store, key, taken))
      }
    } finally {
      clearTimeout(idle)
    }
    log.info({ image: id, store, size }, kind === 'stage' ? 'image data is staged' : 'image data is stored')
  } catch (error) {
    // Data that cannot be removed now is swept away later.
    const onTrouble = (err: unknown) => log.error({ err, image: id, store, key }, 'what is left of an upload stays')
    await upload?.abort().catch(onTrouble)
    const giveBack = () => giveUp(service, id, store, key, stages[kind])
    await giveBack().catch((trouble) => {
      onTrouble(trouble)
      if (isFull(trouble)) later(giveBack)
    })
    throw explain(error, message)
  }
}

const isFull = (error: unknown): error is CatalogError => error instanceof CatalogError && error.kind === 'full'

/** Does it as soon as the catalog has room again: an image must not wait for the next start of the service, which would do it. */
function later(work: () => Promise<void>): void {
  const again = () => work().catch((error) => isFull(error) && later(work))
  setTimeout(again, retryMilliseconds).unref()
}

/** Puts the image back to `queued`, when it still waits for this upload. Data that already has its name goes only when the catalog does not count on it; when the
 *  catalog cannot be asked, it stays, and is swept away later. */
async function giveUp({ catalog, stores }: Service, id: string, store: string, key: string, from: string) {
  const back = (now: Image) => (now.status === from ? emptied(now) : undefined)
  try {
    await catalog.update(id, back, { closes: key })
  } catch (error) {
    // Somebody else ended it, and looks after the image; or it was finished, and the answer was lost.
    if (!(error instanceof CatalogError) || error.kind !== 'lost') throw error
  }
  if (!(await catalog.work.knownData(store, [key])).has(key)) await stores.dataOf(store).remove(key)
}

function checkHeaders(message: IncomingMessage, { config }: Service): number | undefined {
  const announced = announcedSize(message)
  const written = message.headers['content-length']
  const length = written === undefined ? undefined : Number(written)
  if (announced !== undefined && length !== undefined && announced !== length) {
    throw new HttpError(400, `x-openstack-image-size says ${announced} bytes, but Content-Length ${length}.`)
  }
  const expected = length ?? announced
  if (expected !== undefined && expected > config.imageSizeCap) throw tooLarge()
  return expected
}

function announcedSize(message: IncomingMessage): number | undefined {
  const written = message.headers['x-openstack-image-size']
  if (written === undefined) return undefined
  if (typeof written === 'string' && /^\d+$/.test(written)) return Number(written)
  throw new HttpError(400, 'x-openstack-image-size is not a whole number.')
}

function checkSize(message: IncomingMessage, size: number): void {
  const announced = announcedSize(message)
  if (announced === undefined || announced === size) return
  throw new HttpError(400, `x-openstack-image-size says ${announced} bytes, but ${size} came.`)
}

async function begin(
  { service, id }: Receiving,
  status: 'saving' | 'uploading',
  opens: Parameters<Service['catalog']['work']['openUpload']>[0],
): Promise<Image> {
  const { catalog, quotas } = service
  const check = ({ status: before }: Image) => {
    if (canBecome(before, status)) return
    throw new HttpError(409, `Image status transition from ${before} to ${status} is not allowed`)
  }
  const found = await catalog.get(id)
  if (found !== undefined) check(found)
  // Asked before anything is taken in: an import that was accepted would have the image before the upload ends.
  const stale = found && (await staleLock(service, found))
  const change = (before: Image): Image => {
    check(before)
    if (status === 'saving') checkFormats(before)
    return { ...withoutLock(before, stale), status }
  }
  const owner = found?.owner ?? null
  const { image_count_uploading: uploadsAtMost } = await quotas.limitsOf(owner)
  const image = await catalog.update(id, change, { opens, uploadsAtMost }).catch(refuseWithoutRoom)
  if (image === undefined) throw noImage(id)
  return image
}

/** Too many at once. @throws HttpError 413, or what it is given. */
export function refuseWithoutRoom(error: unknown): never {
  if (error instanceof CatalogError && error.kind === 'too-many') throw new HttpError(413, error.message)
  throw error
}

export function checkFormats({ diskFormat, containerFormat }: Image): void {
  const missing = [
    ...(diskFormat === null ? ['disk_format'] : []),
    ...(containerFormat === null ? ['container_format'] : []),
  ]
  if (missing.length === 0) return
  const noun = missing.length === 1 ? 'Property' : 'Properties'
  throw new HttpError(400, `${noun} ${missing.join(', ')} must be set prior to saving data.`)
}

export function idleClock({ service: { config }, message }: Pick<Receiving, 'service' | 'message'>): NodeJS.Timeout {
  const giveUpNow = () => message.destroy(new Disconnected(`no byte came for ${config.uploadIdleSeconds} seconds`))
  return setTimeout(giveUpNow, config.uploadIdleSeconds * 1000)
}

/** The catalog is told last: an image counts on its data only when that is on the disk. */
export async function finish(
  { service: { catalog }, id }: Pick<Receiving, 'service' | 'id'>,
  key: string,
  change: (image: Image) => Image | undefined,
): Promise<void> {
  const image = await catalog.update(id, change, { closes: key })
  if (image?.locations.some((location) => location.key === key)) return
  throw new HttpError(
    410,
    `Image ${id} could not be found after upload. The image may have been deleted during the upload, cleaning up the chunks uploaded.`,
  )
}

export function activated(image: Image, store: string, key: string, taken: Taken): Image | undefined {
  if (image.status !== 'saving') return undefined
  return {
    ...image,
    ...taken,
    status: 'active',
    hashAlgorithm: 'sha512',
    locations: [{ store, key, status: 'active', metadata: {} }],
  }
}

function staged(image: Image, key: string, size: number): Image | undefined {
  if (image.status !== 'uploading') return undefined
  return { ...image, size, locations: [{ store: stagingStore, key, status: 'staged', metadata: {} }] }
}

export function tooLarge(): HttpError {
  return new HttpError(413, 'The incoming image is too large: The provided image is too large.')
}

/** A store that does not answer in time: it may do so again. */
export function notAnswering(error: StoreError): HttpError {
  return new HttpError(503, `Image storage media does not answer: ${error.message}`)
}

/** In whose name certificates of signatures are asked for. */
export function tokenOf({ headers }: IncomingMessage): string | undefined {
  const token = headers['x-auth-token']
  return typeof token === 'string' ? token : undefined
}

export function explain(error: unknown, message: IncomingMessage): unknown {
  if (error instanceof SignatureError) return new HttpError(400, error.message)
  if (error instanceof RefusedContent) return new HttpError(error.kind === 'mismatch' ? 415 : 400, error.message)
  if (error instanceof OverQuota) return new HttpError(413, `Image exceeds the storage quota: ${error.message}`)
  if (error instanceof StoreError && error.kind === 'full') {
    return new HttpError(413, `Image storage media is full: ${error.message}`)
  }
  if (error instanceof StoreError && error.kind === 'denied') {
    return new HttpError(503, `Insufficient permissions on image storage media: ${error.message}`)
  }
  if (error instanceof StoreError && error.kind === 'stalled') return notAnswering(error)
  if (error instanceof StoreError && error.kind === 'read-only') {
    return new HttpError(410, 'Error in store configuration. Adding images to store is disabled.')
  }
  if (error instanceof CatalogError && error.kind === 'lost')
    return new HttpError(503, `The upload is lost: ${error.message}`)
  if (message.destroyed && !message.complete && !(error instanceof HttpError)) {
    return error instanceof Disconnected ? error : new Disconnected('the client went away', { cause: error })
  }
  return error
}

/** Says that an upload is refused, to a client that may still be sending it. */
export async function refuseUpload(
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
  const shown = isPlain ? error : isFull(error) ? new HttpError(503, error.message) : new HttpError(500)
  await answerAndDrain(request, reply, shown, service.config.drainBytes)
  return reply
}
