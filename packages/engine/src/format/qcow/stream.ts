/** A qcow image written front to back, for pipes and sockets: header, L1 table, the L2 tables, then the clusters that hold data in guest order. The extents of the
 *  source are walked once for each part, so that memory stays bounded at any size. */
import { roundUp, setU64be, viewOf } from '../../bytes/integers.ts'
import type { Disk } from '../../core/index.ts'
import { BlockRuns, blockChunks, changedSource } from '../block-runs.ts'
import type { StreamPlan } from '../format.ts'
import type { OptionValues } from '../options.ts'
import { endOfL1, planHeader } from './create.ts'
import { encodeHeader, geometryOf } from './layout.ts'
import { checkSize } from './options.ts'

const chunkBytes = 1024 * 1024

/** Plans `disk` as a qcow image.
 *  @throws MoraineError `invalid` for a size of nothing, `limit` for one that no qcow has. */
export async function streamQcow(disk: Disk, _options: OptionValues): Promise<StreamPlan> {
  checkSize(disk.size, disk.name)
  const header = planHeader(disk.size, 0, disk.name)
  const { clusterSize, l2Bytes, l2Entries } = geometryOf(header)
  const runs = new BlockRuns(disk, clusterSize)
  const clusters = await runs.count()
  let tables = 0
  for await (const _ of tableNumbers(runs, l2Entries)) tables++
  const firstTable = roundUp(endOfL1(header), clusterSize)
  const firstCluster = firstTable + tables * l2Bytes
  return {
    length: firstCluster + clusters * clusterSize,
    async *chunks(signal) {
      const head = new Uint8Array(header.l1Offset)
      head.set(encodeHeader(header))
      yield head
      yield* l1Chunks(tableNumbers(runs, l2Entries, signal), firstTable - header.l1Offset, firstTable, l2Bytes)
      const places = { tables, clusters, firstCluster, clusterSize, l2Entries }
      yield* l2Tables(disk, runs, places, signal)
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

/** The L1 table, and zeros up to `length` bytes. */
async function* l1Chunks(
  numbers: AsyncGenerator<number>,
  length: number,
  firstTable: number,
  l2Bytes: number,
): AsyncIterable<Uint8Array> {
  let place = firstTable
  let next = await numbers.next()
  for (let start = 0; start < length; start += chunkBytes) {
    const chunk = new Uint8Array(Math.min(chunkBytes, length - start))
    const view = viewOf(chunk)
    while (next.done !== true && next.value * 8 < start + chunk.length) {
      setU64be(view, next.value * 8 - start, place)
      place += l2Bytes
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
  l2Entries: number
}

/** The L2 tables that are needed, one after the other. */
async function* l2Tables(disk: Disk, runs: BlockRuns, places: Places, signal?: AbortSignal): AsyncIterable<Uint8Array> {
  const { clusterSize, l2Entries } = places
  let place = places.firstCluster
  let table: { number: number; bytes: Uint8Array; view: DataView } | undefined
  let made = 0
  for await (const { first, count } of runs.walk(signal)) {
    for (let block = first; block < first + count; block++) {
      const number = Math.floor(block / l2Entries)
      if (table?.number !== number) {
        if (table !== undefined) yield table.bytes
        const bytes = new Uint8Array(l2Entries * 8)
        table = { number, bytes, view: viewOf(bytes) }
        made++
      }
      setU64be(table.view, (block % l2Entries) * 8, place)
      place += clusterSize
    }
  }
  if (table !== undefined) yield table.bytes
  if (made !== places.tables || place !== places.firstCluster + places.clusters * clusterSize) throw changedSource(disk)
}
