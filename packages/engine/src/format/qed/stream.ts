/** A QED image written front to back, for pipes and sockets: header, L1 table, the L2 tables, then the clusters that hold data in guest order. */
import { setU64le } from '../../bytes/integers.ts'
import type { Disk } from '../../core/index.ts'
import { BlockRuns, blockChunks } from '../block-runs.ts'
import type { StreamPlan } from '../format.ts'
import type { OptionValues } from '../options.ts'
import { TwoLevelStream } from '../two-level-stream.ts'
import { encodeHeader, geometryOf, newHeader } from './layout.ts'
import { layoutOptions } from './options.ts'

/** Plans `disk` as a QED image.
 *  @throws MoraineError `invalid` for sizes that do not fit. */
export async function streamQed(disk: Disk, options: OptionValues): Promise<StreamPlan> {
  const header = newHeader(disk.size, layoutOptions(disk.size, options, disk.name))
  const { clusterSize } = header
  const { entries, tableBytes } = geometryOf(header)
  const runs = new BlockRuns(disk, clusterSize)
  const firstTable = header.l1Offset + tableBytes
  const tables = await TwoLevelStream.plan(disk, runs, {
    clusterSize,
    entries,
    l1Bytes: tableBytes,
    firstTable,
    put: setU64le,
  })
  return {
    length: tables.length,
    async *chunks(signal) {
      const head = new Uint8Array(clusterSize)
      head.set(encodeHeader(header))
      yield head
      yield* tables.l1(signal)
      yield* tables.l2(signal)
      yield* blockChunks(disk, runs, clusterSize, tables.clusters, signal)
    },
  }
}
