/** A VDI image written front to back, for pipes and sockets: header, block map, then the blocks that hold data in guest order. What is data follows
 *  from the extents of the source, which are walked once for each part, so that memory stays bounded at any size. */

import { viewOf } from '../../bytes/integers.ts'
import type { Disk } from '../../core/index.ts'
import { BlockRuns, blockChunks, changedSource } from '../block-runs.ts'
import type { StreamPlan } from '../format.ts'
import { newGuid } from '../new-guid.ts'
import type { OptionValues } from '../options.ts'
import { mapChunks } from './create.ts'
import { encodeHeader, newHeader } from './layout.ts'
import { resolveVdiOptions } from './options.ts'

/** Plans `disk` as a VDI image; a static one has every block.
 *  @throws MoraineError `invalid` for a size that no VDI has. */
export async function streamVdi(disk: Disk, options: OptionValues): Promise<StreamPlan> {
  const fixed = resolveVdiOptions(BigInt(disk.size), options).static === true
  const header = newHeader(disk.size, fixed, { image: newGuid(), modification: newGuid() })
  const { blockSize, blocks, dataOffset } = header
  const runs = new BlockRuns(disk, blockSize, fixed)
  if (!fixed) header.blocksAllocated = await runs.count()
  const used = fixed ? blocks : header.blocksAllocated
  return {
    length: dataOffset + used * blockSize,
    async *chunks(signal) {
      yield encodeHeader(header).slice()
      if (fixed) yield* mapChunks(header, (block) => block)
      else yield* sparseMap(mapChunks(header), runs, used, disk, signal)
      yield* blockChunks(disk, runs, blockSize, used, signal)
    },
  }
}

/** The map with places filled in, block after block. */
async function* sparseMap(
  chunks: Iterable<Uint8Array>,
  runs: BlockRuns,
  used: number,
  disk: Disk,
  signal: AbortSignal | undefined,
): AsyncIterable<Uint8Array> {
  const walk = runs.walk(signal)[Symbol.asyncIterator]()
  let run = await walk.next()
  let index = 0
  let start = 0
  for (const chunk of chunks) {
    const view = viewOf(chunk)
    const end = start + chunk.length / 4
    while (run.done !== true && run.value.first < end) {
      const { first, count } = run.value
      const stop = Math.min(end, first + count)
      for (let block = Math.max(start, first); block < stop; block++) view.setUint32((block - start) * 4, index++, true)
      if (stop < first + count) break
      run = await walk.next()
    }
    start = end
    yield chunk
  }
  if (index !== used) throw changedSource(disk)
}
