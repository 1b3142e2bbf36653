/** What all of a volume's readers share: the image, its block size, doubts, and a window for what is read in small pieces. */
import { type ByteSource, type Limits, MoraineError } from '../../core/index.ts'
import type { DoubtAbout } from './layout.ts'

const windowBytes = 32 * 1024

/** Reads one volume. */
export class VolumeReader {
  readonly source: ByteSource
  readonly limits: Limits
  readonly signal: AbortSignal | undefined
  readonly doubt: DoubtAbout
  /** Bytes of a logical block. */
  blockSize = 2048
  /** Bytes that each record of the tree has before its SUSP fields; undefined where it has none. */
  skip: number | undefined
  readonly #warn: (message: string) => void
  readonly #warned = new Set<string>()
  #window: { at: number; bytes: Uint8Array } | undefined

  constructor(
    source: ByteSource,
    options: { limits: Limits; signal: AbortSignal | undefined; warn: (message: string) => void },
  ) {
    this.source = source
    this.limits = options.limits
    this.signal = options.signal
    this.#warn = options.warn
    this.doubt = (field, value, other) => {
      this.warnOnce(field, `${field} is written twice, and differently: ${value}, which counts, and ${other}`)
    }
  }

  /** Warns of each kind of oddity once: a hostile image has millions. */
  warnOnce(kind: string, message: string): void {
    if (this.#warned.has(kind) || this.#warned.size > 100) return
    this.#warned.add(kind)
    this.#warn(`${this.source.name}: ${message}`)
  }

  /** `length` bytes, at most 64 KiB, from a window that is kept: continuation areas follow one another. */
  async readCached(offset: number, length: number): Promise<Uint8Array> {
    const window = this.#window
    if (window !== undefined && offset >= window.at && offset + length <= window.at + window.bytes.length) {
      return window.bytes.subarray(offset - window.at, offset - window.at + length)
    }
    const bytes = new Uint8Array(Math.min(Math.max(length, windowBytes), this.source.size - offset))
    await this.source.read(offset, bytes, this.signal)
    this.#window = { at: offset, bytes }
    return bytes.subarray(0, length)
  }

  /** An error of this volume. */
  corrupt(
    reason: string,
    place: { field: string; value?: number | string; offset?: number; rule: string },
  ): MoraineError {
    return new MoraineError('corrupt', reason, { path: this.source.name, format: 'iso', ...place })
  }
}
