/** The parts of an upload that may stop and go on. All but the last are only stored; the last one comes with a look at the whole, for which what is stored is read once. */
import type { IncomingMessage } from 'node:http'
import type { FastifyBaseLogger } from 'fastify'
import { CatalogError } from '../../catalog/catalog.ts'
import { emptied, type Image } from '../../catalog/image.ts'
import type { Resumable } from '../../catalog/resumables.ts'
import { type Taken, takeData } from '../../import/take-data.ts'
import { RefusedContent } from '../../inspect/judge.ts'
import type { Service } from '../../service.ts'
import { WrongSignature } from '../../signature/signature.ts'
import { takeIn } from '../../store/intake.ts'
import type { StoreUpload } from '../../store/store.ts'
import { passingOver, wholeBody } from '../../store/stored-part.ts'
import { HttpError } from '../http-error.ts'
import { piecesOf } from './pieces.ts'
import { activated, Disconnected, explain, finish, idleClock, tokenOf } from './receive.ts'

/** How often the catalog is told how far a part is, in bytes: what was told is not sent again after a crash. */
const reportBytes = 64 * 1024 * 1024

export function busy(): HttpError {
  return new HttpError(423, 'Another request is at work on this upload.')
}

export interface Part {
  service: Service
  upload: Resumable
  /** Where the client takes the part to begin. */
  offset: number
  message: IncomingMessage
  log: FastifyBaseLogger
  onReady(): void
}

/** When an upload that gets no further is given up. */
export function expiryOf({ config }: Service): number {
  return Math.floor(Date.now() / 1000) + config.resumeHours * 3600
}

type Running = Map<string, { message: IncomingMessage; over: Promise<unknown> }>

/** The parts that a process takes, by image: a client that comes back ends what is left of its last connection. */
const runningOf = new WeakMap<Service['worker'], Running>()

function partsOf({ worker }: Service): Running {
  const known = runningOf.get(worker) ?? new Map()
  runningOf.set(worker, known)
  return known
}

/** Takes a part in. Resolves to how much is there then. @throws HttpError, Disconnected. */
export async function appendPart(part: Part): Promise<number> {
  const { service, upload, offset, message } = part
  const { imageId, length } = upload
  if (length === upload.received) return checkOffset(offset, upload)
  const running = partsOf(service)
  const before = running.get(imageId)
  if (before !== undefined) {
    before.message.destroy(new Disconnected('the client has come back on another connection'))
    await before.over.catch(() => {})
  }
  if (!(await service.catalog.resumables.hold(imageId, service.worker.id))) throw busy()
  const over = takeHeld(part)
  running.set(imageId, { message, over })
  try {
    return await over
  } catch (error) {
    throw explain(error, message)
  } finally {
    if (running.get(imageId)?.message === message) running.delete(imageId)
  }
}

function checkOffset(offset: number, { received }: Resumable): number {
  if (offset !== received) throw new HttpError(409, `Upload-Offset is ${offset}, but ${received} bytes are there.`)
  return received
}

async function takeHeld(part: Part): Promise<number> {
  const { service, message } = part
  const { catalog, worker, stores } = service
  // It may have got on since it was looked up.
  const upload = (await catalog.resumables.get(part.upload.imageId)) ?? part.upload
  const { imageId: id, key, length } = upload
  if (upload.received === length) {
    await catalog.resumables.report(id, worker.id, length, expiryOf(service), true)
    return checkOffset(part.offset, upload)
  }
  const report = (received: number, release: boolean) =>
    catalog.resumables.report(id, worker.id, received, expiryOf(service), release)
  let store: StoreUpload | undefined
  try {
    checkOffset(part.offset, upload)
    const announced = message.headers['content-length']
    if (announced !== undefined && Number(announced) > length - upload.received) {
      throw new HttpError(413, `The part ends behind the upload's ${length} bytes.`)
    }
    const image = await catalog.get(id)
    if (image === undefined) throw new HttpError(404, 'The image was deleted.')
    store = await stores.dataOf(upload.store).resume?.(key, upload.received)
    if (store === undefined) throw new HttpError(404, 'There is no such upload (any more).')
    part.onReady()
    const counting = new Counting(part, upload, (received) => report(received, false))
    const isLast = announced !== undefined && Number(announced) === length - upload.received
    if (isLast) {
      const taken = await counting.run((onBytes, body) =>
        takeWhole(service, image, upload, store as StoreUpload, part, body, onBytes),
      )
      await conclude(service, upload, store, taken)
      part.log.info({ image: id, store: upload.store, size: length }, 'image data is stored')
      return length
    }
    await counting.run((onBytes, body) =>
      takeIn(body, store as StoreUpload, {
        ...{ hashes: service.hashes, algorithms: [], headBytes: 1, onHead: async () => {} },
        onBytes,
      }),
    )
    const received = (await store.suspend?.()) ?? upload.received
    if (received === length) {
      // A client that does not say how long its last part is: then all is read again.
      const whole = await stores.dataOf(upload.store).resume?.(key, length)
      if (whole !== undefined) {
        store = whole
        const taken = await takeWhole(service, image, { ...upload, received }, whole, part, nothing(), () => undefined)
        await conclude(service, upload, whole, taken)
        return length
      }
    }
    await report(received, true)
    return received
  } catch (error) {
    // A signature that cannot be checked now may be later, as when its certificate is out of reach.
    if (error instanceof RefusedContent || error instanceof WrongSignature || (await catalog.get(id)) === undefined) {
      await store?.abort()
      await abandon(service, upload)
    } else {
      const received = (await store?.suspend?.().catch(() => undefined)) ?? upload.received
      // An upload of which all is there is over; until the image has the data, a byte is always wanted.
      await report(Math.min(received, length - 1), true)
    }
    throw error
  }
}

