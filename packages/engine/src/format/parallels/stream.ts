/** A Parallels image written front to back, for pipes and sockets: header, table, then the clusters that hold data in guest order. The extents of the source are
 *  walked once for each part, so that memory stays bounded at any size. */
import { viewOf } from '../../bytes/integers.ts'
import type { Disk } from '../../core/index.ts'
import { type BlockRun, BlockRuns, blockChunks, changedSource } from '../block-runs.ts'
import type { StreamPlan } from '../format.ts'
import type { OptionValues } from '../options.ts'
import { encodeHeader, headerBytes, newHeader } from './layout.ts'
import { clusterSizeOf } from './options.ts'

const chunkBytes = 1024 * 1024

/** Plans `disk` as a Parallels image.
 *  @throws MoraineError `invalid` for a cluster size that does not fit. */
export async function streamParallels(disk: Disk, options: OptionValues): Promise<StreamPlan> {
  const header = newHeader(disk.size, clusterSizeOf(disk.size, options, disk.name))
  const { clusterSize, dataOffset } = header
  const runs = new BlockRuns(disk, clusterSize)
  const used = await runs.count()
  return {
    length: dataOffset + used * clusterSize,
    async *chunks(signal) {
      yield encodeHeader(header).slice()
      yield* tableChunks(runs.walk(signal), dataOffset - headerBytes, dataOffset / clusterSize, used, disk)
      yield* blockChunks(disk, runs, clusterSize, used, signal)
    },
  }
}

/** The table, and the zeros behind it, `length` bytes in all. */
async function* tableChunks(
  runs: AsyncGenerator<BlockRun>,
  length: number,
  firstPlace: number,
  used: number,
  disk: Disk,
): AsyncIterable<Uint8Array> {
  let place = firstPlace
  let run = await runs.next()
  for (let start = 0; start < length; start += chunkBytes) {
    const chunk = new Uint8Array(Math.min(chunkBytes, length - start))
    const view = viewOf(chunk)
    const end = (start + chunk.length) / 4
    while (run.done !== true && run.value.first < end) {
      const { first, count } = run.value
      const stop = Math.min(end, first + count)
      for (let at = Math.max(start / 4, first); at < stop; at++) view.setUint32(at * 4 - start, place++, true)
      if (stop < first + count) break
      run = await runs.next()
    }
    yield chunk
  }
  if (place !== firstPlace + used) throw changedSource(disk)
}
