/** The mirror of cloud images that a page's commands read from, as there is no publisher to ask while the project is tested. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { makeMirror } from '../../packages/cloud-images/test/support/mirror.ts'
import { serveFolder, type Web } from '../../packages/cloud-images/test/support/web.ts'
import { buildCloudGuest } from '../../packages/engine/test/support/cloud-guest.ts'
import { debianKernel } from '../../packages/engine/test/support/debian.ts'

/** Makes a mirror of Ubuntu and Fedora in `mirror` of a folder and serves it; `close` ends that. One of its images boots.
 *  @throws Error where no kernel can be had */
export async function serveMirror(folder: string): Promise<Web> {
  const kernel = debianKernel()
  if (kernel === undefined) throw new Error("Debian's kernel cannot be fetched")
  const building = join(folder, 'building')
  const { folder: made } = await makeMirror(join(folder, 'mirror'), {
    only: ['ubuntu', 'fedora'],
    time: new Date(Date.now() - 60_000),
    guest: buildCloudGuest(building, kernel),
  })
  await rm(building, { recursive: true })
  return await serveFolder(made)
}
