/** A VHDX image written front to back, for pipes and sockets: headers, table, metadata, then the blocks that hold data in guest order. What is data
 *  follows from the extents of the source, which are walked once for each part, so that memory stays bounded at any size. */

import { setU64le, viewOf } from '../../bytes/integers.ts'
import { type Disk, MoraineError } from '../../core/index.ts'
import { type BlockRun, BlockRuns, blockChunks, changedSource } from '../block-runs.ts'
import type { StreamPlan } from '../format.ts'
import type { OptionValues } from '../options.ts'
import { blockState, mib } from './layout.ts'
import { encodeHead, encodeRegionTables, type NewImage, planImage, tableChunks } from './new-image.ts'
import { planOptions } from './options.ts'

/** Plans `disk` as a VHDX image; a fixed one has every block.
 *  @throws MoraineError `invalid` for options that do not fit. */
export async function streamVhdx(disk: Disk, options: OptionValues): Promise<StreamPlan> {
  const plan = planOptions(BigInt(disk.size), options)
  if (plan.fixed && plan.zeroState) {
    const reason = 'a fixed image of blocks that are not in place cannot be written front to back'
    throw new MoraineError('unsupported', reason, { format: 'vhdx', field: 'block_state_zero' })
  }
  const image = planImage(disk.size, plan)
  const { blockSize } = image.geometry
  const runs = new BlockRuns(disk, blockSize, plan.fixed)
  const used = plan.fixed ? image.geometry.blocks : await runs.count()
  return {
    length: image.dataOffset + used * blockSize,
    async *chunks(signal) {
      const head = encodeHead(image)
      yield head
      const tables = encodeRegionTables(image)
      yield tables
      yield* zeros(image.table.offset - head.length - tables.length)
      yield* filledTable(image, runs, used, disk, signal)
      yield image.metadataBytes
      yield* zeros(image.dataOffset - image.metadata.offset - image.metadataBytes.length)
      yield* blockChunks(disk, runs, blockSize, used, signal)
    },
  }
}

function* zeros(length: number): Iterable<Uint8Array> {
  const unit = new Uint8Array(Math.min(mib, length))
  for (let done = 0; done < length; done += unit.length) yield unit.subarray(0, Math.min(unit.length, length - done))
}

/** The table with places filled in, block after block. */
async function* filledTable(
  image: NewImage,
  runs: BlockRuns,
  used: number,
  disk: Disk,
  signal: AbortSignal | undefined,
): AsyncIterable<Uint8Array> {
  const { perChunk, blockSize } = image.geometry
  const walk = runs.walk(signal)[Symbol.asyncIterator]()
  let run: BlockRun | undefined = await nextRun(walk)
  let index = 0
  let start = 0
  for (const chunk of tableChunks(image, () => undefined)) {
    const view = viewOf(chunk)
    while (run !== undefined) {
      let block: number = run.first
      const end: number = run.first + run.count
      for (; block < end; block++) {
        const at = (block + Math.floor(block / perChunk)) * 8 - start
        if (at >= chunk.length) break
        setU64le(view, at, image.dataOffset + index++ * blockSize + blockState.fullyPresent)
      }
      if (block < end) {
        run = { first: block, count: end - block }
        break
      }
      run = await nextRun(walk)
    }
    start += chunk.length
    yield chunk
  }
  if (index !== used || run !== undefined) throw changedSource(disk)
}

async function nextRun(walk: AsyncIterator<BlockRun>): Promise<BlockRun | undefined> {
  const next = await walk.next()
  return next.done === true ? undefined : next.value
}
