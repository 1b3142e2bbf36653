/** Creating a VHD. The layout is that of `qemu-img create` 7.2: footer copy, header, table, footer; or the disk and its footer. */
import { divideUp, roundUp } from '../../bytes/integers.ts'
import { type Disk, MoraineError, throwIfCancelled } from '../../core/index.ts'
import type { CreatePlan, CreateTarget, NewBacking } from '../format.ts'
import { unfitParent, withParentDisk } from '../new-parent.ts'
import { isVhdDisk } from './disk.ts'
import { defaultBlockSize, footerBytes, headerBytes, type NewVhd, newDynamicHeader, newFooter } from './layout.ts'
import { type NewVhdParent, newVhdParent, recordParent } from './new-parent.ts'
import { planVhd } from './options.ts'

const chunkBytes = 1024 * 1024

/** Writes a new, empty image into the target's store. Its size may be larger than asked: see `force_size`. Over a backing disk, which must be a VHD of the
 *  same size, it is a differencing image.
 *  @throws MoraineError `invalid` for options that do not fit, `limit` past 2040 GiB, `unsupported` for a disk that no VHD can stand over. */
export async function createVhd(target: CreateTarget, plan: CreatePlan): Promise<void> {
  const { store } = target
  const { backing } = plan
  const parent =
    backing === undefined
      ? undefined
      : await withParentDisk('vhd', target, backing, (disk) => parentOf(backing, disk, plan.size))
  const planned = planVhd(parent === undefined ? plan.size : 0, plan.options)
  const image = parent === undefined ? planned : over(parent, planned, plan.size)
  const footer = newFooter(image)
  if (store.kind !== 'device' && store.size > 0) await store.resize(0)
  if (image.fixed) {
    if (store.kind !== 'device') await store.resize(image.size + footerBytes)
    else await store.zero(0, image.size, 'unmap')
    await store.write(image.size, footer)
    await store.flush()
    return
  }
  const entries = divideUp(image.size, defaultBlockSize)
  let at = footerBytes
  const header = newDynamicHeader(entries)
  const locators = parent === undefined ? [] : [recordParent(header, parent, firstBlockOf(entries))]
  for (const chunk of [header, ...emptyTable(entries), ...locators]) {
    throwIfCancelled(plan.signal, store.name)
    await store.write(at, chunk)
    at += chunk.length
  }
  await store.flush()
  // Cut short before, there is no image yet; either footer makes it one.
  await store.write(at, footer)
  await store.write(0, footer)
  await store.flush()
}

function parentOf(backing: NewBacking, disk: Disk, size: number): NewVhdParent {
  const { name } = backing
  if (!isVhdDisk(disk)) throw unfitParent('vhd', name, disk.format, 'a VHD image')
  if (disk.size === size) return newVhdParent(backing, disk.footer)
  throw new MoraineError('invalid', `the parent '${name}' has ${disk.size} bytes, and the new image ${size}`, {
    format: 'vhd',
    field: 'size',
    value: size,
    rule: `${disk.size}, the size of the parent`,
  })
}

/** An image over a parent: its geometry, and a creator that is believed on the size. */
function over({ footer }: NewVhdParent, { fixed }: NewVhd, size: number): NewVhd {
  if (fixed) {
    throw new MoraineError('unsupported', 'a fixed image stands on no other', { format: 'vhd', field: 'subformat' })
  }
  return { size, geometry: footer.geometry, fixed: false, differencing: true, creator: 'qem2' }
}

/** Bytes of a table on disk. */
export function tableBytes(entries: number): number {
  return roundUp(entries * 4, 512)
}

/** Where blocks begin in a new image. */
export function firstBlockOf(entries: number): number {
  return footerBytes + headerBytes + tableBytes(entries)
}

/** A table without blocks, in pieces. */
export function* emptyTable(entries: number): Iterable<Uint8Array> {
  const length = tableBytes(entries)
  for (let start = 0; start < length; start += chunkBytes) {
    yield new Uint8Array(Math.min(chunkBytes, length - start)).fill(0xff)
  }
}
