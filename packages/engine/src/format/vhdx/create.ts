/** Creating a VHDX image, fixed, dynamic or over another one. */
import { roundUp } from '../../bytes/integers.ts'
import { isZero } from '../../bytes/zero.ts'
import { MoraineError, throwIfCancelled } from '../../core/index.ts'
import type { CreatePlan, CreateTarget } from '../format.ts'
import { VhdxDisk } from './disk.ts'
import { places } from './layout.ts'
import { encodeHead, encodeRegionTables, type NewParent, planImage, tableChunks } from './new-image.ts'
import { planOptions } from './options.ts'

/** Writes a new, empty image into the target's store. Over a backing disk, which must be an opened VHDX, it is a differencing image.
 *  @throws MoraineError `invalid` for options that do not fit, `unsupported` for a disk that no VHDX can stand on. */
export async function createVhdx({ store }: CreateTarget, plan: CreatePlan): Promise<void> {
  const parent = plan.backing === undefined ? undefined : parentOf(plan.backing, plan.size)
  const asked = planOptions(BigInt(plan.size), plan.options)
  if (parent !== undefined && asked.fixed) {
    throw new MoraineError('unsupported', 'a fixed image stands on no other', { format: 'vhdx', field: 'subformat' })
  }
  const given = plan.options.block_size !== undefined && plan.options.block_size !== 0n
  const options = parent === undefined || given ? asked : { ...asked, blockSize: parent.metadata.blockSize }
  const size = roundUp(plan.size, parent?.metadata.logicalSector ?? 512)
  const image = planImage(size, options, parent)
  const { geometry, table, metadata, dataOffset } = image
  const end = dataOffset + (options.fixed ? geometry.blocks * geometry.blockSize : 0)
  if (store.kind === 'device') await store.zero(0, Math.min(end, store.size), 'unmap')
  else {
    if (store.size > 0) await store.resize(0)
    await store.resize(end)
  }
  const inPlace = options.fixed && !options.zeroState
  const offsetOf = inPlace ? (block: number) => dataOffset + block * geometry.blockSize : () => undefined
  let at = table.offset
  for (const chunk of tableChunks(image, offsetOf)) {
    if (at >= table.offset + geometry.entries * 8) break
    throwIfCancelled(plan.signal, store.name)
    if (!isZero(chunk)) await store.write(at, chunk)
    at += chunk.length
  }
  await store.write(metadata.offset, image.metadataBytes)
  await store.write(places.regionTables[0], encodeRegionTables(image))
  await store.flush()
  // Cut short, there is no image yet.
  await store.write(0, encodeHead(image))
  await store.flush()
}

function parentOf({ name, disk }: NonNullable<CreatePlan['backing']>, size: number): NewParent {
  const refuse = (field: string, rule: string) =>
    new MoraineError('unsupported', `'${name}' cannot be the parent of a VHDX image`, { format: 'vhdx', field, rule })
  if (!(disk instanceof VhdxDisk)) throw refuse('parent', 'an opened VHDX image')
  if (disk.size > size) throw refuse('virtual disk size', `at most that of the new image, ${size}`)
  const { metadata, headers } = disk.image
  return { name, dataWriteGuid: headers.current.dataWriteGuid, metadata }
}
