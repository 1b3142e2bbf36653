/** Looks whether catalog and stores tell the same story, and puts right what does not. It may look while the service runs. */
import { createHash } from 'node:crypto'
import { isMoraineError } from '@moraine/engine'
import type { Catalog } from '../catalog/catalog.ts'
import { emptied, type Image, type Location, readableLocations } from '../catalog/image.ts'
import { type Store, type Stores, stagingStore } from '../store/stores.ts'

const page = 500
const readBytes = 1024 * 1024

/** Something that is not as it should be. */
export interface Finding {
  readonly kind:
    | 'missing-data'
    | 'short-data'
    | 'wrong-digest'
    | 'unreadable-data'
    | 'unknown-store'
    | 'orphan-data'
    | 'no-data'
  readonly image?: string
  readonly store?: string
  readonly key?: string
  /** For people: what is wrong. */
  readonly what: string
  /** For people: what a repair does, or what the operator can do. */
  readonly remedy: string
  /** Whether it was put right. */
  readonly repaired: boolean
}

export interface DoctorOptions {
  /** Puts right what can be. */
  repair: boolean
  /** Reads all data and compares it with the digests. */
  verify: boolean
  signal?: AbortSignal | undefined
  /** Told of every image that was looked at. */
  onImage?(image: Image): void
}

/** Tells of everything that is not as it should be. */
export async function* examine(catalog: Catalog, stores: Stores, options: DoctorOptions): AsyncGenerator<Finding> {
  yield* examineImages(catalog, stores, options)
  yield* examineStores(catalog, stores, options)
}

async function* examineImages(catalog: Catalog, stores: Stores, options: DoctorOptions): AsyncGenerator<Finding> {
  let marker: string | undefined
  for (;;) {
    const sort = [{ key: 'created_at', descending: false } as const]
    const { images, more } = await catalog.list({ filters: [], sort, limit: page, marker })
    for (const image of images) {
      options.signal?.throwIfAborted()
      options.onImage?.(image)
      yield* examineImage(catalog, stores, image, options)
    }
    marker = images.at(-1)?.id
    if (!more) return
  }
}

async function* examineImage(
  catalog: Catalog,
  stores: Stores,
  image: Image,
  options: DoctorOptions,
): AsyncGenerator<Finding> {
  const copies = image.locations
  const bad: Location[] = []
  for (const copy of copies) {
    const trouble = await examineCopy(stores, image, copy, options)
    if (trouble === undefined) continue
    // It may have been deleted meanwhile.
    const now = await catalog.get(image.id)
    if (!now?.locations.some((other) => isSame(other, copy))) continue
    const mayGo = trouble.kind !== 'unknown-store' && trouble.kind !== 'unreadable-data'
    const isLast = readableLocations(image).every((other) => bad.includes(other) || isSame(other, copy))
    const remedy = !mayGo
      ? 'bring the store back'
      : isLast && copy.status === 'active'
        ? `put the image back to queued, so that its data can be uploaded again (it had the digest ${image.hashValue ?? image.checksum})`
        : 'forget this copy'
    const repaired = options.repair && mayGo && (await dropCopy(catalog, image.id, copy))
    if (mayGo) bad.push(copy)
    yield { ...trouble, image: image.id, store: copy.store, key: copy.key, remedy, repaired }
  }
  const isWhole = image.status === 'active' || image.status === 'deactivated'
  if (isWhole && readableLocations(image).length === 0) {
    const repaired = options.repair && (await dropCopy(catalog, image.id, undefined))
    const remedy = 'put the image back to queued, so that its data can be uploaded again'
    yield { kind: 'no-data', image: image.id, what: `it is ${image.status} and has no data`, remedy, repaired }
  }
}

type Trouble = Pick<Finding, 'kind' | 'what'>

async function examineCopy(
  stores: Stores,
  image: Image,
  { store, key, status }: Location,
  { verify, signal }: DoctorOptions,
): Promise<Trouble | undefined> {
  if (store !== stagingStore && stores.get(store) === undefined) {
    return { kind: 'unknown-store', what: `the settings name no store '${store}'` }
  }
  try {
    const source = await stores.dataOf(store).open(key)
    try {
      const size = image.size ?? 0
      if (status !== 'active') return undefined
      if (source.size < size) return { kind: 'short-data', what: `${source.size} of ${size} bytes are there` }
      const known = image.hashAlgorithm === null ? ['md5', image.checksum] : [image.hashAlgorithm, image.hashValue]
      const [algorithm, expected] = known
      if (!verify || !algorithm || !expected) return undefined
      const hash = createHash(algorithm)
      const buffer = new Uint8Array(readBytes)
      for (let at = 0; at < size; at += buffer.length) {
        const part = buffer.subarray(0, Math.min(buffer.length, size - at))
        await source.read(at, part, signal)
        hash.update(part)
      }
      const actual = hash.digest('hex')
      return actual === expected
        ? undefined
        : { kind: 'wrong-digest', what: `its ${algorithm} is ${actual}, not ${expected}` }
    } finally {
      await source.close()
    }
  } catch (error) {
    signal?.throwIfAborted()
    const isGone = isMoraineError(error, 'missing') || (error as NodeJS.ErrnoException).code === 'ENOENT'
    if (isGone) return { kind: 'missing-data', what: 'its data is not there' }
    return { kind: 'unreadable-data', what: `its data cannot be read: ${(error as Error).message}` }
  }
}

function isSame(one: Location, other: Location): boolean {
  return one.store === other.store && one.key === other.key
}

/** Takes a copy out of the catalog; an image without any is `queued` again. */
async function dropCopy(catalog: Catalog, id: string, copy: Location | undefined): Promise<boolean> {
  let isDone = false
  await catalog.update(id, (image) => {
    const locations = image.locations.filter((other) => copy === undefined || !isSame(other, copy))
    if (copy !== undefined && locations.length === image.locations.length) return undefined
    isDone = true
    const changed = { ...image, locations }
    return readableLocations(changed).length === 0 ? { ...emptied(changed), locations } : changed
  })
  return isDone
}

/** Data that no image owns. */
async function* examineStores(
  catalog: Catalog,
  stores: Stores,
  { repair, signal }: DoctorOptions,
): AsyncGenerator<Finding> {
  const places: Pick<Store, 'id' | 'data' | 'readOnly'>[] = [
    ...stores.all,
    { id: stagingStore, data: stores.staging, readOnly: false },
  ]
  for (const { id, data, readOnly } of places) {
    signal?.throwIfAborted()
    if (readOnly) continue
    const orphans: string[] = []
    await data.sweep(async (keys) => {
      const known = await catalog.work.knownData(id, keys)
      orphans.push(...keys.filter((key) => !known.has(key)))
      return repair ? known : new Set(keys)
    })
    for (const key of orphans) {
      const what = 'no image owns this data'
      yield { kind: 'orphan-data', store: id, key, what, remedy: 'remove it', repaired: repair }
    }
  }
}
