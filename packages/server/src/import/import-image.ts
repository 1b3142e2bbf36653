/** The task that brings data into an image: from where it was staged, from the web, from another image service, or from the image's own copies. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { ByteSource } from '@moraine/engine'
import { type Image, type Location, readableLocations } from '../catalog/image.ts'
import type { JsonObject } from '../catalog/json.ts'
import type { Service } from '../service.ts'
import { takeIn } from '../store/intake.ts'
import type { StoreUpload } from '../store/store.ts'
import { passingOver, wholeBody } from '../store/stored-part.ts'
import { stagingStore } from '../store/stores.ts'
import { type Handler, isStopped, type Run } from '../task/runner.ts'
import { CannotResume, download, pauseBefore } from '../web/download.ts'
import { bytesOf, checked, until } from './body.ts'
import { ImportFailed } from './explain.ts'
import { fetchFromGlance, type OtherGlance } from './glance-download.ts'
import { type Job, readJob, storesThatStay } from './job.ts'
import type { Keeper } from './keeper.ts'
import { arrived, givenUp, holding, ImportLost, importing, lockProperty, unlocked } from './lock.ts'
import { needsFile, type Processed, processData } from './plugins.ts'
import { dropKept, putData } from './put.ts'
import { type Taken, takeData } from './take-data.ts'

const MiB = 1024 * 1024

type Log = { warn(facts: object, text: string): void; error(facts: object, text: string): void }

export function importHandler(service: Service, log: Log): Handler {
  return (run) => new Import(service, run, log).run()
}

class Import {
  readonly #service: Service
  readonly #run: Run
  readonly #log: Log
  readonly #job: Job
  /** All that must come to its end in time. */
  readonly #signal: AbortSignal
  #copied = 0
  #expected: number | undefined
  #remote: OtherGlance | undefined
  /** What another image service says of its data. */
  #digest: JsonObject = {}

  constructor(service: Service, run: Run, log: Log) {
    this.#service = service
    this.#run = run
    this.#log = log
    this.#job = readJob(run.task)
    this.#signal = AbortSignal.any([run.signal, AbortSignal.timeout(service.config.importSeconds * 1000)])
  }

  async run(): Promise<JsonObject> {
    const { imageId, taskId, stores } = this.#job
    const result = { image_id: imageId }
    const first = await this.#service.catalog.get(imageId)
    // An earlier attempt came to its end, and only the task does not know.
    const isDone = first?.status === 'active' && first.properties.get(lockProperty) === undefined
    if (isDone && stores.every((store) => readableLocations(first).some((copy) => copy.store === store))) return result
    try {
      this.#run.begin()
      await this.#change((image) => {
        const missing = stores.filter((store) => !readableLocations(image).some((copy) => copy.store === store))
        // It may have been taken away since the import was accepted.
        if (image.diskFormat === null) throw new ImportFailed("'disk_format' needs to be set before import")
        if (image.containerFormat === null) throw new ImportFailed("'container_format' needs to be set before import")
        const noted = importing(holding(image, taskId), this.#service.stores.multiple ? missing : [])
        // An earlier run may have made it active: one store was enough.
        const isInUse = image.status === 'active' || image.status === 'deactivated'
        return isInUse ? noted : { ...noted, status: 'importing' }
      })
      await this.#bring()
      await this.#finish()
      return result
    } catch (error) {
      if (!isStopped(this.#run.signal) && !(error instanceof ImportLost)) await this.#giveUp()
      throw error
    } finally {
      await this.#remote?.data.client.close()
    }
  }

  async #bring(): Promise<void> {
    const { stores, allMustSucceed } = this.#job
    let succeeded = 0
    let failure: unknown
    for (const store of stores) {
      const image = await this.#image()
      if (readableLocations(image).some((copy) => copy.store === store)) {
        succeeded++
        continue
      }
      try {
        await this.#putInto(store, image)
        succeeded++
      } catch (error) {
        if (this.#run.signal.aborted || error instanceof ImportLost) throw error
        if (this.#service.stores.multiple) await this.#change((now) => arrived(now, store, false))
        if (allMustSucceed) throw error
        this.#log.warn({ err: error, image: image.id, store }, 'import into one of several stores failed')
        failure = error
      }
    }
    if (succeeded === 0) throw failure ?? new ImportFailed('None of the uploads finished!')
  }

  async #putInto(store: string, image: Image): Promise<void> {
    const { config } = this.#service
    if (readableLocations(image).length === 0 && this.#isDownload()) {
      const current = this.#job.method === 'glance-download' ? await this.#copyFacts() : image
      if (!needsFile(config)) {
        await this.#fetching(() => this.#store(store, current, undefined))
        return
      }
      if (stagedOf(current) === undefined) await this.#fetching(() => this.#stage(current))
    }
    const data = await this.#open(await this.#image())
    try {
      await this.#store(store, image, data)
    } finally {
      await data.close()
    }
  }

  #isDownload(): boolean {
    return this.#job.method === 'web-download' || this.#job.method === 'glance-download'
  }

  /** Begins anew where what was fetched before turns out to be of no use: as often as a download is tried again, and once in any case, for what an earlier run has left. */
  async #fetching(work: () => Promise<Image>): Promise<void> {
    const most = Math.max(1, this.#service.config.importRetries)
    for (let times = 0; ; times++) {
      try {
        await work()
        return
      } catch (error) {
        if (!(error instanceof CannotResume) || times === most) throw error
        this.#log.warn({ image: this.#job.imageId, reason: error.message }, 'a download begins anew')
      }
      if (times > 0) await sleep(pauseBefore(times), undefined, { signal: this.#signal })
    }
  }

  /** @param data Undefined: it is downloaded, and goes on where an earlier run was. */
  #store(store: string, image: Image, data: Processed | undefined): Promise<Image> {
    const { method, taskId, inject, allMustSucceed, stores, certificate } = this.#job
    const { config, hashes, signatures } = this.#service
    const { diskFormat, containerFormat } = data ?? image
    const isLast = store === stores.at(-1)
    return putData<Taken>({
      service: this.#service,
      imageId: image.id,
      store,
      expected: data?.size,
      counts: true,
      keeps: data === undefined ? this.#keeps() : undefined,
      fill: async (upload, reserve, keeper) => {
        this.#expected = data?.size
        this.#copied = 0
        return takeData({
          // Copies of what is there already are compared with that.
          verification: image.hashValue === null ? await signatures.verification(image, { certificate }) : undefined,
          ...{ config, hashes, log: this.#log },
          upload: passingOver(upload, keeper?.from?.at ?? 0),
          image: { id: image.id, diskFormat, containerFormat },
          body: until(data?.body ?? this.#download(upload, keeper), this.#signal),
          onBytes: (length) => this.#onBytes(length, reserve),
        })
      },
      apply: (before, location, { size, checksum, hashValue, virtualSize }) => {
        holding(before, taskId)
        if (before.hashValue !== null && before.hashValue !== hashValue) {
          throw new ImportFailed('the data is not the same as that of the image')
        }
        const noted = this.#service.stores.multiple ? arrived(before, store, true) : before
        // Not where it was deactivated after the first of several stores.
        const isReady = before.status === 'importing' && (isLast || !allMustSucceed)
        return {
          ...noted,
          ...{ size, virtualSize, checksum, hashAlgorithm: 'sha512', hashValue, diskFormat, containerFormat },
          locations: [...noted.locations, location],
          status: isReady ? 'active' : noted.status,
          properties:
            method === 'copy-image' ? noted.properties : new Map([...noted.properties, ...Object.entries(inject)]),
        }
      },
    })
  }

  #keeps() {
    return { taskId: this.#job.taskId, isStopped: () => isStopped(this.#run.signal) }
  }

  /** The data as it is to be stored: a copy of the image that is there already, or what is staged. */
  async #open(image: Image): Promise<Processed> {
    const { config, stores } = this.#service
    if (readableLocations(image).length > 0) return this.#plain(await stores.open(image, this.#onTrouble(image)), image)
    const staged = stagedOf(image)
    if (staged === undefined) throw new ImportFailed('there is no staged data')
    const source = await stores.staging.open(staged.key)
    return needsFile(config) ? processData(source, image, config, this.#signal) : this.#plain(source, image)
  }

  #plain(source: ByteSource, image: Image): Processed {
    return {
      body: bytesOf(source, this.#signal),
      size: source.size,
      ...formatsOf(image),
      close: () => source.close(),
    }
  }

  /** Downloads into the staging area, for what needs a file. */
  #stage(image: Image): Promise<Image> {
    const { hashes } = this.#service
    return putData({
      service: this.#service,
      imageId: image.id,
      store: stagingStore,
      expected: undefined,
      counts: false,
      keeps: this.#keeps(),
      fill: (upload, _reserve, keeper) => {
        this.#expected = undefined
        this.#copied = 0
        return takeIn(this.#download(upload, keeper), passingOver(upload, keeper?.from?.at ?? 0), {
          ...{ hashes, algorithms: [], headBytes: 1, onHead: async () => {} },
          onBytes: (length) => this.#onBytes(length, () => undefined),
        })
      },
      apply: (before, location) => ({
        ...holding(before, this.#job.taskId),
        locations: [...before.locations, { ...location, status: 'staged' as const }],
      }),
    })
  }

  /** What was stored before, and the rest from where it comes. */
  #download(upload: StoreUpload, keeper: Keeper | undefined): AsyncIterable<Uint8Array> {
    const { config, web } = this.#service
    const { details, method } = this.#job
    const { url, headers, client } =
      method === 'glance-download' ? this.#otherGlance().data : { url: String(details.uri), headers: {}, client: web }
    const { os_hash_algo: algorithm, os_hash_value: expected } = method === 'glance-download' ? this.#digest : details
    const isChecked = typeof algorithm === 'string' && typeof expected === 'string'
    const rest = download({
      ...{ client, url, headers, retries: config.importRetries, signal: this.#signal, from: keeper?.from, isChecked },
      onVersion: (version) => keeper?.saw(version),
      onSize: (size) => {
        if (size > config.imageSizeCap) throw tooLarge(config.imageSizeCap)
        this.#expected = size
      },
      onRetry: (reason, at) => this.#log.warn({ image: this.#job.imageId, reason, at }, 'a download is tried again'),
    })
    const body = wholeBody(
      upload,
      keeper?.from?.at ?? 0,
      noticed(rest, () => keeper?.tick()),
    )
    return isChecked ? checked(body, algorithm, expected) : body
  }

  /** Takes over from the other service what it says about the image. */
  async #copyFacts(): Promise<Image> {
    const { taskId } = this.#job
    const facts = await this.#otherGlance().facts(this.#signal)
    this.#digest = facts.digest
    return this.#change((image) => ({
      ...holding(image, taskId),
      diskFormat: facts.diskFormat,
      containerFormat: facts.containerFormat,
      properties: new Map([...image.properties, ...facts.properties]),
    }))
  }

  #otherGlance(): OtherGlance {
    this.#remote ??= fetchFromGlance(this.#service, this.#job)
    return this.#remote
  }

  #onBytes(length: number, reserve: (length: number) => Promise<void> | undefined): Promise<void> | undefined {
    const cap = this.#service.config.imageSizeCap
    this.#copied += length
    if (this.#copied > cap) throw tooLarge(cap)
    const share = this.#expected === undefined || this.#expected === 0 ? null : this.#copied / this.#expected
    this.#run.report(share === null ? null : Math.min(1, share), `Copied ${Math.floor(this.#copied / MiB)} MiB`)
    return reserve(length)
  }

  async #finish(): Promise<void> {
    const { taskId } = this.#job
    const staged: Location[] = []
    await this.#change((image) => {
      const free = unlocked(holding(image, taskId))
      staged.push(...image.locations.filter(({ status }) => status === 'staged'))
      const locations = image.locations.filter(({ status }) => status !== 'staged')
      return { ...free, locations, status: free.status === 'importing' ? 'active' : free.status }
    })
    await this.#remove(staged)
  }

  /** Leaves the image as it was before, as far as it is still this task's. */
  async #giveUp(): Promise<void> {
    const { taskId, stores, imageId } = this.#job
    let gone: Location[] = []
    try {
      await this.#change((image) => {
        const after = givenUp(holding(image, taskId), stores, storesThatStay(this.#job, image))
        gone = image.locations.filter((location) => !after.locations.includes(location))
        return after
      })
    } catch (error) {
      if (!(error instanceof ImportLost)) throw error
    }
    await this.#remove(gone)
    await dropKept(this.#service, taskId, imageId)
  }

  async #image(): Promise<Image> {
    this.#signal.throwIfAborted()
    const image = await this.#service.catalog.get(this.#job.imageId)
    if (image === undefined) throw new ImportLost('the image was deleted')
    return image
  }

  async #change(change: (image: Image) => Image): Promise<Image> {
    const image = await this.#service.catalog.update(this.#job.imageId, change)
    if (image === undefined) throw new ImportLost('the image was deleted')
    return image
  }

  #remove(locations: readonly Location[]): Promise<void> {
    return this.#service.stores.remove(locations, this.#onTrouble({ id: this.#job.imageId }))
  }

  #onTrouble({ id }: Pick<Image, 'id'>) {
    return ({ store, key }: Pick<Location, 'store' | 'key'>, error: unknown) =>
      this.#log.error({ err: error, image: id, store, key }, 'image data is out of reach')
  }
}

async function* noticed(body: AsyncIterable<Uint8Array>, onPiece: () => void): AsyncGenerator<Uint8Array> {
  for await (const piece of body) {
    yield piece
    onPiece()
  }
}

function stagedOf({ locations }: Image): Location | undefined {
  return locations.find(({ status }) => status === 'staged')
}

function formatsOf({ diskFormat, containerFormat }: Image) {
  return { diskFormat, containerFormat }
}

function tooLarge(cap: number): ImportFailed {
  return new ImportFailed(`the image is too large: at most ${cap} bytes are taken`)
}
