/** What may stand where the cursor is, from the verbs' own tables. */
import { allFormats, type OptionSpec as CreationOption, findFormat } from '@moraine/engine'
import { cacheModes } from '../cache.ts'
import { creationTable } from '../options.ts'
import { optionsFor } from '../parse.ts'
import type { Persona } from '../persona.ts'
import type { OptionSpec, Verb } from '../verb.ts'
import { allVerbs, findVerb } from '../verbs/index.ts'

/** One word that may stand there. */
interface Suggestion {
  /** The whole word, with what was written of it. */
  word: string
  /** A few words for people. */
  help?: string
  /** More comes in the same word. */
  open?: boolean
}

/** What may stand there. */
export interface Suggestions {
  words: Suggestion[]
  /** The name of a file or a folder may stand there, after this much of the word. */
  files?: { after: string }
  /** What was written of the word. */
  current: string
}

/** What may stand in place of the last of these words, which follow the command's name.  */
export async function suggest(words: readonly string[], persona: Persona): Promise<Suggestions> {
  const current = words.at(-1) ?? ''
  const before = words.slice(0, -1)
  const found = await suggestAt(before, current, persona)
  return { ...found, words: found.words.filter(({ word }) => word.startsWith(current)), current }
}

type Found = Pick<Suggestions, 'words' | 'files'>

async function suggestAt(before: readonly string[], current: string, persona: Persona): Promise<Found> {
  const own = ['-h', '--help', '-V', '--version', '-T', '--trace=', '--errors=json']
  const [name, ...rest] = /^--(errors|trace)=/.test(before[0] ?? '') ? before.slice(1) : before
  if (name === undefined || name === 'help') {
    const [group] = rest
    const verbs =
      group === undefined ? await allVerbs(persona) : ((await (await findVerb(group, persona))?.below?.all()) ?? [])
    const options = name === undefined && current.startsWith('-') ? own : []
    return { words: [...options.map((word) => ({ word, open: word.endsWith('=') })), ...verbs.map(verbWord)] }
  }
  const verb = await findVerb(name, persona)
  if (verb === undefined) return { words: [] }
  if (verb.below === undefined) return inVerb(verb, rest, current, persona)
  const table = optionsFor(verb, persona).map(([, option]) => option)
  const at = read(table, rest).operands[0]
  const below = at === undefined ? undefined : await verb.below.find(at)
  if (below !== undefined)
    return inVerb(below, rest.toSpliced(rest.indexOf(below.name.split(' ')[1] ?? ''), 1), current, persona)
  const { waiting } = read(table, rest)
  const options = inVerb(verb, rest, current, persona)
  if (at !== undefined || waiting !== undefined || current.startsWith('-')) return options
  return { words: (await verb.below.all()).map(verbWord) }
}

function verbWord({ name, summary }: Verb): Suggestion {
  return { word: name.split(' ').at(-1) ?? name, help: summary }
}

interface Call {
  /** The option whose argument comes next. */
  waiting: OptionSpec | undefined
  operands: string[]
  given: { option: OptionSpec; value: string }[]
  /** `--` was there. */
  ended: boolean
}

/** Reads what was written as getopt does, without a complaint. */
function read(table: readonly OptionSpec[], words: readonly string[]): Call {
  const call: Call = { waiting: undefined, operands: [], given: [], ended: false }
  const take = (option: OptionSpec | undefined, value: string | undefined): void => {
    if (option?.argument === undefined) return
    if (value === undefined) call.waiting = option
    else call.given.push({ option, value })
  }
  for (const word of words) {
    if (call.waiting !== undefined) {
      call.given.push({ option: call.waiting, value: word })
      call.waiting = undefined
    } else if (call.ended || word === '-' || !word.startsWith('-')) call.operands.push(word)
    else if (word === '--') call.ended = true
    else if (word.startsWith('--')) {
      const equals = word.indexOf('=')
      const name = word.slice(2, equals < 0 ? undefined : equals)
      take(longOption(table, name), equals < 0 ? undefined : word.slice(equals + 1))
    } else {
      for (let at = 1; at < word.length; at++) {
        const option = shortOption(table, word[at])
        take(option, word.slice(at + 1) || undefined)
        if (option?.argument !== undefined) break
      }
    }
  }
  return call
}

function shortOption(table: readonly OptionSpec[], letter: string | undefined): OptionSpec | undefined {
  if (letter === undefined) return undefined
  return table.find(({ short }) => short === letter) ?? table.find(({ newer }) => newer?.includes(letter))
}

function longOption(table: readonly OptionSpec[], name: string): OptionSpec | undefined {
  const exact = table.find(({ long }) => long === name) ?? table.find(({ newer }) => newer?.includes(name))
  if (exact !== undefined) return exact
  const begun = table.filter(({ long }) => long?.startsWith(name))
  const later = table.filter(({ newer }) => newer?.some((spelling) => spelling.startsWith(name)))
  const found = begun.length > 0 ? begun : later
  return found.length === 1 ? found[0] : undefined
}

function inVerb(verb: Verb, rest: readonly string[], current: string, persona: Persona): Found {
  const table = optionsFor(verb, persona)
    .map(([, option]) => option)
    .filter(({ refused }) => refused !== true)
  const call = read(table, rest)
  const argument = (option: OptionSpec, written: string): Found => {
    const head = current.slice(0, current.length - written.length)
    return after(head, ofArgument(option, written, { verb, call, persona }))
  }
  if (call.waiting !== undefined) return argument(call.waiting, current)
  if (!call.ended && current.startsWith('-')) {
    const equals = current.indexOf('=')
    if (current.startsWith('--') && equals > 0) {
      const option = longOption(table, current.slice(2, equals))
      return option?.argument === undefined ? { words: [] } : argument(option, current.slice(equals + 1))
    }
    const short = shortOption(table, current[1])
    if (current.length > 2 && short?.argument !== undefined) return argument(short, current.slice(2))
    return { words: [...table, helpSwitch].flatMap(optionWords) }
  }
  return ofOperands(verb.operands, current)
}

