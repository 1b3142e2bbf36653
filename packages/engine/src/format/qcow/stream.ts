/** A qcow image written front to back, for pipes and sockets: header, L1 table, the L2 tables, then the clusters that hold data in guest order. */
import { roundUp, setU64be } from '../../bytes/integers.ts'
import type { Disk } from '../../core/index.ts'
import { BlockRuns, blockChunks } from '../block-runs.ts'
import type { StreamPlan } from '../format.ts'
import type { OptionValues } from '../options.ts'
import { TwoLevelStream } from '../two-level-stream.ts'
import { endOfL1, planHeader } from './create.ts'
import { encodeHeader, geometryOf } from './layout.ts'
import { checkSize, refuseEncryption } from './options.ts'

/** Plans `disk` as a qcow image.
 *  @throws MoraineError `invalid` for a size of nothing, `limit` for one that no qcow has, `unsupported` for encryption. */
export async function streamQcow(disk: Disk, options: OptionValues): Promise<StreamPlan> {
  refuseEncryption(options)
  checkSize(disk.size, disk.name)
  const header = planHeader(disk.size, 0, disk.name)
  const { clusterSize, l2Entries } = geometryOf(header)
  const runs = new BlockRuns(disk, clusterSize)
  const firstTable = roundUp(endOfL1(header), clusterSize)
  const l1Bytes = firstTable - header.l1Offset
  const tables = await TwoLevelStream.plan(disk, runs, {
    clusterSize,
    entries: l2Entries,
    l1Bytes,
    firstTable,
    put: setU64be,
  })
  return {
    length: tables.length,
    async *chunks(signal) {
      const head = new Uint8Array(header.l1Offset)
      head.set(encodeHeader(header))
      yield head
      yield* tables.l1(signal)
      yield* tables.l2(signal)
      yield* blockChunks(disk, runs, clusterSize, tables.clusters, signal)
    },
  }
}
