/** How a command fails, and what it says then. */
import { isMoraineError, type MoraineError } from '@moraine/engine'
import type { Persona } from './persona.ts'

interface FailureOptions {
  exitCode?: number
  usage?: boolean
  hint?: string | undefined
  unterminated?: boolean
  origin?: MoraineError | undefined
}

/** Ends a command with a message and an exit code. Several messages are said one after the other. `usage`: the caller used the command
 *  wrongly, so point to its help. */
export class Failure extends Error {
  readonly messages: readonly string[]
  readonly exitCode: number
  readonly usage: boolean
  /** Lines for people that follow the message. */
  readonly hint: string | undefined
  /** QEMU forgets the newline after this hint. */
  readonly unterminated: boolean

  /** What the engine said, for programs. */
  readonly origin: MoraineError | undefined

  constructor(messages: string | readonly string[], options: FailureOptions = {}) {
    const list = typeof messages === 'string' ? [messages] : messages
    super(list.join('\n'))
    this.messages = list
    this.exitCode = options.exitCode ?? 1
    this.usage = options.usage ?? false
    this.hint = options.hint
    this.unterminated = options.unterminated ?? false
    this.origin = options.origin
  }

  /** The same failure with another exit code. */
  withExitCode(exitCode: number): Failure {
    return new Failure(this.messages, { ...this.options(), exitCode })
  }

  /** The same failure with one more line for people. */
  withMoreHint(line: string): Failure {
    const hint = this.hint === undefined ? line : `${this.hint}\n${line}`
    return new Failure(this.messages, { ...this.options(), hint, unterminated: false })
  }

  /** The same failure with words before its first message. */
  withPrefix(prefix: string): Failure {
    const [first = '', ...more] = this.messages
    return new Failure([prefix + first, ...more], this.options())
  }

  private options(): FailureOptions {
    const { exitCode, usage, hint, unterminated, origin } = this
    return { exitCode, usage, hint, unterminated, origin }
  }
}

/** A wrong use of the command. */
export function usageFailure(message: string): Failure {
  return new Failure(message, { usage: true })
}

/** Something that qemu-img has and this does not, said by name. */
export function unsupported(what: string): Failure {
  return new Failure(`${what} is not supported by moraine`)
}

/** The engine's error after a prefix such as `Could not open 'x': `; a cancellation and any other error pass through. */
export function failureFrom(error: unknown, persona: Persona, prefix = ''): unknown {
  if (!isMoraineError(error) || error.kind === 'cancelled') return error
  const text = explain(error, persona)
  // QEMU says "Could not open" twice when the file itself could not be opened.
  const said = persona.details && text.startsWith(prefix.trimEnd())
  return new Failure(said ? text : prefix + text, { hint: hintOf(error, persona), origin: error })
}

/** What the engine's error says: its reason as QEMU words it, or with all that is known. */
export function explain(error: MoraineError, persona: Persona): string {
  if (!persona.details) return error.reason
  const head = error.path === undefined ? '' : `${error.path}: `
  return error.message.startsWith(head) ? error.message.slice(head.length) : error.message
}

/** Hints that are QEMU's own. */
const theirs = /^(server reported: |Path must be less than |Did you forget a valid tls-creds)/

/** Of the engine's hints QEMU has those of servers, and the first line of the one about locks. */
function hintOf({ hint, kind }: MoraineError, persona: Persona): string | undefined {
  if (persona.details || hint === undefined || theirs.test(hint)) return hint
  return kind === 'locked' ? hint.split('\n')[0] : undefined
}
