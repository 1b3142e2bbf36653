/** Creating a QED image. The layout is that of `qemu-img create` 7.2: one cluster for the header and the name of the backing file, then the L1 table. */
import { encodeName } from '../../bytes/name-text.ts'
import { MoraineError, retelling } from '../../core/index.ts'
import type { CreatePlan, CreateTarget } from '../format.ts'
import { encodeHeader, geometryOf, headerBytes, mostNameBytes, newHeader } from './layout.ts'
import { layoutOptions } from './options.ts'

/** Writes a new, empty image into the target's store.
 *  @throws MoraineError `invalid` for sizes that do not fit, or too long a name. */
export async function createQed({ store }: CreateTarget, plan: CreatePlan): Promise<void> {
  const sizes = layoutOptions(plan.size, plan.options, store.name)
  const name = encodeName(plan.backing?.name ?? '')
  const most = Math.min(mostNameBytes, sizes.clusterSize - headerBytes)
  if (name.length > most) {
    throw new MoraineError('invalid', 'Backing file name too long', {
      path: store.name,
      format: 'qed',
      field: 'backing_file',
      value: name.length,
      rule: `at most ${most} bytes`,
    })
  }
  const header = newHeader(plan.size, sizes, { nameBytes: name.length, raw: plan.backing?.format === 'raw' })
  const end = header.l1Offset + geometryOf(header).tableBytes
  if (store.kind === 'device') await store.zero(0, end, 'unmap')
  else {
    if (store.size > 0) await store.resize(0)
    await retelling(
      (reason) => `Could not create image: ${reason}`,
      () => store.resize(end),
    )
  }
  if (name.length > 0) await store.write(headerBytes, name)
  await store.flush()
  // Cut short, there is no image yet.
  await store.write(0, encodeHeader(header))
  await store.flush()
}
