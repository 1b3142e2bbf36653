/** A QED image written front to back, for pipes and sockets: header, L1 table, the L2 tables, then the clusters that hold data in guest order. The extents of the
 *  source are walked once for each part, so that memory stays bounded at any size. */
import { setU64le, viewOf } from '../../bytes/integers.ts'
import type { Disk } from '../../core/index.ts'
import { BlockRuns, blockChunks, changedSource } from '../block-runs.ts'
import type { StreamPlan } from '../format.ts'
import type { OptionValues } from '../options.ts'
import { encodeHeader, geometryOf, newHeader } from './layout.ts'
import { layoutOptions } from './options.ts'

const chunkBytes = 1024 * 1024

/** Plans `disk` as a QED image.
 *  @throws MoraineError `invalid` for sizes that do not fit. */
export async function streamQed(disk: Disk, options: OptionValues): Promise<StreamPlan> {
  const header = newHeader(disk.size, layoutOptions(disk.size, options, disk.name))
  const { clusterSize } = header
  const { entries, tableBytes } = geometryOf(header)
  const runs = new BlockRuns(disk, clusterSize)
  const clusters = await runs.count()
  let tables = 0
  for await (const _ of tableNumbers(runs, entries)) tables++
  const firstTable = header.l1Offset + tableBytes
  const firstCluster = firstTable + tables * tableBytes
  return {
    length: firstCluster + clusters * clusterSize,
    async *chunks(signal) {
      const head = new Uint8Array(clusterSize)
      head.set(encodeHeader(header))
      yield head
      yield* l1Chunks(tableNumbers(runs, entries, signal), firstTable, tableBytes)
      yield* l2Chunks(disk, runs, { tables, clusters, firstCluster, clusterSize, entries }, signal)
      yield* blockChunks(disk, runs, clusterSize, clusters, signal)
    },
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

/** The L1 table; the tables that it points at lie one after the other. */
async function* l1Chunks(
  numbers: AsyncGenerator<number>,
  firstTable: number,
  tableBytes: number,
): AsyncIterable<Uint8Array> {
  let place = firstTable
  let next = await numbers.next()
  for (let start = 0; start < tableBytes; start += chunkBytes) {
    const chunk = new Uint8Array(Math.min(chunkBytes, tableBytes - start))
    const view = viewOf(chunk)
    while (next.done !== true && next.value * 8 < start + chunk.length) {
      setU64le(view, next.value * 8 - start, place)
      place += tableBytes
      next = await numbers.next()
    }
    yield chunk
  }
}

interface Places {
  tables: number
  clusters: number
  firstCluster: number
  clusterSize: number
  /** Of one table. */
  entries: number
}

/** The L2 tables that are needed, one after the other, in chunks. */
async function* l2Chunks(disk: Disk, runs: BlockRuns, places: Places, signal?: AbortSignal): AsyncIterable<Uint8Array> {
  const { clusterSize, entries } = places
  const chunkEntries = Math.min(chunkBytes / 8, entries)
  let place = places.firstCluster
  let made = 0
  let number = -1
  /** Chunks of the table `number` that were handed on. */
  let chunks = 0
  let bytes = new Uint8Array(0)
  const finish = function* (upTo: number): Generator<Uint8Array> {
    for (; number >= 0 && chunks < upTo; chunks++) {
      yield bytes
      bytes = new Uint8Array(chunkEntries * 8)
    }
  }
  for await (const { first, count } of runs.walk(signal)) {
    for (let block = first; block < first + count; block++) {
      if (Math.floor(block / entries) !== number) {
        yield* finish(entries / chunkEntries)
        number = Math.floor(block / entries)
        bytes = new Uint8Array(chunkEntries * 8)
        chunks = 0
        made++
      }
      const index = block % entries
      yield* finish(Math.floor(index / chunkEntries))
      setU64le(viewOf(bytes), (index % chunkEntries) * 8, place)
      place += clusterSize
    }
  }
  yield* finish(entries / chunkEntries)
  if (made !== places.tables || place !== places.firstCluster + places.clusters * clusterSize) throw changedSource(disk)
}
