/** Injects faults of the host into a source or store, at a chosen call or at random from a seed: what tests of error paths stand on. */
import {
  type ByteSource,
  type ByteStore,
  type Extent,
  isStore,
  MoraineError,
  type Preallocation,
  type ZeroMode,
} from '../core/index.ts'
import { seededRandom } from './random.ts'

/** Calls that can be made to fail. */
export type FaultyCall = 'read' | 'write' | 'zero' | 'discard' | 'resize' | 'flush' | 'extents' | 'copy' | 'close'

/** What goes wrong: the host's code, or `truncated`: from then on the file has `size` bytes (default half) and reads past that fail. */
export type Fault = 'EIO' | 'ENOSPC' | 'EFBIG' | 'EDQUOT' | 'truncated'

/** When faults strike. Calls are counted from 0, only those in `calls`. */
export interface FaultPlan {
  fault: Fault
  /** Default: all but `close`. */
  calls?: readonly FaultyCall[] | undefined
  /** The call that fails. */
  at?: number | undefined
  /** Every call from `at` on fails too, as on a full or dead disk. Default: only that one. */
  sticky?: boolean | undefined
  /** Instead of `at`: each call fails with this probability (0 to 1), by the seed. */
  random?: { seed: number; rate: number } | undefined
  /** For `truncated`: bytes that remain. */
  size?: number | undefined
  /** A failing write first writes this many bytes of what it was given, as a full disk may. Default 0. */
  partial?: number | undefined
}

const words: Record<Exclude<Fault, 'truncated'>, string> = {
  EIO: 'Input/output error',
  ENOSPC: 'No space left on device',
  EFBIG: 'File too large',
  EDQUOT: 'Disk quota exceeded',
}

/** What a faulty source has seen. */
export interface FaultReport {
  /** Calls counted so far; with a plan that never strikes this tells how many there are to try. */
  calls: number
  /** Faults that struck. */
  faults: number
}

/** A source, or a store when `source` is one, that fails by plan. It shows no descriptor, so that nothing goes round it. */
export function faultySource<Source extends ByteSource>(
  source: Source,
  plan: FaultPlan,
): { source: Source extends ByteStore ? ByteStore : ByteSource; report: FaultReport } {
  const trigger = new Trigger(plan)
  const faulty = isStore(source) ? new FaultyStore(source, trigger) : new FaultySource(source, trigger)
  return { source: faulty as unknown as Source extends ByteStore ? ByteStore : ByteSource, report: trigger }
}

const usualCalls: readonly FaultyCall[] = ['read', 'write', 'zero', 'discard', 'resize', 'flush', 'extents', 'copy']

class Trigger implements FaultReport {
  calls = 0
  faults = 0
  /** Bytes that remain after a truncation. */
  cut: number | undefined
  readonly plan: FaultPlan
  readonly #random: (() => number) | undefined

  constructor(plan: FaultPlan) {
    this.plan = plan
    this.#random = plan.random === undefined ? undefined : seededRandom(plan.random.seed)
  }

  /** Whether this call fails; the error is made by `error`. */
  strikes(call: FaultyCall, size: number): boolean {
    if (!(this.plan.calls ?? usualCalls).includes(call)) return false
    const number = this.calls++
    const { at, sticky, random } = this.plan
    const now =
      random !== undefined
        ? (this.#random?.() ?? 1) < random.rate
        : at !== undefined && (number === at || (sticky === true && number > at))
    if (!now) return false
    this.faults++
    if (this.plan.fault !== 'truncated') return true
    this.cut ??= this.plan.size ?? Math.floor(size / 2)
    return false
  }

  error(name: string, offset: number | undefined): MoraineError {
    const code = this.plan.fault === 'truncated' ? 'EIO' : this.plan.fault
    return new MoraineError('io', words[code], { path: name, offset, code })
  }
}

class FaultySource implements ByteSource {
  protected readonly trigger: Trigger
  readonly #source: ByteSource

  constructor(source: ByteSource, trigger: Trigger) {
    this.#source = source
    this.trigger = trigger
  }

  get name(): string {
    return this.#source.name
  }

  /** As when it was opened: a truncation by somebody else is not noticed before a read fails. */
  get size(): number {
    return this.#source.size
  }

  get identity(): string | undefined {
    return this.#source.identity
  }

  async read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    this.strike('read', offset)
    const { cut } = this.trigger
    if (cut !== undefined && offset + into.length > cut) throw this.trigger.error(this.name, Math.max(cut, offset))
    await this.#source.read(offset, into, signal)
  }

  async *extents(offset: number, length: number, signal?: AbortSignal): AsyncIterable<Extent[]> {
    this.strike('extents', offset)
    yield* this.#source.extents(offset, length, signal)
  }

  async allocatedSize(): Promise<number> {
    return (await this.#source.allocatedSize?.()) ?? this.size
  }

  async close(): Promise<void> {
    await this.#source.close()
    this.strike('close', undefined)
  }

  protected strike(call: FaultyCall, offset: number | undefined): void {
    if (this.trigger.strikes(call, this.size)) throw this.trigger.error(this.name, offset)
  }
}

class FaultyStore extends FaultySource implements ByteStore {
  readonly #store: ByteStore

  constructor(store: ByteStore, trigger: Trigger) {
    super(store, trigger)
    this.#store = store
  }

  get kind(): ByteStore['kind'] {
    return this.#store.kind
  }

  async write(offset: number, from: Uint8Array, signal?: AbortSignal): Promise<void> {
    if (this.trigger.strikes('write', this.size)) {
      const partial = Math.min(this.trigger.plan.partial ?? 0, from.length)
      if (partial > 0) await this.#store.write(offset, from.subarray(0, partial))
      throw this.trigger.error(this.name, offset + partial)
    }
    await this.#store.write(offset, from, signal)
    this.#grown(offset + from.length)
  }

  async zero(offset: number, length: number, mode: ZeroMode, signal?: AbortSignal): Promise<void> {
    this.strike('zero', offset)
    await this.#store.zero(offset, length, mode, signal)
    this.#grown(offset + length)
  }

  async discard(offset: number, length: number): Promise<void> {
    this.strike('discard', offset)
    await this.#store.discard(offset, length)
  }

  async resize(size: number, preallocation?: Preallocation): Promise<void> {
    this.strike('resize', size)
    await this.#store.resize(size, preallocation)
    if (this.trigger.cut !== undefined) this.trigger.cut = size
  }

  async flush(): Promise<void> {
    this.strike('flush', undefined)
    await this.#store.flush()
  }

  async copyFrom(source: ByteSource, sourceOffset: number, offset: number, length: number): Promise<number> {
    this.strike('copy', offset)
    const copied = (await this.#store.copyFrom?.(source, sourceOffset, offset, length)) ?? 0
    this.#grown(offset + copied)
    return copied
  }

  /** A write past the cut makes the file longer again. */
  #grown(end: number): void {
    if (this.trigger.cut !== undefined && end > this.trigger.cut) this.trigger.cut = end
  }
}
