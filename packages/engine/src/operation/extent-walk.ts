/** Walking two disks side by side, and walking one disk again and again without asking it twice. */
import type { ByteSource, Extent } from '../core/index.ts'

/** Extents of a source one at a time, over the batches they come in. Closing it early stops the walk underneath. */
export class ExtentCursor {
  readonly #batches: AsyncIterator<Extent[]>
  #batch: Extent[] = []
  #next = 0
  #ended = false

  constructor(batches: AsyncIterable<Extent[]>) {
    this.#batches = batches[Symbol.asyncIterator]()
  }

  /** The next extent, or undefined at the end. Costs a promise only where a batch ends. */
  take(): Extent | undefined | Promise<Extent | undefined> {
    const extent = this.#batch[this.#next]
    if (extent === undefined) return this.#ended ? undefined : this.#fetch()
    this.#next++
    return extent
  }

  async #fetch(): Promise<Extent | undefined> {
    for (;;) {
      const { done, value } = await this.#batches.next()
      if (done === true) {
        this.#ended = true
        return undefined
      }
      if (value.length === 0) continue
      this.#batch = value
      this.#next = 1
      return value[0]
    }
  }

  async close(): Promise<void> {
    if (!this.#ended) await this.#batches.return?.()
    this.#ended = true
    this.#batch = []
  }
}

/** A range where both sides say one thing each. Offsets in bytes. */
export interface ExtentPair {
  offset: number
  length: number
  a: Extent
  b: Extent
}

/** Cuts `[0, length)` of two sources into the ranges on which both have a single extent. */
export async function* pairExtents(
  a: ByteSource,
  b: ByteSource,
  length: number,
  signal?: AbortSignal,
): AsyncIterable<ExtentPair> {
  if (length === 0) return
  const left = new ExtentCursor(a.extents(0, length, signal))
  const right = new ExtentCursor(b.extents(0, length, signal))
  try {
    let x = await left.take()
    let y = await right.take()
    let offset = 0
    while (x !== undefined && y !== undefined && offset < length) {
      const endX = x.offset + x.length
      const endY = y.offset + y.length
      const end = Math.min(endX, endY, length)
      yield { offset, length: end - offset, a: x, b: y }
      offset = end
      if (endX <= end) x = await left.take()
      if (endY <= end) y = await right.take()
    }
  } finally {
    await left.close()
    await right.close()
  }
}
