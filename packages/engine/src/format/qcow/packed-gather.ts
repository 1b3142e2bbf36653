/** Packed clusters on their way to the file: they are small, and lie one after the other, so they are gathered into large writes. */
import type { ByteStore } from '../../core/index.ts'

const gatherBytes = 1024 * 1024

/** What waits to be written into one file. */
export class PackedGather {
  readonly #store: ByteStore
  #bytes: Uint8Array | undefined
  #start = 0
  #length = 0
  #writing: Promise<void> | undefined

  constructor(store: ByteStore) {
    this.#store = store
  }

  /** Takes the bytes of a cluster for `host`, which lies behind all that was taken before. */
  add(host: number, packed: Uint8Array): void {
    const gap = host - this.#start - this.#length
    // Up to the next sector nothing else can lie.
    if (this.#length > 0 && (gap < 0 || gap >= 512 || host + packed.length - this.#start > gatherBytes)) this.#hand()
    if (this.#length === 0) this.#start = host
    this.#bytes ??= new Uint8Array(gatherBytes)
    this.#bytes.set(packed, host - this.#start)
    this.#length = host - this.#start + packed.length
  }

  #hand(): void {
    const bytes = this.#bytes?.subarray(0, this.#length)
    if (bytes === undefined || bytes.length === 0) return
    const start = this.#start
    const before = this.#writing
    this.#bytes = undefined
    this.#length = 0
    const write = async (): Promise<void> => {
      await before
      await this.#store.write(start, bytes)
    }
    this.#writing = write()
    // Whoever flushes next gets the error; until then it must not count as unhandled.
    this.#writing.catch(() => {})
  }

  /** Returns when all that was taken is in the file. What failed once fails again: those bytes are lost.
   *  @throws MoraineError `io`. */
  async flush(): Promise<void> {
    this.#hand()
    await this.#writing
  }

  /** Returns when no more than one write waits for another. */
  async settle(): Promise<void> {
    await this.#writing
  }
}
