/** Opening a qcow2 image, with the disk under it. */
import { type ByteSource, type ByteStore, type Disk, isMoraineError, type WritableDisk } from '../../core/index.ts'
import type { OpenContext } from '../format.ts'
import { Qcow2Disk } from './disk.ts'
import { fault, openImage, type Qcow2Image } from './image.ts'
import { incompatible } from './layout.ts'
import { readSnapshotTable } from './snapshot-table.ts'

/** Opens an image; for writing the result is a `WritableDisk`. An image that was not closed cleanly is repaired before it is used for writing.
 *  @throws MoraineError `denied` for an encrypted image that is to be used and a wrong key or none, `corrupt` when a repair fails. */
export async function openQcow2(file: ByteSource, context: OpenContext): Promise<Disk | WritableDisk> {
  const image = await openImage(file, context)
  try {
    if (image.header.cryptMethod !== 0 || context.encryption?.format !== undefined) {
      const { openCrypt } = await import('./crypt.ts')
      const { crypt, details } = await openCrypt(image)
      image.crypt = crypt
      image.cryptDetails = details
    }
    const dirty = (image.header.incompatibleFeatures & incompatible.dirty) !== 0n
    if (dirty && image.store !== undefined && context.purpose === 'use') await repairDirty(image, image.store, context)
    const { backingFile: name = '', backingFormat } = image.header
    const parent =
      context.parents && (name !== '' || context.givesBacking === true)
        ? await context.openParent({ name, format: backingFormat, role: 'backing' })
        : undefined
    if (image.store === undefined) return new Qcow2Disk(image, parent)
    const { WritableQcow2Disk } = await import('./writable-disk.ts')
    return await WritableQcow2Disk.openForWriting(image, image.store, parent)
  } catch (error) {
    if (image.data !== image.file) await image.data.close()
    throw error
  }
}

/** Repairs an image whose counts may be behind (lazy refcounts, a cut in the middle of a change), as `check -r all` would. */
async function repairDirty(image: Qcow2Image, store: ByteStore, context: OpenContext): Promise<void> {
  const failed = (why: string) =>
    fault(image, 'corrupt', `Could not repair dirty image: ${why}`, 'incompatible_features', {
      value: 'dirty bit',
      rule: 'an image that can be repaired',
    })
  const { checkImageFile } = await import('./check.ts')
  const result = await checkImageFile(image, store, { repair: 'all', report: () => {} }).catch((error) => {
    throw isMoraineError(error, 'corrupt') || isMoraineError(error, 'limit') ? failed(error.reason) : error
  })
  if (result.checkErrors > 0) throw failed('Input/output error')
  const { leaksFixed, corruptionsFixed, corruptions } = result
  if (leaksFixed + corruptionsFixed > 0) {
    context.warn(
      `${image.file.name} was not closed cleanly; repaired ${leaksFixed} leaked clusters and ${corruptionsFixed} corruptions`,
    )
  }
  if (corruptions > 0) context.warn(`${image.file.name}: ${corruptions} corruptions could not be repaired`)
  image.cache.clear()
  image.snapshots = await readSnapshotTable(image)
}