const helpSwitch: OptionSpec = { short: 'h', long: 'help', help: 'Print this help.' }

function optionWords({ short, long, newer = [], argument, help }: OptionSpec): Suggestion[] {
  const sentence = help.split(/[.;] /)[0]?.replace(/\.$/, '') ?? help
  const words: Suggestion[] = []
  for (const letter of [short, ...newer.filter((name) => name.length === 1)]) {
    if (letter !== undefined) words.push({ word: `-${letter}`, help: sentence })
  }
  for (const name of new Set([long, ...newer.filter((name) => name.length > 1)])) {
    if (name === undefined) continue
    const open = argument !== undefined
    words.push({ word: `--${name}${open ? '=' : ''}`, help: sentence, open })
  }
  return words
}

function after(head: string, { words, files }: Found): Found {
  return {
    words: words.map((suggestion) => ({ ...suggestion, word: head + suggestion.word })),
    ...(files === undefined ? {} : { files: { after: head + files.after } }),
  }
}

/** Arguments that are names of files, by what help calls them. */
const fileArguments = /^(FILE|PATH|FOLDER|DIR|BASE|URL\|FOLDER|KEY|KEY,CERTIFICATE|KEY\[:DIR\],\.\.\.)$/

function ofArgument(
  option: OptionSpec,
  written: string,
  { verb, call, persona }: { verb: Verb; call: Call; persona: Persona },
): Found {
  const { argument = '', values } = option
  if (values !== undefined) return { words: values().map((word) => ({ word })) }
  if (fileArguments.test(argument)) return { words: [], files: { after: '' } }
  switch (argument) {
    case 'FMT': {
      const created = option === targetFormat(verb)
      const names = allFormats
        .filter(({ create }) => !created || create !== undefined)
        .map(({ name }) => persona.nameOf(name))
      return { words: names.filter((name) => !persona.unknown.includes(name)).map((word) => ({ word })) }
    }
    case 'CACHE':
      return { words: cacheModes.map((word) => ({ word })) }
    case 'OBJDEF':
      return {
        words: [
          'secret,id=',
          'secret_keyring,id=',
          'throttle-group,id=',
          'tls-creds-x509,id=',
          'tls-creds-psk,id=',
          'tls-creds-anon,id=',
        ].map((word) => ({ word, open: true })),
      }
    case 'OPTIONS':
      return ofCreationOptions(written, formatOf(verb, call))
    default:
      return { words: [] }
  }
}

/** The option that says which format is made. */
function targetFormat({ name, options }: Verb): OptionSpec | undefined {
  return options.targetFormat ?? (name === 'create' ? options.format : undefined)
}

function formatOf(verb: Verb, { given }: Call): string {
  const asked = targetFormat(verb) ?? verb.options.format
  return given.findLast(({ option }) => option === asked)?.value ?? 'raw'
}

/** The last of several NAME=VALUE pairs. */
function ofCreationOptions(written: string, formatName: string): Found {
  const format = findFormat(allFormats, formatName)
  if (format === undefined) return { words: [] }
  const table = creationTable(format, 'file')
  const head = written.slice(0, written.lastIndexOf(',') + 1)
  const pair = written.slice(head.length)
  const equals = pair.indexOf('=')
  if (equals < 0) {
    const names = table.filter(({ refused }) => refused === undefined)
    const words = names.map(({ name, help }) => ({ word: `${name}=`, help, open: true }))
    return after(head, { words: head === '' ? [...words, { word: 'help' }] : words })
  }
  const option = table.find(({ name }) => name === pair.slice(0, equals))
  const given = head + pair.slice(0, equals + 1)
  if (option === undefined) return { words: [] }
  if (option.name === 'backing_file' || option.name === 'data_file') return { words: [], files: { after: given } }
  if (option.name === 'backing_fmt') return after(given, { words: allFormats.map(({ name }) => ({ word: name })) })
  return after(given, { words: creationValues(option).map((word) => ({ word })) })
}

function creationValues({ type, values = [], ours = [] }: CreationOption): readonly string[] {
  return type === 'boolean' ? ['on', 'off'] : [...values, ...ours]
}

function ofOperands(operands: string, current: string): Found {
  if (/^[a-z]+(\|[a-z]+)+$/.test(operands)) return { words: operands.split('|').map((word) => ({ word })) }
  const names = [...operands.matchAll(/(?<![-\w])([a-z]+)=(\w+)/g)]
  if (names.length > 0) {
    const chosen = names.find(([, name]) => current.startsWith(`${name}=`))
    if (chosen === undefined) return { words: names.map(([, name]) => ({ word: `${name}=`, open: true })) }
    return /SOURCE|TARGET/.test(chosen[2] ?? '') ? { words: [], files: { after: `${chosen[1]}=` } } : { words: [] }
  }
  return /FILE|SOURCE|TARGET|FOLDER|PATH/.test(operands) ? { words: [], files: { after: '' } } : { words: [] }
}

/** For the scripts: a line for each word with its help behind a tab; `+` before a word after which no blank comes, `-` before others; first `=` with what was written of the word, last
 *  `*` where a file may stand, with what comes before its name. */
export function suggestionLines({ words, files, current }: Suggestions): string {
  const lines = words.map(({ word, help = '', open }) => `${open === true ? '+' : '-'}${word}\t${help}`)
  return `${[`=${current}`, ...lines, ...(files === undefined ? [] : [`*${files.after}`])].join('\n')}\n`
}
