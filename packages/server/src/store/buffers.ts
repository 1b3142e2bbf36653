/** Memory of all uploads of this process, which hashing threads share. Every upload has one buffer for sure, and a few more as long as there are any: one upload alone
 *  runs at full speed, and many at once are bounded together. Buffers are used again: their memory goes back only when every thread has cleaned up. */

/** Bytes of one buffer; it is what the disk and the hashes are given at a time. */
export const bufferBytes = 1024 * 1024
/** Buffers beyond the first one of each upload. */
const mostMore = 12
/** Buffers that are kept for uploads to come. */
const mostKept = 32

const kept: SharedArrayBuffer[] = []
let more = 0

/** The buffers of one upload. */
export class UploadBuffers {
  readonly #most: number
  readonly #mine: SharedArrayBuffer[] = []
  readonly #free: SharedArrayBuffer[] = []

  /** @param most How many it may have at once. */
  constructor(most: number) {
    this.#most = most
  }

  /** A free one; undefined when the upload must wait for one that it uses. */
  take(): SharedArrayBuffer | undefined {
    const free = this.#free.pop()
    if (free !== undefined) return free
    const isFirst = this.#mine.length === 0
    if (!isFirst && (this.#mine.length >= this.#most || more >= mostMore)) return undefined
    if (!isFirst) more++
    const buffer = kept.pop() ?? new SharedArrayBuffer(bufferBytes)
    this.#mine.push(buffer)
    return buffer
  }

  /** The upload is done with one. */
  give(buffer: SharedArrayBuffer): void {
    this.#free.push(buffer)
  }

  /** The upload is over, and nobody touches its buffers any more. Harmless when called twice. */
  release(): void {
    more -= Math.max(0, this.#mine.length - 1)
    kept.push(...this.#mine.splice(0).slice(0, mostKept - kept.length))
    this.#free.length = 0
  }
}
