/** Chunks from one that makes them to one that takes them: what waits between the two is bounded. */

/** A queue of chunks. Whoever puts one in waits while more than `most` bytes are not taken yet. */
export class ChunkQueue implements AsyncIterable<Uint8Array> {
  readonly #most: number
  readonly #chunks: Uint8Array[] = []
  #bytes = 0
  #ended = false
  #failure: { error: unknown } | undefined
  #taker: (() => void) | undefined
  #makers: (() => void)[] = []

  /** `most` in bytes. */
  constructor(most: number) {
    this.#most = most
  }

  /** Puts a chunk in, which then belongs to the queue. Returns when there is room for more.
   *  @throws what `fail` was given. */
  async put(chunk: Uint8Array): Promise<void> {
    this.#check()
    this.#chunks.push(chunk)
    this.#bytes += chunk.length
    this.#wake()
    while (this.#bytes > this.#most && this.#failure === undefined) {
      await new Promise<void>((resolve) => this.#makers.push(resolve))
    }
    this.#check()
  }

  /** Nothing more comes. */
  end(): void {
    this.#ended = true
    this.#wake()
  }

  /** Both sides get this error, at once. The first one counts. */
  fail(error: unknown): void {
    this.#failure ??= { error }
    this.#wake()
    this.#release()
  }

  /** The chunks, once. */
  async *[Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
    for (;;) {
      this.#check()
      const chunk = this.#chunks.shift()
      if (chunk !== undefined) {
        this.#bytes -= chunk.length
        this.#release()
        yield chunk
        continue
      }
      if (this.#ended) return
      await new Promise<void>((resolve) => {
        this.#taker = resolve
      })
    }
  }

  #check(): void {
    if (this.#failure !== undefined) throw this.#failure.error
  }

  #wake(): void {
    this.#taker?.()
    this.#taker = undefined
  }

  #release(): void {
    const makers = this.#makers
    this.#makers = []
    for (const maker of makers) maker()
  }
}
