/** Help, written from the verbs' tables: to be read by people as moraine, laid out as QEMU's when called so (programs look for options there). */
import { allFormats } from '@moraine/engine'
import { ownDrivers } from './drivers.ts'
import { Failure } from './failure.ts'
import { optionsFor } from './parse.ts'
import type { Persona } from './persona.ts'
import type { OptionSpec, Verb } from './verb.ts'
import { allVerbs, findVerb } from './verbs/index.ts'
import { versionText } from './version.ts'

/** The help of the command, of one verb, or of a verb below one (`['image', 'list']`).
 *  @throws Failure when there is no such verb. */
export async function helpText(persona: Persona, names: readonly string[]): Promise<string> {
  const [verbName, below] = names
  if (!persona.extensions) return qemuHelp(persona, await allVerbs(persona))
  if (verbName === undefined) return overview(await allVerbs(persona))
  const verb = await findVerb(verbName, persona)
  if (verb === undefined) throw new Failure(`Command not found: ${verbName}`, { usage: true })
  if (verb.below === undefined) return verbHelp(verb, persona)
  if (below === undefined) return groupHelp(verb, await verb.below.all())
  const found = await verb.below.find(below)
  if (found === undefined) throw new Failure(`Command not found: ${verbName} ${below}`, { usage: true })
  return verbHelp(found, persona)
}

const width = 100

function overview(verbs: Verb[]): string {
  const longest = Math.max(...verbs.map(({ name }) => name.length))
  return [
    'Usage: moraine COMMAND [OPTION]... [ARGUMENT]...',
    'Works on disk images of virtual machines, and serves them.',
    '',
    'Commands:',
    ...verbs.map(({ name, summary }) => `  ${name.padEnd(longest)}  ${summary}`),
    '',
    'Options before the command:',
    '  -h, --help     Print this help.',
    '  -V, --version  Print the version.',
    '  -T, --trace=[[enable=]PATTERN][,events=FILE][,file=FILE]',
    '                 Tell what happens to the files of images; --trace=help lists the events.',
    '  --errors=json  Tell errors as lines of JSON: error, kind, file, field, value, rule, hint, exitCode.',
    '',
    `Formats: ${formatNames()}`,
    "Sizes are bytes, or take a suffix k, M, G, T, P or E (powers of 1024). '-' is standard output where it makes sense.",
    '',
    "'moraine COMMAND --help' explains a command. Called by the name qemu-img, the program stands in for qemu-img 7.2.",
    '',
  ].join('\n')
}

/** A verb with others below it: those, and the options that all of them take. */
function groupHelp(group: Verb, verbs: Verb[]): string {
  const names = verbs.map(({ name }) => name.slice(group.name.length + 1))
  const longest = Math.max(...names.map(({ length }) => length))
  const shared = Object.values(group.options).map((option) => [optionNames(option).trimStart(), option.help] as const)
  const lines = [
    ...(group.alone === true ? [`Usage: moraine ${group.name} [OPTION]...`] : []),
    `${group.alone === true ? '      ' : 'Usage:'} moraine ${group.name} COMMAND [OPTION]... [ARGUMENT]...`,
    group.summary,
    '',
    ...wrap(group.about, 0),
    '',
    'Commands:',
    ...verbs.map(({ summary }, index) => `  ${(names[index] ?? '').padEnd(longest)}  ${summary}`),
    '',
    ...(shared.length === 0 ? [] : ['Options of all of them:', ...layOut(shared), '']),
    'Examples:',
    ...group.examples.flatMap(([command, what]) => [`  ${command}`, `      ${what}`]),
    '',
    `'moraine ${group.name} COMMAND --help' explains a command.`,
  ]
  return `${lines.join('\n')}\n`
}

