/** Creating a VHDX image, fixed, dynamic or over another one. */
import { roundUp } from '../../bytes/integers.ts'
import { isZero } from '../../bytes/zero.ts'
import { type Disk, MoraineError, retelling, throwIfCancelled } from '../../core/index.ts'
import type { CreatePlan, CreateTarget, NewBacking } from '../format.ts'
import { parentPlaces, unfitParent, withParentDisk } from '../new-parent.ts'
import { VhdxDisk } from './disk.ts'
import { places } from './layout.ts'
import { encodeHead, encodeRegionTables, type NewParent, planImage, tableChunks } from './new-image.ts'
import { planOptions } from './options.ts'

/** Writes a new, empty image into the target's store. Over a backing disk, which must be a VHDX, it is a differencing image.
 *  @throws MoraineError `invalid` for options that do not fit, `unsupported` for a disk that no VHDX can stand on. */
export async function createVhdx(target: CreateTarget, plan: CreatePlan): Promise<void> {
  const { store } = target
  const { backing } = plan
  const parent =
    backing === undefined
      ? undefined
      : await withParentDisk('vhdx', target, backing, (disk) => parentOf(backing, disk, plan.size))
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
    await retelling(
      (reason) => `Could not resize file: ${reason}`,
      () => store.resize(end),
    )
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

function parentOf(backing: NewBacking, disk: Disk, size: number): NewParent {
  const { name } = backing
  if (!(disk instanceof VhdxDisk)) throw unfitParent('vhdx', name, disk.format, 'a VHDX image')
  if (disk.size > size)
    throw unfitParent('vhdx', name, `${disk.size} bytes`, `at most as large as the new image, ${size}`)
  const { metadata, headers } = disk.image
  return { ...parentPlaces(backing), dataWriteGuid: headers.current.dataWriteGuid, metadata }
}
