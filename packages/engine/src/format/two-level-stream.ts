/** The two levels of tables of an image that is written front to back (qcow, QED): the L1 table, the L2 tables that are needed, one after the other, then the clusters
 *  that hold data, in guest order. The extents of the source are walked once for each part, so that memory stays bounded at any size. */
import { viewOf } from '../bytes/integers.ts'
import type { Disk } from '../core/index.ts'
import { type BlockRuns, changedSource } from './block-runs.ts'

const chunkBytes = 1024 * 1024
const entryBytes = 8

/** How a format lays its tables out; all in bytes but `entries`. */
export interface TwoLevels {
  clusterSize: number
  /** Of one L2 table. */
  entries: number
  /** What the L1 table takes, up to the first L2 table. */
  l1Bytes: number
  /** Where the first L2 table lies. */
  firstTable: number
  /** Writes an offset into a table. */
  put(view: DataView, at: number, offset: number): void
}

/** What is needed, counted before the first byte. */
interface Counts {
  tables: number
  clusters: number
}

/** The tables of one stream. */
export class TwoLevelStream {
  readonly #disk: Disk
  readonly #runs: BlockRuns
  readonly #levels: TwoLevels
  readonly #counts: Counts

  private constructor(disk: Disk, runs: BlockRuns, levels: TwoLevels, counts: Counts) {
    this.#disk = disk
    this.#runs = runs
    this.#levels = levels
    this.#counts = counts
  }

  /** Walks the source once for the clusters and once for the tables. */
  static async plan(disk: Disk, runs: BlockRuns, levels: TwoLevels): Promise<TwoLevelStream> {
    const clusters = await runs.count()
    let tables = 0
    for await (const _ of tableNumbers(runs, levels.entries)) tables++
    return new TwoLevelStream(disk, runs, levels, { tables, clusters })
  }

  get clusters(): number {
    return this.#counts.clusters
  }

  /** Bytes of the whole image. */
  get length(): number {
    return this.#firstCluster + this.#counts.clusters * this.#levels.clusterSize
  }

  get #firstCluster(): number {
    return this.#levels.firstTable + this.#counts.tables * this.#levels.entries * entryBytes
  }

  /** The L1 table, with what lies between it and the first L2 table. */
  async *l1(signal?: AbortSignal): AsyncIterable<Uint8Array> {
    const { entries, l1Bytes, firstTable, put } = this.#levels
    const numbers = tableNumbers(this.#runs, entries, signal)
    let place = firstTable
    let next = await numbers.next()
    for (let start = 0; start < l1Bytes; start += chunkBytes) {
      const chunk = new Uint8Array(Math.min(chunkBytes, l1Bytes - start))
      const view = viewOf(chunk)
      while (next.done !== true && next.value * entryBytes < start + chunk.length) {
        put(view, next.value * entryBytes - start, place)
        place += entries * entryBytes
        next = await numbers.next()
      }
      yield chunk
    }
  }

  /** The L2 tables that are needed, in chunks.
   *  @throws MoraineError `io` when the source has changed since it was planned. */
  async *l2(signal?: AbortSignal): AsyncIterable<Uint8Array> {
    const { clusterSize, entries, put } = this.#levels
    const chunkEntries = Math.min(chunkBytes / entryBytes, entries)
    let place = this.#firstCluster
    let made = 0
    let number = -1
    /** Chunks of the table `number` that were handed on. */
    let chunks = 0
    let bytes = new Uint8Array(0)
    const finish = function* (upTo: number): Generator<Uint8Array> {
      for (; number >= 0 && chunks < upTo; chunks++) {
        yield bytes
        bytes = new Uint8Array(chunkEntries * entryBytes)
      }
    }
    for await (const { first, count } of this.#runs.walk(signal)) {
      for (let block = first; block < first + count; block++) {
        if (Math.floor(block / entries) !== number) {
          yield* finish(entries / chunkEntries)
          number = Math.floor(block / entries)
          bytes = new Uint8Array(chunkEntries * entryBytes)
          chunks = 0
          made++
        }
        const index = block % entries
        yield* finish(Math.floor(index / chunkEntries))
        put(viewOf(bytes), (index % chunkEntries) * entryBytes, place)
        place += clusterSize
      }
    }
    yield* finish(entries / chunkEntries)
    if (made !== this.#counts.tables || place !== this.length) throw changedSource(this.#disk)
  }
}

/** The numbers of the L2 tables that are needed, ascending. */
async function* tableNumbers(runs: BlockRuns, entries: number, signal?: AbortSignal): AsyncGenerator<number> {
  let done = -1
  for await (const { first, count } of runs.walk(signal)) {
    const last = Math.floor((first + count - 1) / entries)
    for (let table = Math.max(done + 1, Math.floor(first / entries)); table <= last; table++) yield table
    done = last
  }
}
