/** One upload from its first check to the image being active; whatever goes wrong on the way leaves a queued image and no data. */
import type { IncomingMessage } from 'node:http'
import { type Inspection, inspectedHeadBytes, inspectSource } from '@moraine/engine'
import type { FastifyBaseLogger } from 'fastify'
import { canBecome, emptied, type Image } from '../catalog/image.ts'
import { type Claim, inspectStart, judge, RefusedContent, virtualSizeOf } from '../inspect/judge.ts'
import type { Service } from '../service.ts'
import { OverQuota } from '../store/budget.ts'
import { type Intake, takeIn } from '../store/intake.ts'
import { StoreError, type StoreUpload } from '../store/store.ts'
import { noImage } from './access.ts'
import { HttpError } from './http-error.ts'

/** The client went away; nobody is there to be answered. */
export class Disconnected extends Error {}

export interface Receiving {
  service: Service
  id: string
  message: IncomingMessage
  log: FastifyBaseLogger
  /** Called once all that can be checked without the body is. */
  onReady(): void
}

/** Takes the image data in. @throws HttpError for the client, Disconnected. */
export async function receive(receiving: Receiving): Promise<void> {
  const { service, id, message, log } = receiving
  const expected = checkHeaders(message, service)
  const image = await beginSaving(service, id)
  const reservation = service.budget.open()
  let upload: StoreUpload | undefined
  try {
    reservation.check(expected ?? 0)
    upload = await service.store.begin(id, expected)
    receiving.onReady()
    const intake = await takeBody(receiving, upload, image, (bytes) => reservation.take(bytes))
    checkSize(message, intake.size)
    const virtualSize = await inspect(receiving, upload, image, intake.size)
    await upload.commit()
    await finishSaving(service, id, intake, virtualSize)
    log.info({ image: id, size: intake.size, virtualSize }, 'image data is stored')
  } catch (error) {
    reservation.release()
    await upload?.abort()
    await giveUp(service, id)
    throw explain(error, message)
  }
}

/** Puts the image back to `queued`. Data that already has its name goes only when the catalog does not count on it; when the catalog cannot be asked, it stays,
 *  and the next start knows what to do with it. */
async function giveUp({ catalog, store }: Service, id: string): Promise<void> {
  const image = await catalog.update(id, (now) => (now.status === 'saving' ? emptied(now) : undefined))
  if (image?.dataKey == null) await store.remove(id)
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

async function beginSaving({ catalog }: Service, id: string): Promise<Image> {
  const image = await catalog.update(id, (before) => {
    if (!canBecome(before.status, 'saving')) {
      throw new HttpError(409, `Image status transition from ${before.status} to saving is not allowed`)
    }
    const missing = [
      ...(before.diskFormat === null ? ['disk_format'] : []),
      ...(before.containerFormat === null ? ['container_format'] : []),
    ]
    if (missing.length > 0) {
      const noun = missing.length === 1 ? 'Property' : 'Properties'
      throw new HttpError(400, `${noun} ${missing.join(', ')} must be set prior to saving data.`)
    }
    return { ...before, status: 'saving' }
  })
  if (image === undefined) throw noImage(id)
  return image
}

async function takeBody(
  { service, message }: Receiving,
  upload: StoreUpload,
  image: Image,
  reserve: (bytes: number) => void,
): Promise<Intake> {
  const { config, hashes } = service
  const idle = setTimeout(() => {
    message.destroy(new Disconnected(`no byte came for ${config.uploadIdleSeconds} seconds`))
  }, config.uploadIdleSeconds * 1000)
  let size = 0
  try {
    return await takeIn(message, upload, {
      hashes,
      algorithms: ['md5', 'sha512'],
      headBytes: inspectedHeadBytes,
      onHead: async (head) => {
        const { inspection, whole } = inspectStart(head)
        judge(inspection, claimOf(service, image), whole)
      },
      onBytes(length) {
        idle.refresh()
        size += length
        if (size > config.imageSizeCap) throw tooLarge()
        reserve(length)
      },
    })
  } finally {
    clearTimeout(idle)
  }
}

async function inspect(
  { service, id, log }: Receiving,
  upload: StoreUpload,
  image: Image,
  size: number,
): Promise<number | null> {
  const claim = claimOf(service, image)
  const source = await upload.read()
  let inspection: Inspection
  try {
    inspection = await inspectSource(source)
  } finally {
    await source.close()
  }
  const finding = judge(inspection, claim, true)
  if (finding !== undefined && finding.format !== claim.diskFormat) {
    log.warn({ image: id, found: finding.format, declared: claim.diskFormat }, 'image data looks like another format')
  }
  return virtualSizeOf(() => upload.read(), claim, finding, size)
}

function claimOf({ config }: Service, image: Image): Claim {
  return {
    diskFormat: image.diskFormat ?? '',
    containerFormat: image.containerFormat ?? '',
    requireMatch: config.requireFormatMatch,
  }
}

/** The catalog is told last: an image is active only when its data is on the disk. */
async function finishSaving(
  { catalog }: Service,
  id: string,
  { size, digests }: Intake,
  virtualSize: number | null,
): Promise<void> {
  const image = await catalog.update(id, (before) => {
    if (before.status !== 'saving') return undefined
    return {
      ...before,
      status: 'active',
      size,
      virtualSize,
      checksum: digests.md5,
      hashAlgorithm: 'sha512',
      hashValue: digests.sha512,
      dataKey: id,
    }
  })
  if (image?.status === 'active') return
  throw new HttpError(
    410,
    `Image ${id} could not be found after upload. The image may have been deleted during the upload, cleaning up the chunks uploaded.`,
  )
}

function tooLarge(): HttpError {
  return new HttpError(413, 'The incoming image is too large: The provided image is too large.')
}

function explain(error: unknown, message: IncomingMessage): unknown {
  if (error instanceof RefusedContent) return new HttpError(error.kind === 'mismatch' ? 415 : 400, error.message)
  if (error instanceof OverQuota) return new HttpError(413, `Image exceeds the storage quota: ${error.message}`)
  if (error instanceof StoreError && error.kind === 'full') {
    return new HttpError(413, `Image storage media is full: ${error.message}`)
  }
  if (error instanceof StoreError && error.kind === 'denied') {
    return new HttpError(503, `Insufficient permissions on image storage media: ${error.message}`)
  }
  if (message.destroyed && !message.complete && !(error instanceof HttpError)) {
    return error instanceof Disconnected ? error : new Disconnected('the client went away', { cause: error })
  }
  return error
}
