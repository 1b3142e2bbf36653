/** Creating a VDI image. The layout is that of `qemu-img create` 7.2: header, block map, then the blocks of a static image. */

import { viewOf } from '../../bytes/integers.ts'
import { type Disk, MoraineError, throwIfCancelled } from '../../core/index.ts'
import type { CreatePlan, CreateTarget, NewBacking } from '../format.ts'
import { newGuid } from '../new-guid.ts'
import { parentPlaces, unfitParent, withParentDisk } from '../new-parent.ts'
import { VdiDisk } from './disk.ts'
import { encodeHeader, type NewVdiParent, newHeader, type VdiHeader } from './layout.ts'
import { resolveVdiOptions } from './options.ts'

const chunkBytes = 1024 * 1024

/** Writes a new, empty image into the target's store. Over a backing disk, which must be a VDI, it is a differencing image.
 *  @throws MoraineError `invalid` for a size that no VDI has, `unsupported` for a disk that no VDI can stand over. */
export async function createVdi(target: CreateTarget, plan: CreatePlan): Promise<void> {
  const { store } = target
  const { backing } = plan
  const parent =
    backing === undefined
      ? undefined
      : await withParentDisk('vdi', target, backing, (disk) => parentOf(backing, disk, plan.size))
  const { static: fixed } = resolveVdiOptions(BigInt(plan.size), plan.options)
  if (fixed === true && parent !== undefined) {
    throw new MoraineError('unsupported', 'a static image stands on no other', { format: 'vdi', field: 'static' })
  }
  const header = newHeader(plan.size, fixed === true, { image: newGuid(), modification: newGuid() }, parent)
  if (store.kind !== 'device' && store.size > 0) await store.resize(0)
  let at = header.mapOffset
  for (const chunk of mapChunks(header, fixed === true ? (block) => block : undefined)) {
    throwIfCancelled(plan.signal, store.name)
    await store.write(at, chunk)
    at += chunk.length
  }
  if (fixed === true) {
    const end = header.dataOffset + header.blocks * header.blockSize
    if (store.kind !== 'device') await store.resize(end)
    else await store.zero(header.dataOffset, end - header.dataOffset, 'unmap')
  }
  await store.flush()
  // Cut short, there is no image yet.
  await store.write(0, encodeHeader(header))
  await store.flush()
}

function parentOf(backing: NewBacking, disk: Disk, size: number): NewVdiParent {
  if (!(disk instanceof VdiDisk)) throw unfitParent('vdi', backing.name, disk.format, 'a VDI image')
  if (disk.size > size) {
    throw unfitParent('vdi', backing.name, `${disk.size} bytes`, `at most as large as the new image, ${size}`)
  }
  const { header } = disk.image
  const { relative, absolute } = parentPlaces(backing)
  return {
    image: header.uuidImage,
    modification: header.uuidModification,
    blockSize: header.blockSize,
    name: relative ?? absolute ?? '',
  }
}

/** The block map of a new image, with the zeros that fill its last sector. Without `indexOf` no block has a place. */
export function* mapChunks(header: VdiHeader, indexOf?: (block: number) => number): Iterable<Uint8Array> {
  const length = header.dataOffset - header.mapOffset
  for (let start = 0; start < length; start += chunkBytes) {
    const chunk = new Uint8Array(Math.min(chunkBytes, length - start))
    const entries = Math.min(chunk.length / 4, header.blocks - start / 4)
    if (indexOf === undefined) chunk.fill(0xff, 0, entries * 4)
    else {
      const view = viewOf(chunk)
      for (let i = 0; i < entries; i++) view.setUint32(i * 4, indexOf(start / 4 + i), true)
    }
    yield chunk
  }
}
