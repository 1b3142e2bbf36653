/** What is inside a packed file, as bytes at an offset. Whoever reads it from front to back gets it in one pass and nothing is kept but the last 32 MiB; whoever reads
 *  here and there gets it from a temporary file, which is made in a pass of its own when it is first needed. */

import { Mutex } from '../../bytes/mutex.ts'
import { allocatedRun } from '../../bytes/zero.ts'
import { type ByteSource, type ByteStore, type Extent, type Limits, MoraineError } from '../../core/index.ts'
import { type Packed, Unpacking } from './unpacking.ts'

const windowBytes = 32 * 1024 * 1024
const tailBytes = 64 * 1024
/** The smallest hole of a temporary file. */
const holeBytes = 4096
/** A read before this is the beginning of a new pass. */
const nearStart = 16 * 1024 * 1024
const mostPasses = 4

/** What stands around an image, for people. */
export interface WrappingFacts {
  /** `gzip`, `zip` … */
  wrapper: string
  /** The member of a zip. */
  member?: string | undefined
  /** Bytes of the packed file. */
  packedSize: number
  /** `stated`: the wrapper says how much it holds, and unpacking proves it; `read`: all of it had to be read to know. */
  sizeFrom: 'stated' | 'read'
}

/** What a wrapped source is made of. */
export interface WrappedPlan {
  packed: Packed
  facts: Omit<WrappingFacts, 'sizeFrom'>
  limits: Limits
  /** Makes an empty store for what is read here and there. */
  spool(): Promise<ByteStore>
  /** By its first bytes: whether what is inside will be read here and there. */
  keep(head: Uint8Array): boolean
  /** Told before all of it is read to find out how much it is. */
  onLongRead?: (() => void) | undefined
  signal?: AbortSignal | undefined
  /** What is packed, which is closed with this. */
  owned: ByteSource
}

interface Piece {
  offset: number
  bytes: Uint8Array
}

/** The content of a packed file. */
export class WrappedSource implements ByteSource {
  readonly name: string
  readonly identity: string | undefined
  readonly wrapping: WrappingFacts
  /** Bytes of the file that stands outermost. */
  readonly outermostSize: number
  readonly #plan: WrappedPlan
  readonly #turn = new Mutex()
  #size: number
  #head = new Uint8Array(0)
  #tail: Piece | undefined
  #keep = false
  #spool: ByteStore | undefined
  #pass: Unpacking | undefined
  #passes = 0
  #window: Piece[] = []
  #held = 0

  private constructor(plan: WrappedPlan) {
    const { packed, facts, owned } = plan
    this.#plan = plan
    this.name = owned.name
    this.identity = owned.identity
    this.outermostSize = packed.outermostSize
    this.#size = packed.size ?? 0
    this.wrapping = { ...facts, sizeFrom: packed.size === undefined ? 'read' : 'stated' }
  }

  /** Reads the first bytes, and all of it where the size is not said.
   *  @throws MoraineError as `Unpacking.next`. */
  static async open(plan: WrappedPlan, headBytes: number): Promise<WrappedSource> {
    const source = new WrappedSource(plan)
    try {
      await source.#start(headBytes, plan.packed.size)
      return source
    } catch (error) {
      await source.#end()
      throw error
    }
  }

  /** What is packed. */
  get around(): ByteSource {
    return this.#plan.owned
  }

  /** Bytes. */
  get size(): number {
    return this.#size
  }

  /** Reading far ahead means unpacking all that lies before. */
  get sequential(): boolean {
    return this.#spool === undefined && this.#tail === undefined
  }

  get descriptor(): number | undefined {
    return this.#spool?.descriptor
  }

