/** A host that is slow and out of order, by a seed: files in memory whose calls take effect now or later, sector by sector, and come back in any order. It sees what no right writer does: two writes over
 *  the same bytes under way at once, a read over bytes that are being written, a buffer that changes while it is written. */
import {
  type ByteStore,
  type Extent,
  type MemoryStore,
  MoraineError,
  type Preallocation,
  type ZeroMode,
} from '@moraine/engine'
import type { Random } from './random.ts'

const sector = 512

/** A call under way. */
interface Call {
  what: 'read' | 'write' | 'zero' | 'discard' | 'resize' | 'flush' | 'extents'
  file: string
  from: number
  to: number
  /** Turn of the event loop in which it comes back. */
  due: number
  finish(): void
}

/** The weather over all files of one test: what is under way, and what was seen that must not be. */
export class Storm {
  readonly random: Random
  /** Share of calls that fail, 0 to 1. */
  faultRate = 0
  /** Whether overlapping calls are a fault: not while the guest's requests overlap. */
  strict = true
  /** A read may come beside a write of the same bytes: sectors of an encrypted image are read whole where a part of them is asked for. */
  mixes = false
  /** All calls come back at once, as between bursts. */
  calm = false
  readonly faults: string[] = []
  /** How many calls failed. */
  struck = 0
  /** How many calls there were. */
  calls = 0
  readonly #underWay = new Set<Call>()
  #turn = 0
  #pumping = false

  constructor(random: Random) {
    this.random = random
  }

  /** Whether a call that begins now fails. */
  strikes(): boolean {
    if (this.calm || this.faultRate === 0 || !this.random.bool(this.faultRate)) return false
    this.struck++
    return true
  }

