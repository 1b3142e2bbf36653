/** Buffers of one size, used again and again: what bounds the memory of a copy. */

/** At most `count` buffers of `size` bytes. Made when first needed, kept afterwards. */
export class BufferPool {
  readonly #size: number
  readonly #free: Uint8Array[] = []
  readonly #waiting: ((buffer: Uint8Array) => void)[] = []
  #left: number

  constructor(count: number, size: number) {
    this.#left = count
    this.#size = size
  }

  /** A buffer with any content, as soon as one is free. */
  take(): Uint8Array | Promise<Uint8Array> {
    const free = this.#free.pop()
    if (free !== undefined) return free
    if (this.#left > 0) {
      this.#left--
      return new Uint8Array(this.#size)
    }
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  give(buffer: Uint8Array): void {
    const next = this.#waiting.shift()
    if (next === undefined) this.#free.push(buffer)
    else next(buffer)
  }
}
