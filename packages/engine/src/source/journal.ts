/** A store that remembers every write, so that a test can pull the plug: whatever was flushed is kept, of the rest any part may be. */
import type { ByteStore, Extent, Preallocation, ZeroMode } from '../core/index.ts'
import { MemoryStore } from './memory.ts'

/** A disk keeps or loses a write in units of this many bytes. */
const sector = 512

/** One thing that was asked of a store. */
export type JournalEntry = { time: number } & (
  | { what: 'write'; offset: number; bytes: Uint8Array }
  | { what: 'zero'; offset: number; length: number; mode: ZeroMode }
  | { what: 'resize'; size: number }
  | { what: 'flush' }
)

/** What several journals share, so that their entries have one order: an image and its data file lose power at the same moment. */
export interface JournalClock {
  /** Entries made so far. */
  time: number
}

/** A store in memory that keeps a journal. Discards are not remembered: a disk is free to ignore them. */
export class JournalStore implements ByteStore {
  readonly kind = 'memory'
  readonly entries: JournalEntry[] = []
  readonly #initial: MemoryStore
  readonly #live: MemoryStore
  readonly #clock: JournalClock

  /** Starts from a copy of `initial`, by default empty. */
  constructor(initial: MemoryStore = new MemoryStore(), clock: JournalClock = { time: 0 }) {
    this.#initial = initial.clone()
    this.#live = initial.clone()
    this.#clock = clock
  }

  get name(): string {
    return this.#live.name
  }

  get size(): number {
    return this.#live.size
  }

  get identity(): string {
    return this.#live.identity
  }

  read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    return this.#live.read(offset, into, signal)
  }

  extents(offset: number, length: number, signal?: AbortSignal): AsyncIterable<Extent[]> {
    return this.#live.extents(offset, length, signal)
  }

  allocatedSize(): Promise<number> {
    return this.#live.allocatedSize()
  }

  async write(offset: number, from: Uint8Array, signal?: AbortSignal): Promise<void> {
    const bytes = from.slice()
    await this.#live.write(offset, bytes, signal)
    this.entries.push({ time: this.#clock.time++, what: 'write', offset, bytes })
  }

  async zero(offset: number, length: number, mode: ZeroMode, signal?: AbortSignal): Promise<void> {
    await this.#live.zero(offset, length, mode, signal)
    this.entries.push({ time: this.#clock.time++, what: 'zero', offset, length, mode })
  }

  async discard(): Promise<void> {}

  async resize(size: number, preallocation?: Preallocation): Promise<void> {
    await this.#live.resize(size, preallocation)
    this.entries.push({ time: this.#clock.time++, what: 'resize', size })
  }

  async flush(): Promise<void> {
    this.entries.push({ time: this.#clock.time++, what: 'flush' })
  }

  async close(): Promise<void> {}

  /** What is on the disk when the power fails just before the entry of that `time` (default: after the last): everything up to the last flush
   *  before it, and of each later write, by `random` (numbers from 0 to 1, see `seededRandom`), all, nothing, or some of its sectors. */
  async cut(random: () => number, time = Number.POSITIVE_INFINITY): Promise<MemoryStore> {
    const done = this.entries.filter((entry) => entry.time < time)
    const flushed = done.findLastIndex((entry) => entry.what === 'flush')
    const image = this.#initial.clone()
    for (const [i, entry] of done.entries()) {
      if (i < flushed) await apply(image, entry)
      else if (entry.what !== 'flush') await applyTorn(image, entry, random)
    }
    return image
  }
}

async function apply(image: MemoryStore, entry: JournalEntry): Promise<void> {
  if (entry.what === 'write') await image.write(entry.offset, entry.bytes)
  else if (entry.what === 'zero') await image.zero(entry.offset, entry.length, entry.mode)
  else if (entry.what === 'resize') await image.resize(entry.size)
}

async function applyTorn(image: MemoryStore, entry: JournalEntry, random: () => number): Promise<void> {
  const fate = random()
  if (fate < 0.4) return
  if (fate < 0.7 || entry.what === 'resize' || entry.what === 'flush') {
    await apply(image, entry)
    return
  }
  const length = entry.what === 'write' ? entry.bytes.length : entry.length
  for (let from = 0; from < length; ) {
    // Sectors lie at multiples of 512 of the file, wherever the write begins.
    const to = Math.min(length, from + sector - ((entry.offset + from) % sector))
    if (random() < 0.5) {
      if (entry.what === 'write') await image.write(entry.offset + from, entry.bytes.subarray(from, to))
      else await image.zero(entry.offset + from, to - from, entry.mode)
    }
    from = to
  }
}
