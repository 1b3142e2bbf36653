/** How large the files of a VMDK get. */

import { roundUp } from '../../bytes/integers.ts'
import type { Disk } from '../../core/index.ts'
import { BlockRuns } from '../block-runs.ts'
import type { Measure, MeasureRequest } from '../format.ts'
import { measureByStream, refuseBacking, uniformDisk } from '../measure-stream.ts'
import { splitBytes } from './create.ts'
import { grainMarkerBytes, newShape, sectorBytes } from './layout.ts'
import { layOut, newGrainBytes } from './new-extent.ts'
import { planOptions, type VmdkPlan } from './options.ts'
import { storedZlib } from './packed-grains.ts'
import { streamVmdk } from './stream.ts'

/** What a descriptor file takes at most: a line of less than 320 bytes for each extent, whose name has 255 at most, and less than 1024 for the rest. */
const descriptorBytes = (extents: number): number => 1024 + extents * 320

/** Bytes of all files together. Exact for monolithicSparse. Of several files the descriptor, and of compressed grains each, counts with the most that it can take.
 *  @throws MoraineError as `planOptions`; `unsupported` over a backing file. */
export async function measureVmdk(request: MeasureRequest): Promise<Measure> {
  const { source, options, signal } = request
  refuseBacking(options, 'vmdk')
  const plan = planOptions(options)
  if (!plan.flat && !plan.split && !plan.compressed) return measureByStream(streamVmdk, request, 'vmdk')
  const size = source?.size ?? roundUp(request.size, sectorBytes)
  const of = (disk: Disk): Promise<number> => bytesOf(plan, disk, signal)
  const measure = {
    required: await of(source ?? uniformDisk(size, false)),
    fullyAllocated: await of(uniformDisk(size, true)),
  }
  return plan.compressed ? { ...measure, atMost: true } : measure
}

async function bytesOf(plan: VmdkPlan, disk: Disk, signal: AbortSignal | undefined): Promise<number> {
  const { size } = disk
  if (plan.compressed) return packedBytes(plan, disk, signal)
  const extents = plan.split ? Math.ceil(size / splitBytes) : 1
  if (plan.flat) return size + descriptorBytes(extents)
  let bytes = descriptorBytes(extents) + (await new BlockRuns(disk, newGrainBytes).count()) * newGrainBytes
  for (let start = 0; start < size; start += splitBytes) {
    bytes += layOut(Math.min(splitBytes, size - start), plan).header.overhead * sectorBytes
  }
  return bytes
}

/** Grains that do not shrink, a table and its marker for each stretch of them, and what stands at either end. */
async function packedBytes(plan: VmdkPlan, disk: Disk, signal: AbortSignal | undefined): Promise<number> {
  const { tables, header } = layOut(disk.size, plan)
  const longest = roundUp(grainMarkerBytes + storedZlib(new Uint8Array(newGrainBytes)).length, sectorBytes)
  let grains = 0
  for await (const { count } of new BlockRuns(disk, newGrainBytes).walk(signal)) grains += count
  const table = sectorBytes + newShape.tableEntries * 4
  const ends = 5 * sectorBytes + roundUp(tables * 4, sectorBytes)
  return header.overhead * sectorBytes + grains * longest + tables * table + ends
}
