/** Memory of all transfers of this process. Every upload has one buffer for sure, and a few more as long as there are any: one upload alone runs at full speed, and many
 *  at once are bounded together. Buffers are used again, by uploads and downloads: hashing threads share them, so their memory goes back only when every thread has cleaned up. */

/** Bytes of a buffer while few transfers run; it is what the disk, the hashes and the network are given at a time. */
export const bufferBytes = 1024 * 1024
/** With more transfers of one kind than this at once, each gets smaller buffers. */
const few = 8
const smallBufferBytes = 256 * 1024
/** Bytes of all buffers beyond the first one of each upload. */
const mostMore = 8 * bufferBytes
/** Bytes that are kept for transfers to come. */
const mostKept = 16 * bufferBytes

const kept = new Map<number, SharedArrayBuffer[]>()
let keptBytes = 0
let uploads = 0
let more = 0

/** How large buffers are for one of so many transfers of a kind. */
export function bufferSizeAmong(transfers: number): number {
  return transfers > few ? smallBufferBytes : bufferBytes
}

/** A buffer with whatever was in it before. @param size One of the sizes that `bufferSizeAmong` gives. */
export function borrowBuffer(size: number): SharedArrayBuffer {
  const buffer = kept.get(size)?.pop()
  if (buffer === undefined) return new SharedArrayBuffer(size)
  keptBytes -= size
  return buffer
}

/** Nobody touches the buffer any more. One that is not given back is lost, and nothing else. */
export function giveBackBuffer(buffer: SharedArrayBuffer): void {
  const size = buffer.byteLength
  if (keptBytes + size > mostKept) return
  keptBytes += size
  const others = kept.get(size)
  if (others === undefined) kept.set(size, [buffer])
  else others.push(buffer)
}

/** The buffers of one upload. */
export class UploadBuffers {
  readonly #most: number
  readonly #mine: SharedArrayBuffer[] = []
  readonly #free: SharedArrayBuffer[] = []
  #more = 0
  #over = false

  /** @param most How many it may have at once. */
  constructor(most: number) {
    this.#most = most
    uploads++
  }

  /** A free one; undefined when the upload must wait for one that it uses. */
  take(): SharedArrayBuffer | undefined {
    const free = this.#free.pop()
    if (free !== undefined) return free
    const isFirst = this.#mine.length === 0
    const size = bufferSizeAmong(uploads)
    if (!isFirst && (this.#mine.length >= this.#most || more + size > mostMore)) return undefined
    if (!isFirst) {
      this.#more += size
      more += size
    }
    const buffer = borrowBuffer(size)
    this.#mine.push(buffer)
    return buffer
  }

  /** The upload is done with one. */
  give(buffer: SharedArrayBuffer): void {
    this.#free.push(buffer)
  }

  /** The upload is over, and nobody touches its buffers any more. Harmless when called twice. */
  release(): void {
    if (this.#over) return
    this.#over = true
    uploads--
    more -= this.#more
    for (const buffer of this.#mine.splice(0)) giveBackBuffer(buffer)
    this.#free.length = 0
  }
}
