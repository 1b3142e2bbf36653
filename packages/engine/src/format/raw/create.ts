/** Creating and measuring raw images. */
import { type Preallocation, retelling } from '../../core/index.ts'
import { takeFirstBlock } from '../first-block.ts'
import type { CreatePlan, CreateTarget, Measure, MeasureRequest } from '../format.ts'

/** Sizes the store; on a device it only checks that the disk fits, as a device keeps its size. */
export async function createRaw(target: CreateTarget, plan: CreatePlan): Promise<void> {
  const mode = (plan.options.preallocation as Preallocation | undefined) ?? 'off'
  const isNew = target.store.size === 0
  const resize = (): Promise<void> => target.store.resize(plan.size, mode)
  await (mode === 'off' ? retelling((reason) => `Could not resize file: ${reason}`, resize) : resize())
  if (isNew && mode === 'off') await takeFirstBlock(target.store, plan.size)
}

/** A raw target needs the whole virtual size, holes included, in whole sectors of 512. */
export async function measureRaw(request: MeasureRequest): Promise<Measure> {
  const size = Math.ceil((request.source?.size ?? request.size) / 512) * 512
  return { required: size, fullyAllocated: size }
}
