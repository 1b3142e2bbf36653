/** Opening a VHDX image, with the disk under it. */
import { type ByteSource, type Disk, isMoraineError, MoraineError, type WritableDisk } from '../../core/index.ts'
import type { OpenContext } from '../format.ts'
import { VhdxDisk } from './disk.ts'
import { openImage, type VhdxImage } from './image.ts'
import { vhdxFault } from './layout.ts'
import type { ParentLocator } from './parent-locator.ts'

/** Opens an image; for writing the result is a `WritableDisk`.
 *  @throws MoraineError as the structures say; of a parent `missing` when no name leads to it, `invalid` when another disk is there. */
export async function openVhdx(file: ByteSource, context: OpenContext): Promise<Disk | WritableDisk> {
  const image = await openImage(file, context)
  const locator = image.metadata.parent
  const parent = context.parents && locator !== undefined ? await openParent(image, locator, context) : undefined
  if (image.store === undefined) return new VhdxDisk(image, parent)
  const { WritableVhdxDisk } = await import('./writable-disk.ts')
  return new WritableVhdxDisk(image, image.store, parent)
}

/** Tries the names of the locator in their order: where one leads to a disk with another identity, or to none, the next may be right. */
async function openParent(image: VhdxImage, locator: ParentLocator, context: OpenContext): Promise<Disk> {
  const failures: MoraineError[] = []
  for (const name of locator.names) {
    let parent: Disk | undefined
    try {
      parent = await context.openParent({ name, format: 'vhdx', role: 'parent' })
      checkParent(image, locator, parent, name)
      return parent
    } catch (error) {
      await parent?.close()
      if (!isMoraineError(error) || error.kind === 'cancelled' || error.kind === 'limit') throw error
      failures.push(error)
    }
  }
  // That a file is not there says less than what is wrong with one that is.
  const [first] = failures.sort((a, b) => Number(a.kind === 'missing') - Number(b.kind === 'missing'))
  throw first ?? new MoraineError('missing', 'the parent is not named', { path: image.source.name, format: 'vhdx' })
}

/** @throws MoraineError `invalid` when the disk is not the one that the locator means. */
function checkParent(image: VhdxImage, locator: ParentLocator, parent: Disk, name: string): void {
  const fail = (field: string, value: number | string | undefined, rule: string) =>
    vhdxFault(
      image.source.name,
      'invalid',
      field,
      { value, rule },
      `the parent '${name}' is another disk than the image was made for`,
    )
  const found = parent instanceof VhdxDisk ? parent.image : undefined
  const guid = found?.headers.current.dataWriteGuid
  if (found === undefined || guid === undefined || !locator.linkages.includes(guid)) {
    throw fail('parent_linkage', guid, locator.linkages.join(' or '))
  }
  if (found.metadata.logicalSector !== image.metadata.logicalSector) {
    throw fail('logical sector size', found.metadata.logicalSector, `${image.metadata.logicalSector}`)
  }
}
