/** A step of a copy, whose failure says which bytes of the disk it was about: where they lie in a file means nothing to people. */
import { type CopyStep, isMoraineError, retold } from '../core/index.ts'

/** Waits for a step; where the host failed, its error names the step. */
export async function copyStep(
  doing: CopyStep['doing'],
  offset: number,
  work: Promise<void> | undefined,
): Promise<void> {
  try {
    await work
  } catch (error) {
    throw isMoraineError(error, 'io') ? retold(error, error.reason, { copying: { doing, offset } }) : error
  }
}