/** Counts what comes in, ends a body that is too long or too slow, and tells the catalog now and then. */
class Counting {
  readonly #part: Part
  readonly #upload: Resumable
  readonly #report: (received: number) => Promise<void>

  constructor(part: Part, upload: Resumable, report: (received: number) => Promise<void>) {
    this.#part = part
    this.#upload = upload
    this.#report = report
  }

  async run<Result>(
    work: (onBytes: (length: number) => Promise<void> | undefined, body: AsyncIterable<Uint8Array>) => Promise<Result>,
  ): Promise<Result> {
    const { message } = this.#part
    const idle = idleClock(this.#part)
    let received = this.#upload.received
    let told = received
    const onBytes = (length: number): Promise<void> | undefined => {
      idle.refresh()
      received += length
      if (received > this.#upload.length)
        throw new HttpError(413, `The part ends behind the upload's ${this.#upload.length} bytes.`)
      if (received - told < reportBytes) return undefined
      // What was told before is on the disk by now: the store flushes beside.
      const behind = told
      told = received
      return this.#report(behind)
    }
    try {
      return await work(onBytes, piecesOf(message))
    } finally {
      clearTimeout(idle)
    }
  }
}

/** Reads what is stored, then the last part, with the digests and checks of any upload. */
async function takeWhole(
  service: Service,
  image: Image,
  { received }: Resumable,
  store: StoreUpload,
  part: Pick<Part, 'message' | 'log'>,
  body: AsyncIterable<Uint8Array>,
  onBytes: (length: number) => Promise<void> | undefined,
): Promise<Taken> {
  let stored = 0
  return takeData({
    ...{ config: service.config, hashes: service.hashes, image, log: part.log },
    verification: await service.signatures.verification(image, { token: tokenOf(part.message) }),
    upload: passingOver(store, received),
    body: wholeBody(store, received, body),
    onBytes(length) {
      const old = Math.min(length, received - stored)
      stored += old
      return length > old ? onBytes(length - old) : undefined
    },
  })
}

/** Takes in an upload of no bytes, for which no part will come. @param data As it was begun. */
export async function takeEmpty(
  service: Service,
  image: Image,
  upload: Resumable,
  data: StoreUpload,
  part: Pick<Part, 'message' | 'log'>,
): Promise<void> {
  try {
    await conclude(
      service,
      upload,
      data,
      await takeWhole(service, image, upload, data, part, nothing(), () => undefined),
    )
  } catch (error) {
    await data.abort()
    throw error
  }
}

async function* nothing(): AsyncGenerator<Uint8Array> {}

/** The image is active, and the upload is over. */
async function conclude(service: Service, upload: Resumable, store: StoreUpload, taken: Taken): Promise<void> {
  const { imageId: id, key } = upload
  await store.commit()
  const change = (image: Image) => {
    const ready = image.status === 'uploading' ? { ...image, status: 'saving' as const } : image
    return activated(ready, upload.store, key, taken)
  }
  await finish({ service, id }, key, change)
}

/** Ends an upload: nothing of it stays, and its image waits for another one. */
export async function abandon({ catalog, stores }: Service, { imageId, store, key }: Resumable): Promise<void> {
  const back = (image: Image) => (image.status === 'uploading' ? emptied(image) : undefined)
  try {
    await catalog.update(imageId, back, { closes: key })
  } catch (error) {
    // Somebody else has ended it.
    if (!(error instanceof CatalogError) || error.kind !== 'lost') throw error
  }
  if (!(await catalog.work.knownData(store, [key])).has(key)) await stores.dataOf(store).remove(key)
}

/** Ends what still runs of an upload whose image was deleted, and removes what it has written. */
export async function dropUpload(service: Service, { imageId, store, key }: Resumable): Promise<void> {
  partsOf(service).get(imageId)?.message.destroy(new Disconnected('the image was deleted'))
  await service.stores.dataOf(store).remove(key)
}

/** Ends the uploads whose time has come. */
export async function abandonExpired(service: Service): Promise<number> {
  const expired = await service.catalog.resumables.expired()
  for (const upload of expired) {
    if (upload.received === upload.length) await service.catalog.resumables.remove(upload.imageId)
    else await abandon(service, upload)
  }
  return expired.length
}