  /** Takes a call; `finish` is run in its turn. */
  begin(call: Omit<Call, 'due'>): Promise<void> {
    this.calls++
    this.#look(call)
    return new Promise((resolve, reject) => {
      const slow = this.random.bool(0.1) ? 60 : 6
      const entry: Call = {
        ...call,
        due: this.#turn + (this.calm ? 0 : this.random.int(0, slow)),
        finish() {
          try {
            call.finish()
            resolve()
          } catch (error) {
            reject(error)
          }
        },
      }
      this.#underWay.add(entry)
      if (!this.#pumping) {
        this.#pumping = true
        setImmediate(() => this.#pump())
      }
    })
  }

  /** Whether calls on a file are under way. */
  isBusy(file: string): boolean {
    for (const call of this.#underWay) if (call.file === file) return true
    return false
  }

  #pump(): void {
    const calls = [...this.#underWay]
    if (calls.length === 0) {
      this.#pumping = false
      return
    }
    const soonest = Math.min(...calls.map(({ due }) => due))
    this.#turn = Math.max(this.#turn + 1, soonest)
    for (const call of this.random.shuffle(calls.filter(({ due }) => due <= this.#turn))) {
      this.#underWay.delete(call)
      call.finish()
    }
    setImmediate(() => this.#pump())
  }

  #look(call: Omit<Call, 'due'>): void {
    if (!this.strict || call.from >= call.to || call.what === 'flush' || call.what === 'extents') return
    for (const other of this.#underWay) {
      if (other.file !== call.file || other.from >= call.to || other.to <= call.from) continue
      if (other.what === 'flush' || other.what === 'extents') continue
      const reads = Number(other.what === 'read') + Number(call.what === 'read')
      if (reads === 2 || (reads === 1 && this.mixes)) continue
      const words = (one: Omit<Call, 'due'>) => `${one.what} [${one.from}, ${one.to})`
      const { stack = '' } = new Error('here')
      this.faults.push(`${call.file}: ${words(call)} while ${words(other)} is under way\n${stack}`)
    }
  }
}

/** One opening of a file in memory under a storm. */
export class StormStore implements ByteStore {
  readonly kind = 'file'
  readonly name: string
  readonly identity: string
  readonly #memory: MemoryStore
  readonly #storm: Storm
  #size: number
  #closed = false

  constructor(memory: MemoryStore, storm: Storm) {
    this.name = memory.name
    this.identity = memory.identity
    this.#memory = memory
    this.#storm = storm
    this.#size = memory.size
  }

  /** Bytes. Grows as calls come back. */
  get size(): number {
    return this.#size
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    this.#refuse(offset)
    if (offset < 0 || offset + into.length > this.#size) {
      throw new MoraineError('io', 'the range passes the end', { path: this.name, offset, code: 'EIO' })
    }
    if (into.length === 0) return
    const { random } = this.#storm
    const now = new Uint8Array(into.length)
    this.#get(offset, now)
    const fails = this.#storm.strikes()
    const late = random.pick(['now', 'later', 'torn'])
    await this.#call('read', offset, into.length, () => {
      if (fails) throw this.#error(offset)
      const then = new Uint8Array(into.length)
      this.#get(offset, then)
      for (const [from, to] of sectors(offset, into.length)) {
        const isNow = late === 'now' || (late === 'torn' && random.bool())
        into.set((isNow ? now : then).subarray(from, to), from)
      }
    })
  }

  async write(offset: number, from: Uint8Array): Promise<void> {
    this.#refuse(offset)
    if (from.length === 0) return
    const bytes = from.slice()
    await this.#change('write', offset, from.length, (start, end) =>
      this.#put(offset + start, bytes.subarray(start, end)),
    )
    if (Buffer.compare(bytes, from) === 0) return
    this.#storm.faults.push(`${this.name}: the buffer of write [${offset}, ${offset + bytes.length}) changed meanwhile`)
  }

  async zero(offset: number, length: number, mode: ZeroMode): Promise<void> {
    this.#refuse(offset)
    if (length === 0) return
    await this.#change('zero', offset, length, (start, end) => {
      void this.#memory.zero(offset + start, end - start, mode)
    })
  }

  async discard(offset: number, length: number): Promise<void> {
    this.#refuse(offset)
    const end = Math.min(this.#size, offset + length)
    if (end <= offset) return
    await this.#change('discard', offset, end - offset, (from, to) => {
      if (this.#storm.random.bool()) void this.#memory.discard(offset + from, to - from)
    })
  }

  async resize(size: number, _preallocation?: Preallocation): Promise<void> {
    this.#refuse(size)
    const fails = this.#storm.strikes()
    const shrinks = size < this.#size
    await this.#call('resize', shrinks ? size : 0, shrinks ? Number.MAX_SAFE_INTEGER - size : 0, () => {
      if (fails) throw this.#error(size)
      if (!shrinks && size <= this.#memory.size) {
        this.#size = Math.max(this.#size, size)
        return
      }
      void this.#memory.resize(size)
      this.#size = size
    })
  }

  async flush(): Promise<void> {
    this.#refuse(0)
    const fails = this.#storm.strikes()
    await this.#call('flush', 0, 0, () => {
      if (fails) throw this.#error(0)
    })
  }

  async *extents(offset: number, length: number): AsyncIterable<Extent[]> {
    this.#refuse(offset)
    const fails = this.#storm.strikes()
    await this.#call('extents', offset, length, () => {
      if (fails) throw this.#error(offset)
    })
    if (length > 0) yield [{ offset, length, allocated: true, data: true, zero: false, depth: 0 }]
  }

  /** Waits for what is under way. */
  async close(): Promise<void> {
    this.#closed = true
    while (this.#storm.isBusy(this.name)) await new Promise((resolve) => setImmediate(resolve))
  }

  #call(what: Call['what'], offset: number, length: number, finish: () => void): Promise<void> {
    return this.#storm.begin({ what, file: this.name, from: offset, to: offset + length, finish })
  }

  /** Changes a range sector by sector, each when the call begins or when it ends; of one that fails some sectors come. */
  async #change(
    what: 'write' | 'zero' | 'discard',
    offset: number,
    length: number,
    apply: (from: number, to: number) => void,
  ): Promise<void> {
    const { random } = this.#storm
    const fails = this.#storm.strikes()
    const how = random.pick(['now', 'later', 'torn'])
    const parts = how === 'torn' ? sectors(offset, length) : [[0, length] as const]
    const coming = fails ? parts.filter(() => random.bool()) : parts
    const atOnce = coming.filter(() => how === 'now' || (how === 'torn' && random.bool()))
    const later = coming.filter((part) => !atOnce.includes(part))
    const reached = Math.max(0, ...coming.map(([, to]) => offset + to))
    const done = this.#call(what, offset, length, () => {
      for (const [from, to] of later) apply(from, to)
      this.#size = Math.max(this.#size, reached)
      if (fails) throw this.#error(offset)
    })
    for (const [from, to] of atOnce) apply(from, to)
    await done
  }

  #get(offset: number, into: Uint8Array): void {
    const there = Math.max(0, Math.min(into.length, this.#memory.size - offset))
    void this.#memory.read(offset, into.subarray(0, there))
  }

  #put(offset: number, bytes: Uint8Array): void {
    void this.#memory.write(offset, bytes)
  }

  #refuse(offset: number): void {
    if (this.#closed) throw new MoraineError('io', 'the file was closed', { path: this.name, offset, code: 'EBADF' })
  }

  #error(offset: number): MoraineError {
    return new MoraineError('io', 'Input/output error', { path: this.name, offset, code: 'EIO' })
  }
}

/** A range in pieces that end where sectors of the file do, counted from its beginning. */
function sectors(offset: number, length: number): (readonly [number, number])[] {
  const parts: [number, number][] = []
  // Long ranges tear in few places.
  const unit = length > 64 * sector ? Math.ceil(length / 64 / sector) * sector : sector
  for (let from = 0; from < length; ) {
    const to = Math.min(length, from + unit - ((offset + from) % unit))
    parts.push([from, to])
    from = to
  }
  return parts
}
