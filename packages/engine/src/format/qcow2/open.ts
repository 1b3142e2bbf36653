/** Opening a qcow2 image, with the disk under it. */
import { type ByteSource, type ByteStore, type Disk, isMoraineError, type WritableDisk } from '../../core/index.ts'
import type { OpenContext } from '../format.ts'
import { Qcow2Disk } from './disk.ts'
import { encodeHeader } from './header.ts'
import { switchHeader } from './header-switch.ts'
import { fault, openImage, type Qcow2Image } from './image.ts'
import { autoclear, incompatible, knownAutoclear } from './layout.ts'
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
    await judgeBitmaps(image, context)
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

/** Bitmaps that nobody vouches for (autoclear bit 0 clear) are lost. The first to write the image takes their extension away, as QEMU does. */
async function judgeBitmaps({ header, file, store }: Qcow2Image, context: OpenContext): Promise<void> {
  if (header.bitmaps === undefined || (header.autoclearFeatures & autoclear.bitmaps) !== 0n) return
  context.warn(
    header.version < 3
      ? 'This qcow2 v2 image contains bitmaps, but they may have been modified by a program without persistent bitmap support; so now they must all be considered inconsistent'
      : 'a program lacking bitmap support modified this file, so all bitmaps are now considered inconsistent',
    { hint: "Some clusters may be leaked, run 'qemu-img check -r' on the image file to fix." },
  )
  if (store === undefined) return
  header.bitmaps = undefined
  header.autoclearFeatures &= knownAutoclear
  await switchHeader(store, header, encodeHeader(header, file.name))
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
