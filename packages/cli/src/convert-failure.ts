/** What `convert` says when reading or writing fails. */
import { type CopyStep, isMoraineError, type MoraineError } from '@moraine/engine'
import { Failure, failureFrom } from './failure.ts'
import type { Persona } from './persona.ts'

/** The failure of a copy: which side failed, where and why. `target` are the names that what is written goes by. */
export function conversionFailure(error: unknown, target: readonly string[], persona: Persona): unknown {
  if (!isMoraineError(error, 'io')) return failureFrom(error, persona)
  const step = error.copying ?? stepByPlace(error, target)
  if (step === undefined) return failureFrom(error, persona)
  const where = persona.details ? placeOf(error) : ''
  return new Failure(`error while ${step.doing} at byte ${step.offset}${where}: ${error.reason}`, {
    hint: persona.details ? error.hint : undefined,
  })
}

/** What happens between the steps of a copy is known by its file. */
function stepByPlace({ path, offset }: MoraineError, target: readonly string[]): CopyStep | undefined {
  if (offset === undefined) return undefined
  return { doing: path !== undefined && target.includes(path) ? 'writing' : 'reading', offset }
}

function placeOf({ path, offset, copying }: MoraineError): string {
  if (path === undefined) return ''
  return copying === undefined || offset === undefined ? ` of ${path}` : `, byte ${offset} of ${path}`
}
