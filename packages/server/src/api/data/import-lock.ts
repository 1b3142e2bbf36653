/** What an import that is asked for, or runs, means for others who want to bring data into the same image. */
import type { Image } from '../../catalog/image.ts'
import { lockProperty, unlocked } from '../../import/lock.ts'
import type { Service } from '../../service.ts'
import { HttpError } from '../http-error.ts'

/** The lock that an import left that is over; undefined where there is none. @throws HttpError 409 while one runs, or is about to. */
export async function staleLock({ catalog }: Service, image: Image): Promise<string | undefined> {
  const lock = image.properties.get(lockProperty)
  if (lock === undefined) return undefined
  const task = await catalog.work.tasks.get(lock)
  // A task that is not there yet is about to be.
  const isYoung = Date.now() / 1000 - image.updatedAt < 60
  if (task === undefined ? isYoung : task.status === 'pending' || task.status === 'processing') {
    throw new HttpError(409, 'Image has active task')
  }
  return lock
}

/** The image without a lock that counts no more. @param stale What `staleLock` found. @throws HttpError 409 when an import has the image. */
export function withoutLock(image: Image, stale: string | undefined): Image {
  const lock = image.properties.get(lockProperty)
  if (lock === undefined) return image
  if (lock === stale) return unlocked(image)
  throw new HttpError(
    409,
    `New operation on image '${image.id}' is not permitted as prior operation is still in progress`,
  )
}
