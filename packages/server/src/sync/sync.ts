/** The task that keeps the images here in step with a catalogue. It may be cut off at any point and begun again: what is here is looked at each time, and only what is missing is done. */
import { randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  type CloudImage,
  type Get,
  listImages,
  type Mirror,
  openCatalogue,
  type Reading,
  seenIn,
} from '@moraine/cloud-images'
import { isMoraineError, MoraineError } from '@moraine/engine'
import { type Image, queuedImage } from '../catalog/image.ts'
import type { JsonObject } from '../catalog/json.ts'
import { explainFailure } from '../import/explain.ts'
import { importHandler } from '../import/import-image.ts'
import { taskInput } from '../import/job.ts'
import { ImportLost, locked, lockProperty, unlocked } from '../import/lock.ts'
import type { Service } from '../service.ts'
import { type Handler, isStopped, type Run } from '../task/runner.ts'
import { WebRefused } from '../web/gate.ts'
import { identityHere, identityOf, newImageOf, originProperties, settle } from './plan.ts'
import type { Source } from './sources.ts'

type Log = {
  info(facts: object, text: string): void
  warn(facts: object, text: string): void
  error(facts: object, text: string): void
}

/** What a look at a catalogue did, or would do. */
export interface SyncResult {
  readonly catalogue: string
  readonly dryRun: boolean
  /** Another look at the same catalogue was under way, which does the work. */
  readonly skipped: boolean
  readonly imported: string[]
  readonly shown: string[]
  readonly hidden: string[]
  readonly deleted: string[]
  readonly failed: { name: string; reason: string }[]
}

export function syncHandler(service: Service, log: Log): Handler {
  return (run) => new Sync(service, run, log).run()
}

class Sync {
  readonly #service: Service
  readonly #run: Run
  readonly #log: Log
  readonly #source: Source
  readonly #result: SyncResult

  constructor(service: Service, run: Run, log: Log) {
    const { source, dry_run: dryRun } = run.task.input
    this.#service = service
    this.#run = run
    this.#log = log
    this.#source = source as unknown as Source
    this.#result = {
      ...{ catalogue: this.#source.name, dryRun: dryRun === true, skipped: false },
      ...{ imported: [], shown: [], hidden: [], deleted: [], failed: [] },
    }
  }

