/** Opening a VDI image, with its parent. */
import { type ByteSource, type Disk, isStore, MoraineError, readPadded, type WritableDisk } from '../../core/index.ts'
import type { OpenContext } from '../format.ts'
import { imageOf, isDifferencing, VdiDisk, type VdiImage } from './disk.ts'
import { headerBytes, parseHeader } from './layout.ts'
import { openParent } from './parent.ts'
import { WritableVdiDisk } from './writable-disk.ts'

/** Opens an image; for writing the result is a `WritableDisk`.
 *  @throws MoraineError as the header and the search for the parent say; `denied` when the source cannot be written and shall be. */
export async function openVdi(file: ByteSource, context: OpenContext): Promise<Disk | WritableDisk> {
  const write = context.mode === 'write'
  if (write && !isStore(file)) {
    throw new MoraineError('denied', 'the source cannot be written', { path: file.name, format: 'vdi' })
  }
  const bytes = new Uint8Array(headerBytes)
  await readPadded(file, 0, bytes)
  const image = imageOf(file, parseHeader(bytes, file.name), context)
  const parent =
    context.parents && isDifferencing(image.header)
      ? await openParent(file.name, image.header, context, identityOf)
      : undefined
  return write && isStore(file) ? new WritableVdiDisk(image, file, parent) : new VdiDisk(image, parent)
}

function identityOf(disk: Disk): { image: string; modification: string } | undefined {
  if (!(disk instanceof VdiDisk)) return undefined
  const { header }: VdiImage = disk.image
  return { image: header.uuidImage, modification: header.uuidModification }
}
