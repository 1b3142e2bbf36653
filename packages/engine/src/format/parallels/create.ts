/** Creating a Parallels image. The layout is that of `qemu-img create` 7.2: the extended kind, its table in whole clusters. */
import { retelling } from '../../core/index.ts'
import type { CreatePlan, CreateTarget } from '../format.ts'
import { encodeHeader, newHeader } from './layout.ts'
import { clusterSizeOf } from './options.ts'

/** Writes a new, empty image into the target's store.
 *  @throws MoraineError `invalid` for a cluster size that does not fit. */
export async function createParallels({ store }: CreateTarget, plan: CreatePlan): Promise<void> {
  const header = newHeader(plan.size, clusterSizeOf(plan.size, plan.options, store.name))
  if (store.kind === 'device') await store.zero(0, header.dataOffset, 'unmap')
  else {
    if (store.size > 0) await store.resize(0)
    await retelling(
      (reason) => `Failed to create Parallels image: ${reason}`,
      () => store.resize(header.dataOffset),
    )
    // The table takes its space at once, as in QEMU.
    if (header.dataOffset > 512) await store.zero(512, header.dataOffset - 512, 'allocate')
  }
  await store.flush()
  // Cut short, there is no image yet.
  await store.write(0, encodeHeader(header).slice())
  await store.flush()
}
