/** The body of an HTTP answer, chunk by chunk, with a limit on silence. */
import { MoraineError } from '../core/index.ts'

/** Reads a body; never holds more than the chunk at hand. */
export class BodyReader {
  readonly #reader: ReadableStreamDefaultReader<Uint8Array> | undefined
  readonly #name: string
  readonly #timeout: number
  #left: Uint8Array | undefined

  /** `timeout` in milliseconds: how long the next chunk may take. */
  constructor(response: Response, name: string, timeout: number) {
    this.#reader = response.body?.getReader()
    this.#name = name
    this.#timeout = timeout
  }

  /** The next chunk, undefined at the end. `offset` is for the message.
   *  @throws MoraineError `io`. */
  async next(offset: number): Promise<Uint8Array | undefined> {
    const left = this.#left
    this.#left = undefined
    if (left !== undefined && left.length > 0) return left
    if (this.#reader === undefined) return undefined
    let timer: ReturnType<typeof setTimeout> | undefined
    try {
      const silence = new Promise<never>((_resolve, reject) => {
        timer = setTimeout(() => reject(timedOut(this.#name, offset, this.#timeout)), this.#timeout)
      })
      for (;;) {
        const { done, value } = await Promise.race([this.#reader.read(), silence])
        if (done) return undefined
        if (value.length > 0) return value
      }
    } catch (cause) {
      if (cause instanceof MoraineError) throw cause
      throw new MoraineError('io', 'the connection broke', { path: this.#name, offset, code: 'ECONNRESET', cause })
    } finally {
      clearTimeout(timer)
    }
  }

  /** Puts back the end of a chunk; the next call of `next` gives it. */
  unread(rest: Uint8Array): void {
    this.#left = rest
  }
}

/** The error for a server that is silent. */
export function timedOut(name: string, offset: number | undefined, timeout: number): MoraineError {
  return new MoraineError('io', `the server was silent for ${timeout / 1000} s`, {
    path: name,
    offset,
    code: 'ETIMEDOUT',
  })
}
