/** What every `moraine image` command has in common: the options that say who is calling, a session, and its end. */
import { usageFailure } from '../failure.ts'
import { type Context, defineVerb, type OptionSpec, type Values, type Verb } from '../verb.ts'
import { outputFormat, progressMode, quiet, rehearsal, showProgress, wantsJson } from '../verbs/common.ts'
import { accessOptions } from './access-options.ts'
import type { Session } from './session.ts'

/** Printing for people or for programs. */
export const jsonOutput = { output: outputFormat } as const

/** How verbs that save an image show it, or only tell it. */
export const savingOptions = {
  percent: showProgress,
  progress: progressMode,
  quiet: { ...quiet, long: 'quiet' },
  ...rehearsal,
} as const

/** A command under `moraine image`, as it is declared. */
export interface ImageVerb<Options extends Record<string, OptionSpec>> {
  /** Without `image` before it. */
  name: string
  summary: string
  operands: string
  about: string
  examples: Verb['examples']
  options: Options
  /** Fewest and most operands. */
  count: readonly [least: number, most: number]
  /** A number that it gives is the exit code. */
  run(call: ImageCall, values: Values<Options>, operands: string[]): Promise<unknown>
}

/** What a command works with. */
export interface ImageCall {
  readonly session: Session
  readonly context: Context
  /** `--output=json` */
  readonly json: boolean
}

/** Makes a verb of it, which connects only when the arguments are right. */
export function defineImageVerb<const Options extends Record<string, OptionSpec>>(verb: ImageVerb<Options>): Verb {
  const { name, summary, operands, about, examples, options, count } = verb
  return defineVerb({
    name: `image ${name}`,
    summary,
    operands,
    syntax: '',
    about,
    examples,
    options: { ...options, ...accessOptions } as Record<string, OptionSpec>,
    async run(values, given, context) {
      checkOperands(given, count, operands)
      const { output } = values
      const json = wantsJson(typeof output === 'string' ? output : undefined)
      const [{ readAccess }, { Session }] = await Promise.all([import('./access.ts'), import('./session.ts')])
      const access = readAccess(values as Parameters<typeof readAccess>[0], { env: process.env, folder: process.cwd() })
      const session = new Session(access, context.signal)
      try {
        // The table and the values that are read by it belong together.
        const code = await verb.run({ session, context, json }, values as unknown as Values<Options>, given)
        return typeof code === 'number' ? code : 0
      } finally {
        await session.close()
      }
    },
  })
}

function checkOperands(given: readonly string[], [least, most]: readonly [number, number], operands: string): void {
  if (given.length < least) throw usageFailure(`Expecting ${operands === '' ? 'no arguments' : operands}`)
  if (given.length > most) throw usageFailure(`Unexpected argument: ${given[most]}`)
}
