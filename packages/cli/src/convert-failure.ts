/** What `convert` says when reading or writing fails. */
import { isMoraineError } from '@moraine/engine'
import { Failure, failureFrom } from './failure.ts'
import type { Persona } from './persona.ts'

/** The failure of a copy: which side failed, where and why. `target` are the names that what is written goes by. */
export function conversionFailure(error: unknown, target: readonly string[], persona: Persona): unknown {
  if (!isMoraineError(error, 'io') || error.offset === undefined) return failureFrom(error, persona)
  const doing = error.path !== undefined && target.includes(error.path) ? 'writing' : 'reading'
  const where = persona.details && error.path !== undefined ? ` of ${error.path}` : ''
  return new Failure(`error while ${doing} at byte ${error.offset}${where}: ${error.reason}`, {
    hint: persona.details ? error.hint : undefined,
  })
}
