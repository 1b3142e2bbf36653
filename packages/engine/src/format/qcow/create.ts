/** Creating a qcow image. The layout is that of `qemu-img create` 7.2: header, name of the backing file, L1 table in blocks of 512. */

import { roundUp } from '../../bytes/integers.ts'
import { encodeName } from '../../bytes/name-text.ts'
import { MoraineError } from '../../core/index.ts'
import type { CreatePlan, CreateTarget } from '../format.ts'
import { secretOf } from '../key-secret.ts'
import { encodeHeader, geometryOf, headerBytes, mostNameBytes, newHeader, type QcowHeader } from './layout.ts'
import { asksForEncryption, checkSize } from './options.ts'

/** Writes a new, empty image into the target's store.
 *  @throws MoraineError `invalid` for a size of nothing or too long a name, `limit` for an L1 table that nobody reads. */
export async function createQcow({ store, secrets }: CreateTarget, plan: CreatePlan): Promise<void> {
  checkSize(plan.size, store.name)
  const encrypts = asksForEncryption(plan.options)
  if (encrypts) {
    const id = plan.options['encrypt.key-secret'] as string | undefined
    secretOf(secrets, id, 'encrypt.key-secret', { path: store.name, format: 'qcow' })
  }
  const name = encodeName(plan.backing?.name ?? '')
  if (name.length > mostNameBytes) {
    throw new MoraineError('invalid', 'Backing file name too long', {
      path: store.name,
      format: 'qcow',
      field: 'backing_file',
      value: name.length,
      rule: `at most ${mostNameBytes} bytes`,
    })
  }
  const header = planHeader(plan.size, name.length, store.name)
  if (encrypts) header.cryptMethod = 1
  const end = endOfL1(header)
  if (store.kind === 'device') await store.zero(0, end, 'unmap')
  else {
    if (store.size > 0) await store.resize(0)
    await store.resize(end)
  }
  if (name.length > 0) await store.write(headerBytes, name)
  await store.flush()
  // Cut short, there is no image yet.
  await store.write(0, encodeHeader(header))
  await store.flush()
}

/** The header of a new image.
 *  @throws MoraineError `limit` for a size whose L1 table would pass 2 GiB. */
export function planHeader(size: number, nameBytes: number, path: string): QcowHeader {
  const header = newHeader(size, nameBytes)
  const { l1Entries } = geometryOf(header)
  if (l1Entries > 0x7fff_ffff / 8) {
    const place = { path, format: 'qcow', field: 'size', value: size, rule: 'an L1 table of at most 2 GiB' }
    throw new MoraineError('limit', 'Image too large', place)
  }
  return header
}

/** Byte offset where the L1 table of a new image ends, in the blocks that QEMU writes. */
export function endOfL1(header: QcowHeader): number {
  return header.l1Offset + roundUp(geometryOf(header).l1Entries * 8, 512)
}
