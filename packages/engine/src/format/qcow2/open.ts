/** Opening a qcow2 image, with the disk under it. */
import type { ByteSource, Disk, WritableDisk } from '../../core/index.ts'
import type { OpenContext } from '../format.ts'
import { Qcow2Disk } from './disk.ts'
import { fault, openImage } from './image.ts'
import { WritableQcow2Disk } from './writable-disk.ts'

/** Opens an image; for writing the result is a `WritableDisk`.
 *  @throws MoraineError `unsupported` for encrypted images that are to be used. */
export async function openQcow2(file: ByteSource, context: OpenContext): Promise<Disk | WritableDisk> {
  const image = await openImage(file, context)
  try {
    if (image.header.cryptMethod !== 0 && context.purpose === 'use') {
      throw fault(image, 'unsupported', 'encrypted qcow2 images cannot be read yet', 'crypt_method', {
        value: image.header.cryptMethod,
      })
    }
    const { backingFile, backingFormat } = image.header
    const parent =
      context.purpose === 'use' && backingFile !== undefined && backingFile !== ''
        ? await context.openParent({ name: backingFile, format: backingFormat, role: 'backing' })
        : undefined
    if (image.store === undefined) return new Qcow2Disk(image, parent)
    return await WritableQcow2Disk.openForWriting(image, image.store, parent)
  } catch (error) {
    if (image.data !== image.file) await image.data.close()
    throw error
  }
}
