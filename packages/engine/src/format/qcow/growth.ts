/** What changes in a qcow file when the disk grows: the L1 table, which is written anew where there is room, and the header. */
import { roundUp } from '../../bytes/integers.ts'
import { MoraineError } from '../../core/index.ts'
import { copyAside } from '../growth.ts'
import { encodeHeader } from './layout.ts'
import type { WritableQcowDisk } from './writable-disk.ts'

/** Writes the L1 table, made longer with zeros, from `end` of all else on, and points the header at it. All changes must be in the file.
 *  @throws MoraineError `io` when a device has no room. */
export async function moveL1({ image, store }: WritableQcowDisk, entries: number, end: number): Promise<void> {
  const { header, geometry, tables } = image
  const place = roundUp(end, geometry.clusterSize)
  const after = place + roundUp(entries * 8, 512)
  if (store.kind === 'device') {
    if (after > store.size) {
      const where = { path: store.name, format: 'qcow', offset: place, code: 'ENOSPC' }
      throw new MoraineError('io', 'No space left on device', where)
    }
    await store.zero(place, after - place, 'unmap')
  } else await store.resize(after)
  await copyAside(store, header.l1Offset, place, geometry.l1Entries * 8)
  await store.flush()
  await writeHeader({ image, store }, { l1Offset: place })
  // Pages are told apart by where they lie.
  tables.clear()
}

/** Changes a field of the header, in the file first. */
export async function writeHeader(
  { image, store }: Pick<WritableQcowDisk, 'image' | 'store'>,
  changes: { size: number } | { l1Offset: number },
): Promise<void> {
  await store.write(0, encodeHeader({ ...image.header, ...changes }))
  await store.flush()
  Object.assign(image.header, changes)
}
