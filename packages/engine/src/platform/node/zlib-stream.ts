/** A native stream of node:zlib, used synchronously for one unit after another.
 *
 *  Node's public one-shot functions make a stream and an output buffer for every call. With a cluster a call, that garbage grew the process by 60 MB for
 *  each worker before it was collected (packing in two workers: 269 MB at the peak; 104 MB with reused streams), and it costs zstd a tenth of its speed. The only
 *  way to reuse a stream goes through two fields that Node does not document (`_handle`, `_writeState`), as npm's own minizlib does. So they are looked
 *  at with care, proved on a sample before they are used, and done without where they are not as expected: see `codecs.ts`. */

interface Handle {
  reset(): void
  writeSync(
    flush: number,
    input: Uint8Array,
    inputOffset: number,
    inputLength: number,
    output: Uint8Array,
    outputOffset: number,
    outputLength: number,
  ): void
  onerror: unknown
}

/** What Node keeps in a stream: after a write, the room left in the output and the input not taken. */
interface Inside {
  _handle?: Handle | null
  _writeState?: Uint32Array
  on(event: 'error', listener: () => void): unknown
}

/** What one write did. */
export interface ZlibWrite {
  /** Bytes of output. */
  written: number
  /** Bytes of input that were not taken. */
  left: number
}

/** One stream. */
class ZlibStream {
  readonly #handle: Handle
  readonly #state: Uint32Array
  #failed = false

  constructor(stream: Inside, handle: Handle, state: Uint32Array) {
    this.#handle = handle
    this.#state = state
    const fail = (): void => {
      this.#failed = true
    }
    // An error is told to the handle's owner, which would end the stream.
    handle.onerror = fail
    stream.on('error', fail)
  }

  /** Forgets what came before. (A compressor of zstd forgets its parameters with it.) */
  reset(): void {
    this.#handle.reset()
  }

  /** Gives all of `input` and takes what comes out, as far as `output` goes. Undefined when the library reports an error. */
  write(flush: number, input: Uint8Array, output: Uint8Array): ZlibWrite | undefined {
    this.#failed = false
    this.#state.fill(0xffffffff)
    this.#handle.writeSync(flush, input, 0, input.length, output, 0, output.length)
    const [room = 0xffffffff, left = 0xffffffff] = this.#state
    if (this.#failed || room > output.length || left > input.length) return undefined
    return { written: output.length - room, left }
  }
}

export type { ZlibStream }

/** A stream that is made when first needed, and anew after an error (which some streams go on reporting). */
export class ReusedStream {
  readonly #make: () => object
  readonly #proof: (stream: ZlibStream) => boolean
  #stream: ZlibStream | undefined
  #works: boolean | undefined

  /** @param make makes a stream of node:zlib. @param proof says, of the first one, whether it does what it should. */
  constructor(make: () => object, proof: (stream: ZlibStream) => boolean) {
    this.#make = make
    this.#proof = proof
  }

  /** The stream; undefined when streams of this Node are not made as expected, or the proof failed or threw. */
  get(): ZlibStream | undefined {
    if (this.#stream !== undefined || this.#works === false) return this.#stream
    const stream = lookInto(this.#make() as Inside)
    this.#works ??= stream !== undefined && this.#isProved(stream)
    if (this.#works) this.#stream = stream
    return this.#stream
  }

  /** Gives the stream up after an error. */
  drop(): void {
    this.#stream = undefined
  }

  #isProved(stream: ZlibStream): boolean {
    try {
      return this.#proof(stream)
    } catch {
      return false
    }
  }
}

function lookInto(inside: Inside): ZlibStream | undefined {
  const { _handle: handle, _writeState: state } = inside
  if (typeof handle?.writeSync !== 'function' || typeof handle.reset !== 'function') return undefined
  if (!(state instanceof Uint32Array) || state.length < 2) return undefined
  return new ZlibStream(inside, handle, state)
}
