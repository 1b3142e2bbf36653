/** `--errors=json`: what goes wrong as lines of JSON on standard error, for programs. */
import { isMoraineError, type MoraineError } from '@moraine/engine'
import { Failure } from './failure.ts'

/** A line for whatever ended a command: what was said, and what is known of it. `kind` is the engine's, or `usage` for wrong arguments, `refused` for what the command itself does not do,
 *  `internal` for a fault of its own. */
export function errorLine(error: unknown, exitCode: number): string {
  if (error instanceof Failure) {
    const { messages, origin, usage, hint } = error
    const kind = origin?.kind ?? (usage ? 'usage' : 'refused')
    return line({ error: messages.join('\n'), kind, ...placeOf(origin), hint: hint ?? origin?.hint, exitCode })
  }
  if (isMoraineError(error)) {
    return line({ error: error.reason, kind: error.kind, ...placeOf(error), hint: error.hint, exitCode })
  }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error)
  return line({ error: text, kind: 'internal', exitCode })
}

/** A line for something that a command says on its way. */
export function noticeLine(level: 'error' | 'warning', message: string): string {
  return line({ [level]: message })
}

function placeOf(error: MoraineError | undefined): Record<string, unknown> {
  if (error === undefined) return {}
  const { path, format, field, value, rule, offset, code, reason } = error
  return {
    file: path,
    format,
    field,
    value: typeof value === 'bigint' ? String(value) : value,
    rule,
    offset,
    code,
    reason,
  }
}

function line(facts: Record<string, unknown>): string {
  return `${JSON.stringify(facts)}\n`
}
