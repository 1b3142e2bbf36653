/** Writing compressed clusters: many small units, gathered into large writes. */
import type { ByteStore } from '../../core/index.ts'
import { fault } from './image.ts'
import { entry, packedEntry } from './layout.ts'
import type { Qcow2Writer } from './writer.ts'

/** No less than the largest packed cluster. */
const gatherBytes = 2 * 1024 * 1024

/** Stores packed clusters of one image. */
export class PackedWriter {
  readonly #writer: Qcow2Writer
  readonly #store: ByteStore
  #gathered = new Uint8Array(gatherBytes)
  #start = 0
  #length = 0
  #used = false
  /** The write under way, and the host range it goes to. */
  #writing: { done: Promise<void>; start: number; length: number } | undefined

  constructor(writer: Qcow2Writer) {
    this.#writer = writer
    this.#store = writer.store
  }

  /** Whether packed bytes that touch this host range wait to be written, or are on their way. */
  holds(offset: number, length: number): boolean {
    const touches = (start: number, bytes: number): boolean =>
      bytes > 0 && offset < start + bytes && offset + length > start
    const flying = this.#writing
    return touches(this.#start, this.#length) || (flying !== undefined && touches(flying.start, flying.length))
  }

  /** Stores one unit; the caller keeps calls one at a time.
   *  @throws MoraineError `invalid` when the cluster is allocated already. */
  async write(guest: number, packed: Uint8Array): Promise<void> {
    const { image } = this.#writer
    const place = await this.#writer.entryOf(guest)
    const { view } = place.page
    const upper = view.getUint32(place.at)
    const lower = view.getUint32(place.at + 4)
    if ((upper & (entry.compressed | entry.offsetHigh)) !== 0 || (lower & entry.offsetLow) !== 0) {
      throw fault(image, 'invalid', 'a compressed cluster cannot replace an allocated one', 'offset', { value: guest })
    }
    const host = await this.#writer.refcounts.allocatePacked(packed.length)
    await this.#gather(host, packed)
    // Looked up again: making room for the counts may have pushed the page out of the cache.
    const fresh = await this.#writer.entryOf(guest)
    this.#writer.setEntry(fresh, ...packedEntry({ offset: host, length: packed.length }, image.geometry.clusterBits))
    if (image.geometry.extended) {
      fresh.page.view.setUint32(fresh.at + 8, 0)
      fresh.page.view.setUint32(fresh.at + 12, 0)
    }
    this.#used = true
  }

  async #gather(host: number, packed: Uint8Array): Promise<void> {
    if (this.#length > 0 && (host !== this.#start + this.#length || this.#length + packed.length > gatherBytes)) {
      await this.#hand()
    }
    if (this.#length === 0) this.#start = host
    this.#gathered.set(packed, this.#length)
    this.#length += packed.length
  }

  /** Starts writing what was gathered; at most one such write is under way. */
  async #hand(): Promise<void> {
    await this.#writing?.done
    const bytes = this.#gathered.subarray(0, this.#length)
    const start = this.#start
    this.#gathered = new Uint8Array(gatherBytes)
    this.#length = 0
    this.#store.debugEvent?.('write_compressed')
    this.#writing = { done: this.#store.write(start, bytes), start, length: bytes.length }
    // Whoever awaits it next gets the error; until then it must not count as unhandled.
    this.#writing.done.catch(() => {})
  }

  /** Returns when everything given so far has been written; the file then ends at a whole sector. */
  async flush(): Promise<void> {
    if (this.#length > 0) await this.#hand()
    await this.#writing?.done
    this.#writing = undefined
    if (!this.#used || this.#store.kind === 'device') return
    this.#used = false
    if (this.#store.size % 512 !== 0) await this.#store.resize(Math.ceil(this.#store.size / 512) * 512)
  }
}
