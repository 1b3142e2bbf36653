/** Errors of Node's own file calls, which the command makes beside the engine. */
import { Failure } from './failure.ts'

/** The host's refusal (no permission, no space, no such folder) as a failure of the command; anything else as it is. */
export function hostFailure(error: unknown): unknown {
  const isHost = error instanceof Error && 'syscall' in error && 'code' in error && !(error instanceof Failure)
  return isHost && error.name !== 'MoraineError' ? new Failure(error.message) : error
}
