/** A VHD written front to back, for pipes and sockets: a fixed one as the guest's bytes and the footer; a dynamic one as footer copy, header, table, the
 *  blocks that hold data in guest order, footer. What is data follows from the extents of the source. */
import { divideUp, roundUp, viewOf } from '../../bytes/integers.ts'
import { type Disk, throwIfCancelled } from '../../core/index.ts'
import { BlockRuns, blockChunks, changedSource } from '../block-runs.ts'
import type { StreamPlan } from '../format.ts'
import type { OptionValues } from '../options.ts'
import { extentChunks } from '../raw/stream.ts'
import { emptyTable, firstBlockOf } from './create.ts'
import { defaultBlockSize, footerBytes, type NewVhd, newDynamicHeader, newFooter, sectorBytes } from './layout.ts'
import { planVhd } from './options.ts'

const chunkBytes = 1024 * 1024

/** Plans `disk` as a VHD; its size may become larger: see `force_size`.
 *  @throws MoraineError `invalid` for options that do not fit, `limit` past 2040 GiB. */
export async function streamVhd(disk: Disk, options: OptionValues): Promise<StreamPlan> {
  const image = planVhd(disk.size, options)
  if (image.fixed) {
    return { length: image.size + footerBytes, chunks: (signal) => fixedChunks(disk, image, signal) }
  }
  const runs = new BlockRuns(disk, defaultBlockSize)
  const blocks = await runs.count()
  const bitmap = new Uint8Array(roundUp(defaultBlockSize / sectorBytes / 8, sectorBytes)).fill(0xff)
  const entries = divideUp(image.size, defaultBlockSize)
  return {
    length: firstBlockOf(entries) + blocks * (bitmap.length + defaultBlockSize) + footerBytes,
    async *chunks(signal) {
      const footer = newFooter(image)
      yield footer
      yield newDynamicHeader(entries)
      yield* filledTable(disk, runs, entries, blocks, bitmap.length, signal)
      yield* blockChunks(disk, runs, defaultBlockSize, blocks, signal, bitmap)
      yield footer
    },
  }
}

async function* fixedChunks(disk: Disk, image: NewVhd, signal: AbortSignal | undefined): AsyncIterable<Uint8Array> {
  if (disk.size > 0) {
    for await (const batch of disk.extents(0, disk.size, signal)) {
      for (const extent of batch) yield* extentChunks(disk, extent, signal)
    }
  }
  for (let at = disk.size; at < image.size; at += chunkBytes) {
    throwIfCancelled(signal, disk.name)
    yield new Uint8Array(Math.min(chunkBytes, image.size - at))
  }
  yield newFooter(image)
}

/** The table with the sectors of the blocks, one behind the other. */
async function* filledTable(
  disk: Disk,
  runs: BlockRuns,
  entries: number,
  blocks: number,
  bitmapBytes: number,
  signal: AbortSignal | undefined,
): AsyncIterable<Uint8Array> {
  const walk = runs.walk(signal)
  let run = await walk.next()
  const stride = (bitmapBytes + defaultBlockSize) / sectorBytes
  const first = firstBlockOf(entries) / sectorBytes
  let placed = 0
  let start = 0
  for (const chunk of emptyTable(entries)) {
    const view = viewOf(chunk)
    const end = start + chunk.length / 4
    while (run.done !== true && run.value.first < end) {
      const stop = Math.min(end, run.value.first + run.value.count)
      for (let block = Math.max(start, run.value.first); block < stop; block++) {
        view.setUint32((block - start) * 4, first + placed++ * stride)
      }
      if (stop < run.value.first + run.value.count) break
      run = await walk.next()
    }
    start = end
    yield chunk
  }
  if (placed !== blocks) throw changedSource(disk)
}
