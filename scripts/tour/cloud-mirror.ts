/** The mirror of cloud images that a page's commands read from, as there is no publisher to ask while the project is tested. */
import { join } from 'node:path'
import { makeMirror } from '../../packages/cloud-images/test/support/mirror.ts'
import { serveFolder, type Web } from '../../packages/cloud-images/test/support/web.ts'

/** Makes a mirror of Ubuntu and Fedora in `mirror` of a folder and serves it; `close` ends that. */
export async function serveMirror(folder: string): Promise<Web> {
  const { folder: made } = await makeMirror(join(folder, 'mirror'), {
    only: ['ubuntu', 'fedora'],
    time: new Date(Date.now() - 60_000),
  })
  return await serveFolder(made)
}