function verbHelp(verb: Verb, persona: Persona): string {
  const all = optionsFor(verb, persona)
  const shown = all.filter(([, option]) => option.refused !== true && option.shared !== true)
  const refused = optionsFor(verb, persona).filter(([, option]) => option.refused === true)
  const rows = [
    ...shown.map(([, option]) => [optionNames(option), option.help] as const),
    ['-h, --help', 'Print this help.'] as const,
  ]
  const lines = [
    `Usage: moraine ${verb.name} [OPTION]... ${verb.operands}`.trimEnd(),
    verb.summary,
    '',
    ...wrap(verb.about, 0),
    '',
    'Options:',
    ...layOut(rows),
  ]
  const shared = all.find(([, option]) => option.shared === true)
  if (shared !== undefined) {
    const [group] = verb.name.split(' ')
    lines.push(
      '',
      `The options that all of its kind take (--${shared[1].long}, ...) are explained by 'moraine ${group} --help'.`,
    )
  }
  if (refused.length > 0) {
    const names = refused.map(([, option]) => optionNames(option).trim())
    lines.push('', `Known from qemu-img and not supported yet: ${names.join(', ')}`)
  }
  if (verb.examples.length > 0) {
    lines.push('', 'Examples:')
    for (const [command, what] of verb.examples) lines.push(`  ${command}`, `      ${what}`)
  }
  return `${lines.join('\n')}\n`
}

/** The names of an option; with `newer`, a long one that only qemu-img 10 has, where 7.2 has none. */
function optionNames({ short, long: own, argument, newer = [] }: OptionSpec, which: '7.2' | 'newer' = 'newer'): string {
  const long = own ?? (which === 'newer' ? newer.find((name) => name.length > 1) : undefined)
  if (long === undefined) return `-${short}${argument === undefined ? '' : ` ${argument}`}`
  const name = `--${long}${argument === undefined ? '' : `=${argument}`}`
  return short === undefined ? `    ${name}` : `-${short}, ${name}`
}

function layOut(rows: readonly (readonly [names: string, help: string])[]): string[] {
  const column = Math.min(30, Math.max(...rows.map(([names]) => names.length)) + 4)
  return rows.flatMap(([names, help]) => {
    const text = wrap(help, column)
    const head = `  ${names}`
    if (head.length + 2 > column) return [head, ...text]
    const [first = '', ...more] = text
    return [head.padEnd(column) + first.trimStart(), ...more]
  })
}

function wrap(text: string, indent: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    if (line !== '' && indent + line.length + 1 + word.length > width) {
      lines.push(' '.repeat(indent) + line)
      line = word
    } else line = line === '' ? word : `${line} ${word}`
  }
  lines.push(' '.repeat(indent) + line)
  return lines
}

function qemuHelp(persona: Persona, verbs: Verb[]): string {
  const parts = [
    versionText(persona).trimEnd(),
    'usage: qemu-img [standard options] command [command options]',
    'moraine, standing in for the QEMU disk image utility',
    '',
    "    '-h', '--help'       display this help and exit",
    "    '-V', '--version'    output version information and exit",
    "    '-T', '--trace'      [[enable=]<pattern>][,events=<file>][,file=<file>]",
    '                         tell what happens to the files of images',
    '',
    'Command syntax:',
    ...verbs.map(({ name, syntax }) => `  ${name} ${syntax}`),
  ]
  for (const verb of verbs) {
    const shown = optionsFor(verb, persona)
    parts.push('', `Parameters to ${verb.name} subcommand:`)
    const rows = shown
      .filter(([, { short, long }]) => short !== undefined || long !== undefined)
      .map(([, option]) => {
        const help = option.refused === true ? `${option.help} Not supported by moraine.` : option.help
        return [optionNames(option, '7.2'), help] as const
      })
    parts.push(...layOut(rows))
  }
  parts.push('', `Supported formats: ${supportedNames(persona).join(' ')}`, '')
  return parts.join('\n')
}

function formatNames(): string {
  return allFormats
    .map(({ name }) => name)
    .sort()
    .join(' ')
}

/** As QEMU lists them: formats and other drivers together, by their names. */
function supportedNames({ unknown, nameOf }: Persona): string[] {
  const formats = allFormats.map(({ name }) => nameOf(name)).filter((name) => !unknown.includes(name))
  return [...formats, ...ownDrivers].sort()
}
