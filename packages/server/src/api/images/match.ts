/** Checks what clients send against the schemas that they are shown. */
import type { Validator } from 'typebox/compile'
import { HttpError } from '../http-error.ts'

/** @param name What the schema is of. @throws HttpError 400, with the place and the rule. */
export function checkMatch(validator: Pick<Validator, 'Check' | 'Errors'>, name: string, value: unknown): void {
  if (validator.Check(value)) return
  const [first] = validator.Errors(value)
  const place = first?.instancePath.replace(/^\//, '')
  const allowed = (first?.params as { allowedValues?: unknown[] } | undefined)?.allowedValues
  const rule =
    allowed === undefined
      ? first?.message
      : `must be one of ${allowed.map((value) => JSON.stringify(value)).join(', ')}`
  throw new HttpError(400, `Provided object does not match schema '${name}': ${place ? `${place} ` : ''}${rule}`)
}
