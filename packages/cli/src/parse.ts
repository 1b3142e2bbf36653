/** Reads a verb's arguments by its table. */
import { Failure, unsupported, usageFailure } from './failure.ts'
import { Getopt, type GetoptOption } from './getopt.ts'
import type { Warn } from './numbers.ts'
import type { Persona } from './persona.ts'
import type { Given, OptionSpec, Values, Verb } from './verb.ts'

/** What was asked for. `complaint`: getopt's own message, for a verb that leaves it at that. */
export type Request =
  | { kind: 'run'; values: Values<Record<string, OptionSpec>>; operands: string[]; given: Given }
  | { kind: 'help'; complaint?: string }

/** `help` is an option of every verb. */
const helpOption: GetoptOption = { key: 'help', short: 'h', long: 'help', argument: false }

/** The options of a verb that this persona takes. */
export function optionsFor(verb: Verb, persona: Persona): [key: string, option: OptionSpec][] {
  const options: [key: string, option: OptionSpec][] = []
  // What is moraine's own keeps its name: --progress=MODE.
  const taken = new Set<string>()
  for (const [key, option] of Object.entries(verb.options)) {
    if (!persona.extensions && option.extension === true) continue
    options.push([key, option])
    if (option.long !== undefined && option.newer === undefined) taken.add(option.long)
  }
  for (const entry of options) {
    const [, { newer = [] }] = entry
    for (const name of newer) {
      if (taken.has(name)) entry[1] = { ...entry[1], newer: newer.filter((other) => !taken.has(other)) }
    }
  }
  return options
}

/** Parts the arguments of a verb with others below it at the name of that one.
 *  @throws Failure for options that not all of them take. */
export function splitAtVerb(
  group: Verb,
  persona: Persona,
  args: readonly string[],
): { before: string[] | 'help'; rest: string[] } {
  const getopt = new Getopt([group.name, ...args], getoptTable(optionsFor(group, persona)), true)
  for (let step = getopt.next(); step.kind !== 'end'; step = getopt.next()) {
    if (step.kind !== 'option') throw usageFailure(wrongOption(step.kind, getopt.argv[getopt.optind - 1] ?? ''))
    if (step.key === 'help') return { before: 'help', rest: [] }
  }
  return { before: getopt.argv.slice(1, getopt.optind), rest: getopt.argv.slice(getopt.optind) }
}

function getoptTable(options: readonly [key: string, option: OptionSpec][]): GetoptOption[] {
  const table = [helpOption]
  for (const [key, { short, long, argument: name, newer = [] }] of options) {
    const argument = name !== undefined
    table.push({ key, short, long, argument })
    for (const name of newer) {
      table.push(
        name.length === 1 ? { key, short: name, argument, later: true } : { key, long: name, argument, later: true },
      )
    }
  }
  return table
}

/** Reads what stands after the verb. Errors come in the order in which the arguments stand, as with getopt.
 *  @throws Failure */
export function readArguments(verb: Verb, persona: Persona, args: readonly string[], warn: Warn): Request {
  const rest = [...args]
  const trailing = takeTrailing(verb, persona, rest)
  const options = optionsFor(verb, persona)
  const getopt = new Getopt([verb.name, ...rest], getoptTable(options))
  const values: Record<string, unknown> = {}
  for (const [key, option] of options) values[key] = initialValue(option)
  const seen = new Set<string>()
  const given: { key: string; value: unknown }[] = []
  for (let step = getopt.next(); step.kind !== 'end'; step = getopt.next()) {
    if (step.kind !== 'option') {
      if (verb.lenient === true && !persona.extensions) {
        return { kind: 'help', complaint: `${verb.name}: ${step.message}` }
      }
      throw usageFailure(wrongOption(step.kind, getopt.argv[getopt.optind - 1] ?? ''))
    }
    if (step.key === 'help') return { kind: 'help' }
    const option = verb.options[step.key]
    if (option === undefined) throw new Failure(`the option table of ${verb.name} lacks ${step.key}`)
    if (option.refused === true) throw unsupported(`option '${spelling(option)}'`)
    verb.each?.(step.key, seen)
    seen.add(step.key)
    const value = readValue(option, step.value, warn)
    const before = values[step.key]
    values[step.key] = option.collect === true && Array.isArray(before) ? [...before, value] : value
    given.push({ key: step.key, value })
  }
  refuseAlone(verb, given, seen)
  return {
    kind: 'run',
    values: values as Values<Record<string, OptionSpec>>,
    operands: [...getopt.argv.slice(getopt.optind), ...trailing],
    given,
  }
}

/** Refuses options that mean nothing without another one. */
function refuseAlone({ options }: Verb, given: Given, seen: ReadonlySet<string>): void {
  for (const { key, value } of given) {
    const option = options[key]
    const others = option?.goesWith
    if (option === undefined || others === undefined || value === 'human' || others.some((name) => seen.has(name)))
      continue
    const names = others.flatMap((name) => options[name] ?? []).map(spelling)
    throw usageFailure(
      `${spelling(option)} goes with ${names.join(' or ')} here: without it there is nothing to report`,
    )
  }
}

function takeTrailing({ trailing }: Verb, persona: Persona, rest: string[]): string[] {
  if (trailing === undefined) return []
  const last = rest.at(-1)
  if (persona.extensions && (last === '--help' || last === '-h')) return []
  if (rest.length < trailing.least) throw usageFailure(trailing.message)
  return rest.splice(-trailing.count)
}

function initialValue(option: OptionSpec): unknown {
  if (option.collect === true) return []
  return option.argument === undefined ? false : undefined
}

function readValue(option: OptionSpec, text: string | undefined, warn: Warn): unknown {
  if (text === undefined) return true
  return option.parse === undefined ? text : option.parse(text, warn)
}

/** QEMU names the element that getopt stands behind, which within a bundle of short options is not always the wrong one. */
function wrongOption(kind: 'unknown' | 'missing', element: string): string {
  return kind === 'missing' ? `missing argument for option '${element}'` : `unrecognized option '${element}'`
}

/** How an option is called in messages. */
export function spelling(option: OptionSpec): string {
  if (option.long !== undefined) return `--${option.long}`
  return option.short === undefined ? `--${option.newer?.[0]}` : `-${option.short}`
}
