/** A monolithicSparse VMDK written front to back, for pipes and sockets: header, descriptor, both directories with their tables, then the grains that hold data in
 *  guest order. What is data follows from the extents of the source, which are walked once for each part, so that memory stays bounded at any size. */
import { viewOf } from '../../bytes/integers.ts'
import { type Disk, MoraineError } from '../../core/index.ts'
import { BlockRuns, blockChunks, changedSource } from '../block-runs.ts'
import type { StreamPlan } from '../format.ts'
import type { OptionValues } from '../options.ts'
import { describe } from './create.ts'
import { noParent, writeDescriptor } from './descriptor.ts'
import { encodeSparseHeader, newShape, sectorBytes } from './layout.ts'
import { directoryChunks, layOut, type NewExtent, newGrainBytes } from './new-extent.ts'
import { planOptions, type VmdkPlan } from './options.ts'

const chunkBytes = 1024 * 1024
const tableBytes = newShape.tableEntries * 4

/** The name that the descriptor of a stream has for its extent: nobody knows where the stream ends up, and readers take the file itself. */
export const streamName = 'disk.vmdk'

/** Plans `disk` as a VMDK that stands alone in one file.
 *  @throws MoraineError `unsupported` for subformats that are several files or have a parent, `invalid` for contradicting options. */
export async function streamVmdk(disk: Disk, options: OptionValues): Promise<StreamPlan> {
  const plan = streamOptions(options)
  const extent = layOut(disk.size, plan)
  const runs = new BlockRuns(disk, newGrainBytes)
  const grains = await runs.count()
  const { overhead } = extent.header
  if (overhead + grains * newShape.grainSectors > 2 ** 32) {
    throw new MoraineError('limit', 'the extent is full: its tables cannot point past 2 TiB', {
      format: 'vmdk',
      field: 'grain table',
      value: grains,
      hint: 'write to files with subformat=twoGbMaxExtentSparse',
    })
  }
  return {
    length: overhead * sectorBytes + grains * newGrainBytes,
    async *chunks(signal) {
      yield head(plan, extent, disk.size)
      for (const sector of [extent.header.redundantDirectory, extent.header.directory as number]) {
        yield* directoryChunks(extent, sector)
        yield* tableChunks(disk, runs, extent, grains, signal)
      }
      const { directory, directorySectors, tables } = { ...extent, ...extent.header }
      const end = (directory as number) + directorySectors + (tables * tableBytes) / sectorBytes
      if (end < overhead) yield new Uint8Array((overhead - end) * sectorBytes)
      yield* blockChunks(disk, runs, newGrainBytes, grains, signal)
    },
  }
}

/** The options of a stream.
 *  @throws MoraineError `unsupported` for what needs several files, or a file that can be written anywhere. */
export function streamOptions(options: OptionValues): VmdkPlan {
  const refuse = (field: string, what: string): never => {
    throw new MoraineError('unsupported', `${what} cannot be written front to back`, {
      format: 'vmdk',
      field,
      hint: 'write to a file, or choose monolithicSparse or streamOptimized',
    })
  }
  if (options.backing_file !== undefined) refuse('backing_file', 'an image over another one')
  const plan = planOptions(options)
  if (plan.flat || plan.split) refuse('subformat', `subformat '${plan.subformat}', which is more than one file,`)
  return plan
}

/** Header and descriptor, up to the first directory. */
function head(plan: VmdkPlan, { header }: NewExtent, size: number): Uint8Array {
  const bytes = new Uint8Array(header.redundantDirectory * sectorBytes)
  bytes.set(encodeSparseHeader(header))
  bytes.set(streamDescriptor(plan, size), sectorBytes)
  return bytes
}

/** The descriptor of a streamed image. */
export function streamDescriptor(plan: VmdkPlan, size: number, access: 'RW' | 'RDONLY' = 'RW'): Uint8Array {
  const extents = [{ access, sectors: size / sectorBytes, type: 'SPARSE' as const, name: streamName }]
  return writeDescriptor(describe(plan, extents, size, { parentCid: noParent, parentName: undefined }))
}

/** The grain tables, one behind the other. */
async function* tableChunks(
  disk: Disk,
  runs: BlockRuns,
  { tables, header }: NewExtent,
  grains: number,
  signal: AbortSignal | undefined,
): AsyncIterable<Uint8Array> {
  const length = tables * tableBytes
  const walk = runs.walk(signal)[Symbol.asyncIterator]()
  let run = await walk.next()
  let sector = header.overhead
  for (let start = 0; start < length; start += chunkBytes) {
    const chunk = new Uint8Array(Math.min(chunkBytes, length - start))
    const view = viewOf(chunk)
    const first = start / 4
    const end = first + chunk.length / 4
    while (run.done !== true && run.value.first < end) {
      const runEnd = run.value.first + run.value.count
      const stop = Math.min(end, runEnd)
      for (let grain = Math.max(first, run.value.first); grain < stop; grain++) {
        view.setUint32((grain - first) * 4, sector, true)
        sector += newShape.grainSectors
      }
      if (stop < runEnd) break
      run = await walk.next()
    }
    yield chunk
  }
  if (sector !== header.overhead + grains * newShape.grainSectors) throw changedSource(disk)
}
