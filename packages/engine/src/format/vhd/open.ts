/** Opening a VHD, with its parent. */
import {
  type ByteSource,
  type Disk,
  isMoraineError,
  isStore,
  MoraineError,
  type WritableDisk,
} from '../../core/index.ts'
import type { OpenContext } from '../format.ts'
import { DynamicVhdDisk, FixedVhdDisk, isVhdDisk } from './disk.ts'
import { chooseFooter, readFooters } from './footers.ts'
import { VhdImage } from './image.ts'
import { diskType, type Footer, vhdFault } from './layout.ts'
import { parentNames } from './locators.ts'
import { virtualSizeOf } from './size.ts'

/** The parent id of an image over a raw disk, as XenServer makes them. */
const noId = '00000000-0000-0000-0000-000000000000'

/** Opens an image; for writing the result is a `WritableDisk`.
 *  @throws MoraineError as footer, header and the search for the parent say; `denied` when the source cannot be written and shall be. */
export async function openVhd(file: ByteSource, context: OpenContext): Promise<Disk | WritableDisk> {
  const write = context.mode === 'write'
  if (write && !isStore(file)) {
    throw new MoraineError('denied', 'the source cannot be written', { path: file.name, format: 'vhd' })
  }
  const places = await readFooters(file)
  const footer = chooseFooter(places, file.name, context.warn)
  if (write && footer.savedState) {
    context.warn(
      `${file.name}: a machine was saved with this disk; it may not resume once the disk is changed`,
      'advice',
    )
  }
  if (footer.type === diskType.fixed) return openFixed(file, footer, places.tailOffset, context)
  const image = await VhdImage.open(file, context, footer)
  const names = image.isDifferencing ? await parentNames(file, image.header) : []
  const parent = context.parents && image.isDifferencing ? await openParent(image, names, context) : undefined
  if (!write || !isStore(file)) return new DynamicVhdDisk(image, parent, names)
  const { WritableVhdDisk } = await import('./writable-disk.ts')
  return new WritableVhdDisk(image, file, parent, names)
}

async function openFixed(
  file: ByteSource,
  footer: Footer,
  footerOffset: number,
  context: OpenContext,
): Promise<FixedVhdDisk> {
  const size = virtualSizeOf(footer, footerOffset, context.vhdSize)
  if (size > context.limits.virtualSize) {
    const place = { field: 'current_size', value: size, rule: `at most ${context.limits.virtualSize} bytes` }
    throw vhdFault(file.name, 'limit', 'Image is too big', place)
  }
  if (context.mode !== 'write' || !isStore(file)) return new FixedVhdDisk(file, footer, footerOffset, size)
  const { WritableFixedVhdDisk } = await import('./writable-fixed.ts')
  return new WritableFixedVhdDisk(file, footer, { footerOffset, size }, context)
}

/** Tries one name after the other, until one is that of the parent. */
async function openParent(image: VhdImage, names: readonly string[], context: OpenContext): Promise<Disk> {
  const path = image.file.name
  const { parentId } = image.header
  let wrong: MoraineError | undefined
  for (const name of names) {
    let disk: Disk
    try {
      disk = await context.openParent({ name, role: 'parent' })
    } catch (error) {
      // Of a file that is there, something under it may be missing: that is the caller's to know.
      if (isMoraineError(error, 'missing') && error.path?.endsWith(name) === true) continue
      throw error
    }
    const found = isVhdDisk(disk) ? disk.footer.uniqueId : noId
    if (found === parentId) return disk
    wrong ??= vhdFault(path, 'invalid', `${disk.name} is not the parent of this image`, {
      field: 'parent_unique_id',
      value: isVhdDisk(disk) ? found : `none (${disk.format})`,
      rule: `the image with the unique id ${parentId}`,
    })
    await disk.close()
  }
  throw (
    wrong ??
    vhdFault(path, 'missing', `the parent '${names[0] ?? ''}' with the unique id ${parentId} was not found`, {
      field: 'parent_unique_id',
      value: parentId,
      rule: 'a file under a name that the image gives, or beside it',
      hint: names.length === 0 ? undefined : `looked for ${names.join(', ')}`,
    })
  )
}