  async run(): Promise<JsonObject> {
    if (await this.#isDoneByAnother()) return asJson({ ...this.#result, skipped: true })
    try {
      this.#run.begin()
    } catch (error) {
      await this.#clear()
      throw error
    }
    this.#run.report(null, 'Reads the catalogue')
    const reading = await this.#open()
    const wanted = await this.#wanted(reading)
    await this.#settle(await this.#bring(reading, wanted))
    const { imported, failed, shown, hidden, deleted } = this.#result
    const counts = { imported: imported.length, failed: failed.length, shown: shown.length, hidden: hidden.length }
    this.#log.info({ catalogue: this.#source.name, ...counts, deleted: deleted.length }, 'catalogue looked at')
    return asJson(this.#result)
  }

  /** Of two looks at one catalogue the first goes on; one that changes nothing is in nobody's way. */
  async #isDoneByAnother(): Promise<boolean> {
    if (this.#result.dryRun) return false
    return !(await this.#service.catalog.work.tasks.hold(this.#run.task.id, `catalogue ${this.#source.name}`))
  }

  async #open(): Promise<Reading> {
    const { distribution, stream, mirror, keyring, unsigned, allowOlder } = this.#source
    const { config } = this.#service
    const reading = await openCatalogue({
      ...{ distribution, stream, mirror, get: this.#get },
      keyring: unsigned
        ? 'unsigned'
        : keyring === undefined
          ? undefined
          : { bytes: await readFile(keyring), name: keyring },
      seen: seenIn(join(config.data, 'catalogues.json'), allowOlder),
      warn: (message) => this.#log.warn({ catalogue: this.#source.name }, message),
      patience: { attempts: config.importRetries + 1, pauseMilliseconds: 500 },
      signal: this.#run.signal,
    })
    if (reading.mirror.get === undefined)
      throw new MoraineError('unsupported', 'the service reads catalogues from servers only')
    return { ...reading, mirror: remembering(reading.mirror) }
  }

  /** Asks through the gate, as imports do. */
  readonly #get: Get = async (url, headers, signal) => {
    try {
      const answer = await this.#service.web.get(url, { ...headers }, signal ?? this.#run.signal)
      const { status, headers: got, body } = answer
      const single = Object.entries(got).map(
        ([name, value]) => [name, Array.isArray(value) ? value[0] : value] as const,
      )
      return {
        status,
        headers: Object.fromEntries(single),
        body,
        discard: async () => {
          body.on('error', () => {}).destroy()
        },
      }
    } catch (error) {
      // What the gate refuses, it refuses in a second, too.
      if (error instanceof WebRefused) throw new MoraineError('denied', error.message, { path: url, cause: error })
      throw error
    }
  }

  /** The builds that shall be here. A release that cannot be read keeps no other one away. */
  async #wanted(reading: Reading): Promise<CloudImage[]> {
    const { releases, architectures, kind, keep } = this.#source
    const wanted = new Map<string, CloudImage>()
    for (const release of releases) {
      for (const architecture of architectures) {
        try {
          const builds = await listImages(reading, { release, architecture, kind }, 'all')
          for (const image of builds.slice(0, keep)) wanted.set(identityOf(image), image)
        } catch (error) {
          this.#fail(`${release} ${architecture}`, error)
        }
      }
    }
    return [...wanted.values()]
  }

  /** Resolves to images that would be here now if this were no dry run. */
  async #bring(reading: Reading, wanted: readonly CloudImage[]): Promise<Image[]> {
    const imagined: Image[] = []
    const here = new Map((await this.#here()).map((image) => [identityHere(image), image]))
    const missing = wanted.filter((image) => here.get(identityOf(image))?.locations.some(isReadable) !== true)
    for (const [at, image] of missing.entries()) {
      const before = here.get(identityOf(image))
      const name = newImageOf('', image, this.#source, reading.definition).name ?? ''
      this.#run.report(at / missing.length, `Imports ${name}`)
      try {
        if (this.#result.dryRun) {
          const made = queuedImage(newImageOf(`new ${at}`, image, this.#source, reading.definition), 0)
          imagined.push({ ...made, status: 'active' })
        } else if (!(await this.#import(reading, image, before))) continue
        this.#result.imported.push(name)
      } catch (error) {
        this.#fail(name, error)
      }
    }
    return imagined
  }

  /** Brings one image here; nothing of it is left when that fails. Resolves to false when somebody else does so. */
  async #import(reading: Reading, image: CloudImage, before: Image | undefined): Promise<boolean> {
    const { catalog, stores } = this.#service
    const { task, signal } = this.#run
    if (image.signature !== undefined && reading.keyring !== undefined) {
      throw new MoraineError(
        'unsupported',
        'its publisher signs each image, which the service cannot verify: unsigned: true takes the digest alone',
      )
    }
    if (before !== undefined && (await this.#isBusy(before))) return false
    const id = before?.id ?? randomUUID()
    if (before === undefined) await catalog.create(newImageOf(id, image, this.#source, reading.definition))
    await catalog.update(id, (now) => locked(unlocked(now), task.id))
    const method = {
      ...{ name: 'web-download', uri: reading.mirror.place(image.path) },
      ...{ os_hash_algo: image.algorithm, os_hash_value: image.digest },
    }
    const targets = this.#source.stores.length === 0 ? [stores.default.id] : this.#source.stores
    const input = taskInput(id, { method, all_stores_must_succeed: true }, targets, {})
    try {
      await importHandler(this.#service, this.#log)({ ...this.#run, task: { ...task, imageId: id, input } })
    } catch (error) {
      if (isStopped(signal)) throw signal.reason
      if (!(error instanceof ImportLost)) await this.#remove(id)
      throw error
    }
    await catalog.update(id, (now) => ({ ...now, minDisk: leastDisk(now) }))
    return true
  }

  /** Whether a task that still runs has the image. */
  async #isBusy({ properties }: Image): Promise<boolean> {
    const lock = properties.get(lockProperty)
    if (lock === undefined || lock === this.#run.task.id) return false
    const task = await this.#service.catalog.work.tasks.get(lock)
    return task?.status === 'pending' || task?.status === 'processing'
  }

  /** Removes images that earlier attempts of this task did not bring to their end. */
  async #clear(): Promise<void> {
    for (const { id, locations, properties } of await this.#here()) {
      if (properties.get(lockProperty) === this.#run.task.id && !locations.some(isReadable)) await this.#remove(id)
    }
  }

  async #settle(imagined: readonly Image[]): Promise<void> {
    const { dryRun, shown, hidden, deleted } = this.#result
    const { catalog } = this.#service
    const { show, hide, remove } = settle([...(await this.#here()), ...imagined], this.#source)
    for (const [images, isHidden, done] of [
      [show, false, shown],
      [hide, true, hidden],
    ] as const) {
      for (const { id, name } of images) {
        if (!dryRun) await catalog.update(id, (now) => ({ ...now, hidden: isHidden }))
        done.push(name ?? id)
      }
    }
    for (const { id, name } of remove) {
      if (!dryRun) await this.#remove(id)
      deleted.push(name ?? id)
    }
  }

  /** All images that came from this catalogue. Who may set properties elsewhere cannot have theirs taken for them. */
  async #here(): Promise<Image[]> {
    const { name, owner } = this.#source
    const found: Image[] = []
    for (let marker: string | undefined; ; ) {
      const page = await this.#service.catalog.list({
        filters: [{ on: 'property', name: originProperties.catalogue, value: name }],
        sort: [],
        limit: 1000,
        marker,
      })
      found.push(...page.images.filter((image) => image.owner === owner))
      marker = page.images.at(-1)?.id
      if (!page.more || marker === undefined) return found
    }
  }

  async #remove(id: string): Promise<void> {
    const { catalog, stores, exports, imageCache } = this.#service
    const image = await catalog.remove(id, ({ protected: isProtected }) => {
      if (isProtected) throw new MoraineError('denied', `image ${id} is protected`)
    })
    // What cannot be removed now is swept away at the next start.
    await stores.remove(image?.locations ?? [], ({ store, key }, error) =>
      this.#log.error({ err: error, image: id, store, key }, 'image data cannot be removed'),
    )
    await exports.removeAll(id)
    await imageCache.remove(id)
  }

  #fail(name: string, error: unknown): void {
    if (this.#run.signal.aborted) throw this.#run.signal.reason
    const reason = explainSync(error)
    this.#log.error(
      { err: error, catalogue: this.#source.name, name },
      'an image of a catalogue cannot be kept in step',
    )
    this.#result.failed.push({ name, reason })
  }
}

/** Catalogues are the operator's, who may know where something is. */
export function explainSync(error: unknown): string {
  return isMoraineError(error) ? error.message : explainFailure(error)
}

function isReadable({ status }: Image['locations'][number]): boolean {
  return status === 'active'
}

const GiB = 1024 ** 3

/** GiB that a disk for the image must have. */
function leastDisk({ virtualSize, size }: Image): number {
  return Math.ceil((virtualSize ?? size ?? 0) / GiB)
}

function asJson(result: SyncResult): JsonObject {
  return JSON.parse(JSON.stringify(result)) as JsonObject
}

/** A catalogue of simplestreams is one file for all releases: it is fetched once. */
function remembering(mirror: Mirror): Mirror {
  const read = new Map<string, Promise<Uint8Array | undefined>>()
  return {
    ...mirror,
    read(path, most, signal) {
      const before = read.get(path)
      if (before !== undefined) return before
      const now = mirror.read(path, most, signal)
      read.set(path, now)
      now.catch(() => read.delete(path))
      return now
    },
  }
}
