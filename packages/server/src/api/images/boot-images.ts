/** What an image of Amazon's kind says it boots with: `kernel_id` and `ramdisk_id`. Glance believes any text; here they are looked up, where the settings say so. */
import type { NewImage } from '../../catalog/image.ts'
import type { Caller } from '../../identity/caller.ts'
import type { Service } from '../../service.ts'
import { HttpError } from '../http-error.ts'
import { findImage } from './access.ts'
import type { Change } from './patch.ts'

const kinds = { kernel_id: 'aki', ramdisk_id: 'ari' } as const
const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i
/** What clients write for "none"; Nova knows the word. */
const none = new Set(['', 'nokernel'])

type Booted = Pick<NewImage, 'diskFormat' | 'properties'>

/** Whether a patch may change what an image boots with. */
export function touchesBoot(changes: readonly Change[]): boolean {
  return changes.some(({ name }) => name === 'disk_format' || Object.hasOwn(kinds, name))
}

/** Looks up the kernel and the ramdisk of an image, those that were not there before. What was deleted since is not looked for again, so that such an image can still be changed.
 *  @throws HttpError 400 for one that is not there, that the caller does not see, or that is of another kind. */
export async function checkBootImages(service: Service, caller: Caller, image: Booted, before?: Booted): Promise<void> {
  if (!service.config.requireBootImages || image.diskFormat !== 'ami') return
  for (const [name, kind] of Object.entries(kinds)) {
    const id = image.properties?.get(name)
    if (id === undefined || none.has(id)) continue
    if (before?.diskFormat === 'ami' && before.properties?.get(name) === id) continue
    const missing = () =>
      new HttpError(
        400,
        `${name} of an image of disk_format ami must name an image of disk_format ${kind}; there is none with the id ${JSON.stringify(id)}.`,
      )
    if (!uuid.test(id)) throw missing()
    const { image: found } = await findImage(service, caller, id, missing).catch((error: unknown) => {
      throw error instanceof HttpError && error.status === 404 ? missing() : error
    })
    if (found.diskFormat !== kind) {
      throw new HttpError(
        400,
        `${name} of an image of disk_format ami must name an image of disk_format ${kind}; ${id} is ${found.diskFormat ?? 'without one'}.`,
      )
    }
  }
}
