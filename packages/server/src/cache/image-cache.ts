/** Copies of image data on this machine: of images that lie elsewhere, made while they are downloaded, and of any that an operator asks for. A copy is known by the image and the digest
 *  of its data: an image whose data were lost may get others of the same size. */
import { createHash } from 'node:crypto'
import { hostname } from 'node:os'
import type { ByteSource } from '@moraine/engine'
import type { CachedImages } from '../catalog/cached-images.ts'
import type { Catalog } from '../catalog/catalog.ts'
import { type Image, readableLocations } from '../catalog/image.ts'
import { isLocked } from '../import/lock.ts'
import type { RunningWork } from '../running-work.ts'
import type { Stores } from '../store/stores.ts'
import type { CacheWriter, FileCache } from './file-cache.ts'

const bufferBytes = 1024 * 1024

/** An image of which there is a copy, as the API shows it. Times are seconds since 1970, with fractions. */
export interface CachedImage {
  imageId: string
  size: number
  hits: number
  lastAccessed: number
  lastModified: number
}

export class ImageCache {
  readonly #files: FileCache
  readonly #catalog: Catalog
  readonly #stores: Stores
  readonly #work: RunningWork
  readonly #onError: (image: string, error: unknown) => void
  readonly #node = hostname()
  #filling: Promise<void> = Promise.resolve()
  #isOver = false

  /** @param work Where the filling of the cache is waited for when the service stops. @param onError Told of copies that could not be made. */
  constructor(
    files: FileCache,
    catalog: Catalog,
    stores: Stores,
    work: RunningWork,
    onError: (image: string, error: unknown) => void,
  ) {
    this.#files = files
    this.#catalog = catalog
    this.#stores = stores
    this.#work = work
    this.#onError = onError
  }

  get isOn(): boolean {
    return this.#files.limit > 0
  }

  get #uses(): CachedImages {
    return this.#catalog.cached
  }

  /** The copy of an image's data; undefined when there is none. The caller closes it. */
  async open(image: Image): Promise<ByteSource | undefined> {
    if (!this.isOn) return undefined
    const name = nameOf(image)
    const found = await this.#files.get(name)
    if (found === undefined) return undefined
    if (found.source.size === image.size) {
      await this.#uses.hit(this.#node, image.id)
      return found.source
    }
    await found.source.close()
    await this.#files.remove(name)
    return undefined
  }

  /** Where a whole download is to be copied to: only of an image that does not lie on this machine already, and of no data that may still turn out to be wrong: the image would then get
   *  other data. */
  async beginCopy(image: Image): Promise<CacheWriter | undefined> {
    if (isLocked(image)) return undefined
    const [first] = this.#stores.inOrder(readableLocations(image))
    if (!this.isOn || first === undefined || this.#stores.get(first.store)?.type === 'file') return undefined
    return this.#files.begin(nameOf(image))
  }

  async list(): Promise<CachedImage[]> {
    const uses = new Map((await this.#uses.uses(this.#node)).map((use) => [use.imageId, use]))
    return (await this.#files.entries()).map(({ name, size, madeAt, usedAt }) => {
      const imageId = imageOf(name)
      const use = uses.get(imageId)
      const lastAccessed = use?.lastAccessed ?? usedAt / 1000
      return { imageId, size, hits: use?.hits ?? 0, lastAccessed, lastModified: madeAt / 1000 }
    })
  }

  /** Whether there is a copy of an image's data here. */
  async has(image: Image): Promise<boolean> {
    return (await this.#files.entries()).some(({ name, size }) => name === nameOf(image) && size === image.size)
  }

  queued(): Promise<string[]> {
    return this.#uses.queued(this.#node)
  }

  /** Asks for a copy, which is made beside everything else. */
  async queue(imageId: string): Promise<void> {
    const image = await this.#catalog.get(imageId)
    if (image !== undefined && (await this.has(image))) return
    await this.#uses.queue(this.#node, imageId)
    this.fill()
  }

  /** Makes the copies that are asked for, one after the other. */
  fill(): void {
    if (!this.isOn || this.#isOver) return
    this.#filling = this.#filling.then(() => this.#work.run(this.#fillAll())).catch((error) => this.#onError('', error))
  }

  /** No more copies are begun, and the one under way is given up. */
  stop(): void {
    this.#isOver = true
  }

  /** Removes the copy of an image, and takes it from the queue. Resolves to whether there was anything. */
  async remove(imageId: string): Promise<boolean> {
    const wasQueued = await this.#uses.unqueue(this.#node, imageId)
    const wasThere = this.isOn && (await this.#files.removeAll(imageId)) > 0
    if (wasThere) await this.#uses.forget(this.#node, [imageId])
    return wasQueued || wasThere
  }

  async clear(): Promise<number> {
    const known = (await this.#uses.uses(this.#node)).map(({ imageId }) => imageId)
    await this.#uses.forget(this.#node, known)
    return this.#files.removeAll()
  }

  /** Removes what nobody can use: copies of images that are gone, copies that are not whole, and what was left unfinished. */
  async clean(): Promise<void> {
    await this.#files.clean()
    for (const { name, size } of await this.#files.entries()) {
      const image = await this.#catalog.get(imageOf(name))
      if (image !== undefined && image.size === size && nameOf(image) === name) continue
      await this.#files.remove(name)
      await this.#uses.forget(this.#node, [imageOf(name)])
    }
  }

  /** Brings the copies under the size limit, those first that were used longest ago. Resolves to how many are gone, and how many bytes of disk they took. */
  async prune(): Promise<{ files: number; bytes: number }> {
    const removed = await this.#files.shrink()
    await this.#uses.forget(
      this.#node,
      removed.map(({ name }) => imageOf(name)),
    )
    return { files: removed.length, bytes: removed.reduce((sum, { allocated }) => sum + allocated, 0) }
  }

  clearQueue(): Promise<number> {
    return this.#uses.clearQueue(this.#node)
  }

  async #fillAll(): Promise<void> {
    for (const id of await this.queued()) {
      if (this.#isOver) return
      const image = await this.#catalog.get(id)
      // Its data is still looked at; it stays in the queue.
      if (image !== undefined && isLocked(image)) continue
      try {
        if (image?.status === 'active') await this.#copy(image)
      } catch (error) {
        this.#onError(id, error)
      }
      if (!this.#isOver) await this.#uses.unqueue(this.#node, id)
    }
  }

  async #copy(image: Image): Promise<void> {
    const { id } = image
    const writer = await this.#files.begin(nameOf(image))
    if (writer === undefined) return
    try {
      const source = await this.#stores.open(image, ({ store }, error) => this.#onError(`${id} in ${store}`, error))
      try {
        const size = image.size ?? 0
        const buffer = Buffer.allocUnsafeSlow(Math.min(bufferBytes, size))
        for (let at = 0; at < size && !this.#isOver; at += buffer.length) {
          const piece = buffer.subarray(0, Math.min(buffer.length, size - at))
          await source.read(at, piece)
          await writer.write(piece)
        }
      } finally {
        await source.close()
      }
      // Nobody may get the data of an image that was deleted while it was copied.
      if (this.#isOver || (await this.#catalog.get(id)) === undefined) return
      await writer.commit()
    } finally {
      await writer.abort()
    }
  }
}

/** What the copy of an image's data is called. */
function nameOf({ id, hashValue, checksum }: Image): string {
  const digest = hashValue ?? checksum
  return digest === null ? id : `${id}.${createHash('sha256').update(digest).digest('hex')}`
}

function imageOf(name: string): string {
  return name.slice(0, 36)
}