  read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    if (offset < 0 || offset + into.length > this.#size) {
      return Promise.reject(
        new MoraineError('io', 'the read passes the end of the file', { path: this.name, offset, code: 'EIO' }),
      )
    }
    if (this.#spool !== undefined) return this.#spool.read(offset, into, signal)
    if (offset + into.length <= this.#head.length) {
      into.set(this.#head.subarray(offset, offset + into.length))
      return Promise.resolve()
    }
    return this.#turn.run(() => this.#readThrough(offset, into, signal))
  }

  async *extents(offset: number, length: number, signal?: AbortSignal): AsyncIterable<Extent[]> {
    if (this.#spool !== undefined) yield* this.#spool.extents(offset, length, signal)
    else if (length > 0) yield [{ offset, length, allocated: true, data: true, zero: false, depth: 0 }]
  }

  async allocatedSize(): Promise<number> {
    return this.#plan.owned.allocatedSize?.() ?? this.#plan.owned.size
  }

  async close(): Promise<void> {
    await this.#turn.run(() => this.#end())
    await this.#plan.owned.close()
  }

  async #end(): Promise<void> {
    this.#window = []
    await this.#pass?.stop()
    this.#pass = undefined
    await this.#spool?.close()
    this.#spool = undefined
  }

  async #start(headBytes: number, size: number | undefined): Promise<void> {
    const { signal } = this.#plan
    const pieces: Uint8Array[] = []
    let filled = 0
    this.#begin()
    while (filled < headBytes) {
      const piece = await this.#pull(signal)
      if (piece === undefined) break
      pieces.push(piece.subarray(0, headBytes - filled))
      filled += piece.length
    }
    this.#head = new Uint8Array(Math.min(filled, headBytes))
    let at = 0
    for (const piece of pieces) {
      this.#head.set(piece, at)
      at += piece.length
    }
    this.#keep = this.#plan.keep(this.#head)
    if (size !== undefined) return
    // Not a word for what is over at once.
    if (this.#pass !== undefined) this.#plan.onLongRead?.()
    if (this.#keep) await this.#unpackAll(signal)
    else {
      while ((await this.#pull(signal)) !== undefined) {}
      this.#rememberTail()
    }
  }

  #begin(): void {
    this.#window = []
    this.#held = 0
    this.#passes++
    this.#pass = new Unpacking(this.#plan.packed, this.#plan.limits)
  }

  /** The next piece of the pass, which is held for a while; undefined at the end. */
  async #pull(signal: AbortSignal | undefined): Promise<Uint8Array | undefined> {
    const pass = this.#pass
    if (pass === undefined) return undefined
    const offset = pass.position
    let bytes: Uint8Array | undefined
    try {
      bytes = await pass.next(signal)
    } catch (error) {
      // What is asked for next begins anew, and fails at the same place.
      this.#pass = undefined
      this.#window = []
      await pass.stop().catch(() => {})
      throw error
    }
    if (bytes === undefined) {
      this.#pass = undefined
      this.#size = offset
      return undefined
    }
    this.#window.push({ offset, bytes })
    this.#held += bytes.length
    for (let [first] = this.#window; first !== undefined; [first] = this.#window) {
      if (this.#held - first.bytes.length < windowBytes) break
      this.#held -= first.bytes.length
      this.#window.shift()
    }
    return bytes
  }

  /** Keeps the end for those who look there first. */
  #rememberTail(): void {
    const bytes = new Uint8Array(Math.min(tailBytes, this.#size))
    const offset = this.#size - bytes.length
    this.#copy(offset, bytes)
    this.#tail = { offset, bytes }
  }

  async #readThrough(offset: number, into: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    const end = offset + into.length
    if (this.#tail !== undefined && offset >= this.#tail.offset) {
      into.set(this.#tail.bytes.subarray(offset - this.#tail.offset, end - this.#tail.offset))
      return
    }
    if (this.#spool === undefined && !(await this.#reach(offset, end, signal))) await this.#unpackAll(signal)
    // A range longer than what is held is not at hand either.
    if (this.#spool === undefined && !this.#copy(offset, into)) await this.#unpackAll(signal)
    if (this.#spool !== undefined) await this.#spool.read(offset, into, signal)
  }

  /** Goes on until the range is at hand; false when it should be kept. */
  async #reach(offset: number, end: number, signal: AbortSignal | undefined): Promise<boolean> {
    if (this.#keep) return false
    const [first] = this.#window
    if (first === undefined || offset < first.offset) {
      if (offset > nearStart || this.#passes >= mostPasses) return false
      await this.#pass?.stop()
      this.#begin()
    }
    for (;;) {
      const last = this.#window.at(-1)
      const position = last === undefined ? 0 : last.offset + last.bytes.length
      if (position >= end && position < this.#size) return true
      // The last bytes count when all checks were passed.
      if ((await this.#pull(signal)) === undefined) return true
    }
  }

  /** False when not all of the range is held. */
  #copy(offset: number, into: Uint8Array): boolean {
    const end = offset + into.length
    let copied = 0
    for (const piece of this.#window) {
      const from = Math.max(offset, piece.offset)
      const to = Math.min(end, piece.offset + piece.bytes.length)
      if (from >= to) continue
      into.set(piece.bytes.subarray(from - piece.offset, to - piece.offset), from - offset)
      copied += to - from
    }
    return copied === into.length
  }

  /** Writes all of it to a temporary file, zeros as holes. */
  async #unpackAll(signal: AbortSignal | undefined): Promise<void> {
    const { limits, spool } = this.#plan
    await this.#pass?.stop()
    this.#begin()
    const store = await spool()
    try {
      let stored = 0
      for (;;) {
        const at = this.#pass?.position ?? 0
        const bytes = await this.#pull(signal)
        if (bytes === undefined) break
        this.#window = []
        this.#held = 0
        for (let start = 0; start < bytes.length; ) {
          const { zero, length } = allocatedRun(bytes, start, bytes.length, holeBytes)
          if (!zero) {
            stored += length
            if (stored > limits.spoolBytes) {
              throw new MoraineError(
                'limit',
                'what is inside would have to be kept unpacked, and is too large for that',
                {
                  path: this.name,
                  field: 'bytes',
                  value: stored,
                  rule: `at most ${limits.spoolBytes}`,
                  hint: 'unpack it first',
                },
              )
            }
            await store.write(at + start, bytes.subarray(start, start + length), signal)
          }
          start += length
        }
      }
      await store.resize(this.#size)
      this.#spool = store
    } catch (error) {
      await store.close()
      throw error
    }
  }
}

/** What stands around a source, outermost last; nothing for one that is not wrapped. */
export function wrappingOf(source: ByteSource): WrappingFacts | undefined {
  return 'wrapping' in source ? (source.wrapping as WrappingFacts) : undefined
}
