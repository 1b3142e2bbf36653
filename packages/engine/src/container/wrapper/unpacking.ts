/** One pass over a packed file: its content, front to back, within the limits. */
import { crc32 } from '../../bytes/crc32.ts'
import { type ByteSource, type Limits, MoraineError, type StreamCodec, throwIfCancelled } from '../../core/index.ts'

const packedPiece = 256 * 1024
/** What anything may unpack to, whatever its ratio. */
const freeBytes = 64 * 1024 * 1024

/** What is unpacked. */
export interface Packed {
  /** The packed file, or the part of it that is unpacked. */
  source: ByteSource
  codec: StreamCodec
  /** For messages. */
  wrapper: string
  /** Bytes of the file that stands outermost. */
  outermostSize: number
  /** Bytes it must unpack to, where that was said. */
  size: number | undefined
  /** CRC-32 of what it unpacks to, where the codec does not look at it. */
  checksum?: number | undefined
}

/** The content of a packed file as it comes. */
export class Unpacking {
  readonly #packed: Packed
  readonly #limits: Limits
  readonly #pieces: AsyncIterator<Uint8Array>
  #checksum = 0
  /** Bytes that have come. */
  position = 0

  constructor(packed: Packed, limits: Limits) {
    this.#packed = packed
    this.#limits = limits
    this.#pieces = packed.codec.unpack(packedPieces(packed.source))[Symbol.asyncIterator]()
  }

  /** The next bytes, never none; undefined at the end, when all checks were passed.
   *  @throws MoraineError `corrupt`, `limit`, `cancelled`, and what reading throws. */
  async next(signal?: AbortSignal): Promise<Uint8Array | undefined> {
    const { source, size, checksum } = this.#packed
    throwIfCancelled(signal, source.name)
    const piece = await this.#pull()
    if (piece === undefined) {
      if (size !== undefined && this.position < size) throw this.#lie(size)
      if (checksum !== undefined && checksum !== this.#checksum) {
        throw new MoraineError('corrupt', `the ${this.#packed.wrapper} is damaged: its checksum is wrong`, {
          path: source.name,
        })
      }
      return undefined
    }
    this.position += piece.length
    if (checksum !== undefined) this.#checksum = crc32(piece, this.#checksum)
    if (size !== undefined && this.position > size) throw this.#lie(size)
    this.#judge()
    return piece
  }

  async #pull(): Promise<Uint8Array | undefined> {
    try {
      for (;;) {
        const { value, done } = await this.#pieces.next()
        if (done === true) return undefined
        if (value.length > 0) return value
      }
    } catch (error) {
      if (!(error instanceof MoraineError) || error.path !== undefined) throw error
      throw new MoraineError(error.kind, error.reason, { ...error, path: this.#packed.source.name, cause: error })
    }
  }

  #lie(size: number): MoraineError {
    const { source, wrapper } = this.#packed
    return new MoraineError('corrupt', `the ${wrapper} does not hold as much as it says`, {
      path: source.name,
      field: 'size',
      value: size,
      rule: this.position > size ? 'it holds more' : `it holds ${this.position} bytes`,
    })
  }

  #judge(): void {
    const { source, wrapper, outermostSize } = this.#packed
    const { unpackedBytes, unpackedRatio } = this.#limits
    const refuse = (field: string, value: number, rule: string): never => {
      throw new MoraineError('limit', `the ${wrapper} unpacks to too much`, { path: source.name, field, value, rule })
    }
    if (this.position > unpackedBytes) refuse('bytes', this.position, `at most ${unpackedBytes}`)
    if (this.position > freeBytes && this.position > outermostSize * unpackedRatio) {
      refuse('bytes for a packed byte', Math.floor(this.position / outermostSize), `at most ${unpackedRatio}`)
    }
  }

  /** Gives up the rest. */
  async stop(): Promise<void> {
    await this.#pieces.return?.()
  }
}

/** The packed bytes, one piece ahead. */
async function* packedPieces(source: ByteSource): AsyncGenerator<Uint8Array> {
  const read = async (at: number): Promise<Uint8Array> => {
    const piece = new Uint8Array(Math.min(packedPiece, source.size - at))
    await source.read(at, piece)
    return piece
  }
  let next: Promise<Uint8Array> | undefined = source.size > 0 ? read(0) : undefined
  try {
    for (let at = 0; next !== undefined; at += packedPiece) {
      const piece: Uint8Array = await next
      next = at + packedPiece < source.size ? read(at + packedPiece) : undefined
      next?.catch(() => {}) // Looked at in its turn.
      yield piece
    }
  } finally {
    await next?.catch(() => {}) // No read outlives the pass.
  }
}
