/** The writes of one request: what lies side by side in the file goes out as one, and all are waited for before the caller has its buffer back. */
import type { ByteStore } from '../core/index.ts'
import { settled } from './mapped-disk.ts'

/** Keeps a write that is waited for later; until then a failure of it is nobody's. */
export function track(writes: Promise<void>[], write: Promise<void>): void {
  write.catch(() => {})
  writes.push(write)
}

/** A request's bytes on their way to the places that they are given, in the order of the guest. */
export class GatheredWrites {
  readonly #store: ByteStore
  readonly #offset: number
  readonly #from: Uint8Array
  readonly #signal: AbortSignal | undefined
  readonly #writes: Promise<void>[] = []
  /** What may become longer: guest bytes that lie side by side in the file. */
  #guest = 0
  #host = 0
  #length = 0

  /** `from`: what the guest writes at `offset`. */
  constructor(store: ByteStore, offset: number, from: Uint8Array, signal: AbortSignal | undefined) {
    this.#store = store
    this.#offset = offset
    this.#from = from
    this.#signal = signal
  }

  /** Says where the bytes at a guest offset go. */
  add(guest: number, length: number, host: number): void {
    if (this.#guest + this.#length === guest && this.#host + this.#length === host) this.#length += length
    else {
      this.send()
      this.#guest = guest
      this.#host = host
      this.#length = length
    }
  }

  /** Starts what was said so far. */
  send(): void {
    if (this.#length === 0) return
    const at = this.#guest - this.#offset
    track(this.#writes, this.#store.write(this.#host, this.#from.subarray(at, at + this.#length), this.#signal))
    this.#length = 0
  }

  /** Waits for all that was started. */
  settle(): Promise<void> {
    return settled(this.#writes)
  }
}
