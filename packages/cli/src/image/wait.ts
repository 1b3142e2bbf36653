/** Waiting for work that the service does behind an answer: an import, most of all. */
import { setTimeout as pause } from 'node:timers/promises'
import { isMoraineError, MoraineError } from '@moraine/engine'
import { Failure } from '../failure.ts'
import type { Mapping } from './clouds.ts'
import { HttpFailure } from './http.ts'
import { getImage, getList, type ImageDocument, imagePath } from './images.ts'
import type { Session } from './session.ts'

/** The tasks of an image; none where the service does not tell (before version 2.12 of the API). */
export async function imageTasks(session: Session, id: string): Promise<Mapping[]> {
  try {
    return await getList(session, imagePath(id, '/tasks'), 'tasks')
  } catch (error) {
    if (error instanceof HttpFailure && [403, 404].includes(error.status)) return []
    throw error
  }
}

const firstPause = 200
const longestPause = 5000

/** Waits until an import is over; `watch` sees the image each time.
 *  @param before the ids of the tasks that were there before the import was asked for
 *  @throws Failure with the task's own words when it failed. */
export async function waitForImport(
  session: Session,
  id: string,
  before: ReadonlySet<unknown>,
  watch?: (image: ImageDocument) => void,
): Promise<ImageDocument> {
  for (let wait = firstPause; ; wait = Math.min(wait * 1.5, longestPause)) {
    const image = await getImage(session, id)
    watch?.(image)
    const task = (await imageTasks(session, id)).find((one) => !before.has(one.id))
    if (task?.status === 'failure') throw new Failure(`the import failed: ${taskWords(task)}`)
    const isOver = task === undefined ? !['importing', 'saving'].includes(image.status) : task.status === 'success'
    if (isOver && !isPending(image)) return checkImported(image)
    await sleep(wait, session.signal)
  }
}

function isPending(image: ImageDocument): boolean {
  return ['importing', 'saving'].includes(image.status) || isSaid(image.os_glance_importing_to_stores)
}

function isSaid(value: unknown): boolean {
  return typeof value === 'string' && value !== ''
}

function checkImported(image: ImageDocument): ImageDocument {
  if (isSaid(image.os_glance_failed_import)) {
    throw new Failure(`the import into these stores failed: ${image.os_glance_failed_import}`)
  }
  if (image.status === 'active' || image.status === 'deactivated') return image
  throw new Failure(`the import failed: the image is ${image.status}`)
}

function taskWords(task: Mapping): string {
  const message = typeof task.message === 'string' ? task.message.trim() : ''
  return message === '' ? 'the service does not say why' : message
}

/** @throws MoraineError `cancelled` */
export async function sleep(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  try {
    await pause(milliseconds, undefined, signal === undefined ? {} : { signal })
  } catch (error) {
    if (isMoraineError(error)) throw error
    throw new MoraineError('cancelled', 'the operation was cancelled', { cause: error })
  }
}
