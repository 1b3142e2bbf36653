/** Opening a VDI image, with its parent. */
import { type ByteSource, type Disk, isStore, MoraineError, readPadded, type WritableDisk } from '../../core/index.ts'
import type { OpenContext } from '../format.ts'
import { imageOf, isDifferencing, VdiDisk, type VdiImage } from './disk.ts'
import { headerBytes, parseHeader } from './layout.ts'
import { openParent } from './parent.ts'

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
  if (!write || !isStore(file)) return new VdiDisk(image, parent)
  const { WritableVdiDisk } = await import('./writable-disk.ts')
  return new WritableVdiDisk(image, file, parent)
}

function identityOf(disk: Disk): { image: string; modification: string } | undefined {
  if (!(disk instanceof VdiDisk)) return undefined
  const { header }: VdiImage = disk.image
  return { image: header.uuidImage, modification: header.uuidModification }
}
