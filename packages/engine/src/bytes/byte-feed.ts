/** Bytes that come piece by piece, of which some may be asked for exactly and some given back: what readers of framed streams want. */

/** A reader of pieces. */
export class ByteFeed {
  readonly #pieces: AsyncIterator<Uint8Array>
  #held: Uint8Array[] = []
  #given = 0

  constructor(pieces: AsyncIterable<Uint8Array>) {
    this.#pieces = pieces[Symbol.asyncIterator]()
  }

  /** Bytes that were taken and not given back. */
  get consumed(): number {
    return this.#given
  }

  /** The next piece, never empty; undefined at the end. */
  async next(): Promise<Uint8Array | undefined> {
    for (;;) {
      const held = this.#held.shift()
      const piece = held ?? (await this.#pieces.next()).value
      if (piece === undefined) return undefined
      if (piece.length === 0) continue
      this.#given += piece.length
      return piece
    }
  }

  /** Gives bytes back, which come next. They are not copied. */
  back(bytes: Uint8Array): void {
    if (bytes.length === 0) return
    this.#given -= bytes.length
    this.#held.unshift(bytes)
  }

  /** Exactly `length` bytes, or fewer when they end before. */
  async take(length: number): Promise<Uint8Array> {
    const first = length === 0 ? undefined : await this.next()
    if (first === undefined) return new Uint8Array(0)
    if (first.length >= length) {
      this.back(first.subarray(length))
      return first.subarray(0, length)
    }
    const taken = new Uint8Array(length)
    taken.set(first)
    let filled = first.length
    while (filled < length) {
      const piece = await this.next()
      if (piece === undefined) return taken.subarray(0, filled)
      const part = piece.subarray(0, length - filled)
      taken.set(part, filled)
      filled += part.length
      this.back(piece.subarray(part.length))
    }
    return taken
  }

  /** Passes over `length` bytes; false when they end before. */
  async skip(length: number): Promise<boolean> {
    for (let left = length; left > 0; ) {
      const piece = await this.next()
      if (piece === undefined) return false
      if (piece.length > left) this.back(piece.subarray(left))
      left -= Math.min(left, piece.length)
    }
    return true
  }

  /** Tells the producer that nothing more is wanted. */
  async close(): Promise<void> {
    this.#held = []
    await this.#pieces.return?.()
  }
}
