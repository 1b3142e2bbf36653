/** All stores of the service, and how image data is read that lies in several of them. */
import { type ByteSource, type Extent, MoraineError } from '@moraine/engine'
import { type Image, type Location, readableLocations } from '../catalog/image.ts'
import type { StoreSetting } from './settings.ts'
import type { ImageStore } from './store.ts'

/** Where data waits to be imported: the name is Glance's, and no client may use it. */
export const stagingStore = 'os_glance_staging_store'

export interface Store extends Pick<StoreSetting, 'id' | 'description' | 'weight' | 'isDefault' | 'readOnly'> {
  /** As operators know it: `file`, `http`. */
  readonly type: string
  readonly data: ImageStore
}

export class Stores {
  readonly all: readonly Store[]
  readonly default: Store
  /** Whether the operator named stores; clients are told of them only then. */
  readonly multiple: boolean
  /** For data that waits to be imported. */
  readonly staging: ImageStore

  constructor(all: readonly Store[], staging: ImageStore, multiple: boolean) {
    const [first] = all.filter(({ isDefault }) => isDefault)
    if (first === undefined) throw new Error('there is no default store')
    this.all = all
    this.default = first
    this.staging = staging
    this.multiple = multiple
  }

  get(id: string): Store | undefined {
    return this.all.find((store) => store.id === id)
  }

  /** What keeps the data of a location. @throws MoraineError `missing` for a store that is not in the settings any more. */
  dataOf(store: string): ImageStore {
    const data = store === stagingStore ? this.staging : this.get(store)?.data
    if (data === undefined) throw new MoraineError('missing', `there is no store '${store}' in the settings`)
    return data
  }

  /** The copies of an image in the order in which they are to be read: those in `prefer` first, in its order, then by the weight of their stores. */
  inOrder(locations: readonly Location[], prefer: readonly string[] = []): Location[] {
    const rank = ({ store }: Location) => {
      const at = prefer.indexOf(store)
      return at < 0 ? prefer.length : at
    }
    const weight = ({ store }: Location) => this.get(store)?.weight ?? 0
    return locations.toSorted((one, other) => rank(one) - rank(other) || weight(other) - weight(one))
  }

  /** Opens the data of an image. When a copy cannot be read, at the beginning or later, the next one is. The caller closes it.
   *  @param onTrouble Told of each copy that could not be read.
   *  @throws Error when none can be. */
  async open(
    image: Image,
    onTrouble: (location: Location, error: unknown) => void,
    prefer: readonly string[] = [],
  ): Promise<ByteSource> {
    const copies = this.inOrder(readableLocations(image), prefer)
    const next = async (after: unknown): Promise<ByteSource> => {
      let trouble = after
      for (let copy = copies.shift(); copy !== undefined; copy = copies.shift()) {
        try {
          return await this.#openCopy(image, copy)
        } catch (error) {
          trouble = error
          onTrouble(copy, error)
        }
      }
      throw trouble
    }
    const hasNext = () => copies.length > 0
    return new CopiesSource(await next(new Error(`image ${image.id} has no data`)), next, hasNext)
  }

  /** Removes the data of locations. What cannot be removed now is swept away later.
   *  @param onTrouble Told of each that could not be. */
  async remove(
    locations: readonly Pick<Location, 'store' | 'key'>[],
    onTrouble: (location: Pick<Location, 'store' | 'key'>, error: unknown) => void,
  ): Promise<void> {
    for (const location of locations) {
      try {
        await this.dataOf(location.store).remove(location.key)
      } catch (error) {
        onTrouble(location, error)
      }
    }
  }

  async #openCopy(image: Image, { store, key }: Location): Promise<ByteSource> {
    const source = await this.dataOf(store).open(key)
    const size = image.size ?? 0
    if (source.size >= size) return source
    await source.close()
    throw new Error(`the data of image ${image.id} in store ${store} is cut: ${source.size} of ${size} bytes are left`)
  }
}

/** Reads one copy, and another one from where it fails. */
class CopiesSource implements ByteSource {
  #current: ByteSource
  readonly #next: (trouble: unknown) => Promise<ByteSource>
  readonly #hasNext: () => boolean

  constructor(first: ByteSource, next: (trouble: unknown) => Promise<ByteSource>, hasNext: () => boolean) {
    this.#current = first
    this.#next = next
    this.#hasNext = hasNext
  }

  get name(): string {
    return this.#current.name
  }

  get size(): number {
    return this.#current.size
  }

  async read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    for (;;) {
      const current = this.#current
      try {
        if (!this.#hasNext()) return await current.read(offset, into, signal)
        // A read that was given up may still write: not into what the next copy is read to.
        const own = Buffer.allocUnsafeSlow(into.length)
        await current.read(offset, own, signal)
        into.set(own)
        return
      } catch (error) {
        if (signal?.aborted) throw error
        if (this.#current !== current) continue
        this.#current = await this.#next(error)
        void current.close().catch(() => {})
      }
    }
  }

  extents(offset: number, length: number): AsyncIterable<Extent[]> {
    return this.#current.extents(offset, length)
  }

  close(): Promise<void> {
    return this.#current.close()
  }
}
