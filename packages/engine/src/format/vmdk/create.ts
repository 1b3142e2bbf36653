/** Creating a VMDK. Files, layout and descriptor are those of `qemu-img create` 7.2. */

import { type ByteStore, throwIfCancelled } from '../../core/index.ts'
import { takeFirstBlock } from '../first-block.ts'
import type { CreatePlan, CreateTarget } from '../format.ts'
import { type NewDescriptor, newCid, noParent, writeDescriptor } from './descriptor.ts'
import { VmdkDisk } from './disk.ts'
import { fault } from './image.ts'
import { descriptorSector, encodeSparseHeader, sectorBytes } from './layout.ts'
import { directoryChunks, layOut } from './new-extent.ts'
import { planOptions, type VmdkPlan } from './options.ts'

/** Bytes of a piece of a split image. */
export const splitBytes = 0x8000_0000

/** Writes a new, empty image: into the target's store, and into further files for flat and split ones.
 *  @throws MoraineError `invalid` for options that do not fit, `limit` for sizes that tables cannot map, `unsupported` without the parent that shall be recorded. */
export async function createVmdk(target: CreateTarget, plan: CreatePlan): Promise<void> {
  const options = planOptions(plan.options, plan.backing)
  const { store } = target
  const size = Math.ceil(plan.size / sectorBytes) * sectorBytes
  const whole = options.flat || options.split ? undefined : layOut(size, options)
  if (store.kind !== 'device' && store.size > 0) await store.resize(0)
  const parentCid = plan.backing === undefined ? noParent : await parentIdentity(target, plan.backing)
  const { prefix, postfix } = decompose(store.name)
  const extents: { sectors: number; type: 'FLAT' | 'SPARSE' | 'VMFS'; name: string }[] = []
  if (whole !== undefined) {
    extents.push({ sectors: size / sectorBytes, type: 'SPARSE', name: prefix + postfix })
  } else {
    for (let start = 0, number = 1; start < size; number++) {
      throwIfCancelled(plan.signal, store.name)
      const length = options.split ? Math.min(splitBytes, size - start) : size
      const name = prefix + extentSuffix(options, number) + postfix
      await createExtent(await target.sibling(name, 'extent'), length, options)
      const flat = options.vmfs ? 'VMFS' : 'FLAT'
      extents.push({ sectors: length / sectorBytes, type: options.flat ? flat : 'SPARSE', name })
      start += length
    }
  }
  const text = writeDescriptor(describe(options, extents, size, { parentCid, parentName: plan.backing?.name }))
  if (whole === undefined) {
    await store.write(0, text)
    await store.flush()
    return
  }
  if (text.length > whole.header.descriptorSectors * sectorBytes) {
    throw fault(store, 'invalid', 'the descriptor has no room in the image', 'descriptor', {
      value: text.length,
      rule: `at most ${whole.header.descriptorSectors * sectorBytes} bytes`,
    })
  }
  // Cut short, there is no image yet: the header comes last.
  await writeTables(store, whole)
  await store.write(descriptorSector * sectorBytes, text)
  await store.flush()
  await store.write(0, encodeSparseHeader(whole.header))
  await store.flush()
}

/** What the descriptor of a new image says. */
export function describe(
  options: VmdkPlan,
  extents: NewDescriptor['extents'],
  size: number,
  parent: { parentCid: number; parentName: string | undefined },
): NewDescriptor {
  const { hardwareVersion, adapterType, toolsVersion, subformat } = options
  return {
    cid: newCid(),
    ...parent,
    // ESXi tells thin disks by the database.
    createType: options.vmfs ? 'vmfs' : subformat,
    thin: subformat === 'vmfsThin',
    extents,
    hardwareVersion,
    adapterType,
    toolsVersion,
    size,
  }
}

async function parentIdentity(target: CreateTarget, backing: NonNullable<CreatePlan['backing']>): Promise<number> {
  const opened = backing.disk === undefined ? await target.openParent?.(backing) : undefined
  const disk = backing.disk ?? opened
  try {
    if (disk instanceof VmdkDisk) return disk.image.descriptor.cid
    if (disk === undefined) {
      throw fault(
        target.store,
        'unsupported',
        'the parent must be opened for its identity to be recorded',
        'backing_file',
      )
    }
    throw fault(target.store, 'invalid', `Invalid backing file format: ${disk.format}. Must be vmdk`, 'backing_file', {
      value: backing.name,
    })
  } finally {
    await opened?.close()
  }
}

function extentSuffix({ split, flat }: VmdkPlan, number: number): string {
  return split ? `-${flat ? 'f' : 's'}${String(number).padStart(3, '0')}` : '-flat'
}

async function createExtent(store: ByteStore, size: number, options: VmdkPlan): Promise<void> {
  try {
    if (store.kind !== 'device' && store.size > 0) await store.resize(0)
    if (options.flat) {
      const isNew = store.size === 0
      await store.resize(size)
      if (isNew) await takeFirstBlock(store, size)
    } else {
      const extent = layOut(size, options)
      await writeTables(store, extent)
      await store.write(0, encodeSparseHeader(extent.header))
    }
    await store.flush()
  } finally {
    await store.close()
  }
}

/** The directories; their tables are holes, all zeros. */
async function writeTables(store: ByteStore, extent: ReturnType<typeof layOut>): Promise<void> {
  const { redundantDirectory, directory, overhead } = extent.header
  await store.resize(overhead * sectorBytes)
  for (const sector of [redundantDirectory, directory as number]) {
    let at = sector * sectorBytes
    for (const chunk of directoryChunks(extent, sector)) {
      await store.write(at, chunk)
      at += chunk.length
    }
  }
}

/** The last part of a name and its ending, as QEMU takes names apart: behind the last slash, or backslash, or colon. */
function decompose(name: string): { prefix: string; postfix: string } {
  const at = ['/', '\\', ':'].map((mark) => name.lastIndexOf(mark)).find((found) => found >= 0) ?? -1
  const base = name.slice(at + 1)
  const dot = base.lastIndexOf('.')
  return dot < 0 ? { prefix: base, postfix: '' } : { prefix: base.slice(0, dot), postfix: base.slice(dot) }
}
