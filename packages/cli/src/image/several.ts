/** One thing done to several images: a failure does not keep the others from it. */
import { isMoraineError } from '@moraine/engine'
import { Failure } from '../failure.ts'
import type { ImageCall } from './image-verb.ts'
import { findImageId } from './images.ts'

/** @returns the exit code: 1 when it failed for one of them. */
export async function forEachImage(
  { session, context }: ImageCall,
  names: readonly string[],
  act: (id: string) => Promise<void>,
): Promise<number> {
  let code = 0
  for (const name of names) {
    try {
      await act(await findImageId(session, name))
    } catch (error) {
      if (!(error instanceof Failure) || isMoraineError(error, 'cancelled')) throw error
      if (names.length === 1) throw error
      context.report(`${name}: ${error.message}`)
      if (error.hint !== undefined) context.err.write(`${error.hint}\n`)
      code = 1
    }
  }
  return code
}
