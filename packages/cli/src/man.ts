/** Man pages, written from the verbs' tables: moraine.1, and one for each verb, in which those below it have their sections. */
import { allFormats, type DiskFormat } from '@moraine/engine'
import { optionsFor } from './parse.ts'
import type { Persona } from './persona.ts'
import type { OptionSpec, Verb } from './verb.ts'
import { allVerbs } from './verbs/index.ts'

/** A page: the name of its file, and its text in the macros `man`. */
export interface ManPage {
  file: string
  text: string
}

/** All pages of this version. */
export async function manPages(persona: Persona, version: string): Promise<ManPage[]> {
  const verbs = await allVerbs(persona)
  const page = (name: string, lines: readonly string[]): ManPage => ({
    file: `${name}.1`,
    // Without a date: the same version gives the same pages.
    text: `${[`.TH ${name.toUpperCase().replaceAll('-', '\\-')} 1 "" "moraine ${version}" "User Commands"`, ...lines].join('\n')}\n`,
  })
  const pages = [page('moraine', overview(verbs))]
  for (const verb of verbs) pages.push(page(`moraine-${verb.name}`, await verbPage(verb, persona)))
  return pages
}

function overview(verbs: readonly Verb[]): string[] {
  return [
    ...nameSection('moraine', 'works on disk images of virtual machines, and serves them'),
    '.SH SYNOPSIS',
    `${bold('moraine')} ${italic('COMMAND')} [${italic('OPTION')}]... [${italic('ARGUMENT')}]...`,
    '.br',
    `${bold('moraine')} [${bold('--help')} | ${bold('--version')}]`,
    '.SH DESCRIPTION',
    escaped(
      'Opens, makes, converts, checks and compares disk images of every usual format, and serves them as an OpenStack image service. Called by the name qemu-img it stands in for ' +
        'qemu-img 7.2: the same verbs, options, output and exit codes.',
    ),
    '.PP',
    escaped(
      "Sizes are bytes, or take a suffix k, M, G, T, P or E (powers of 1024). '-' is standard output where it makes sense.",
    ),
    '.SH COMMANDS',
    ...verbs.flatMap(({ name, summary }) => [...tagged(`${bold(`moraine-${name}`)}(1)`, summary)]),
    '.SH OPTIONS',
    ...tagged(`${bold('-h')}, ${bold('--help')}`, 'Print help; after a command, of that command.'),
    ...tagged(`${bold('-V')}, ${bold('--version')}`, 'Print the version.'),
    ...tagged(
      `${bold('-T')}, ${bold('--trace')}=[[enable=]${italic('PATTERN')}][,events=${italic('FILE')}][,file=${italic('FILE')}]`,
      'Before a command: tell what happens to the files of images, on standard error or into a file (%d in its name is the number of the process), which is made anew. A pattern names events, with * and ?; with - before it those ' +
        'are switched off. events names a file with a pattern on each line. --trace=help lists the events. May be given several times.',
    ),
    ...tagged(
      `${bold('--errors')}=${italic('json')}`,
      'Before a command: tell errors as lines of JSON on standard error, with error (the message), kind, file, format, field, value, rule, offset, code, hint and exitCode, as far as they are known. Kinds are those of the library, usage, refused and internal. Notes stay lines of text.',
    ),
    '.SH FORMATS',
    escaped('Options in a list after -o, as NAME=VALUE,NAME=VALUE; a comma in a value is written twice.'),
    ...allFormats
      .filter(({ can }) => can.read)
      .toSorted((a, b) => (a.name < b.name ? -1 : 1))
      .flatMap(formatSection),
    '.SH EXIT STATUS',
    escaped('0 when all is well, otherwise 1; other codes are told in the page of a command.'),
    '.SH SEE ALSO',
    verbs.map(({ name }) => `${bold(`moraine-${name}`)}(1)`).join(', '),
  ]
}

function formatSection({ name, aliases, can, create, options }: DiskFormat): string[] {
  const verbs = [
    'read',
    can.write ? 'written' : '',
    create === undefined ? '' : 'created',
    can.check ? 'checked' : '',
    can.resize ? 'resized' : '',
  ].filter((word) => word !== '')
  const also = aliases.length === 0 ? '' : ` (also ${aliases.join(', ')})`
  const shown = create === undefined ? [] : options.filter(({ refused }) => refused === undefined)
  return [
    `.SS ${escaped(name + also)}`,
    escaped(`Can be ${verbs.join(', ')}.`),
    ...shown.flatMap((option) => {
      const what = option.values === undefined ? option.type : option.values.join(' | ')
      return tagged(`${bold(option.name)}=${italic(what)}`, option.help)
    }),
  ]
}

async function verbPage(verb: Verb, persona: Persona): Promise<string[]> {
  const below = (await verb.below?.all()) ?? []
  const own = optionsFor(verb, persona).map(([, option]) => option)
  const synopsis = below.length === 0 || verb.alone === true ? [synopsisOf(verb)] : []
  return [
    ...nameSection(`moraine-${verb.name}`, lowerFirst(verb.summary)),
    '.SH SYNOPSIS',
    ...[...synopsis, ...below.map(synopsisOf)].flatMap((line, at) => (at === 0 ? [line] : ['.br', line])),
    '.SH DESCRIPTION',
    escaped(verb.about),
    '.SH OPTIONS',
    ...(below.length > 0 ? [escaped('All of these commands take:')] : []),
    ...own.flatMap(optionLines),
    ...optionLines({ short: 'h', long: 'help', help: 'Print help.' }),
    ...(below.length > 0 ? ['.SH COMMANDS'] : []),
    ...below.flatMap((one) => [
      `.SS ${escaped(`moraine ${one.name} ${one.operands}`.trimEnd())}`,
      escaped(`${one.summary}. ${one.about}`),
      ...optionsFor(one, persona)
        .map(([, option]) => option)
        .filter(({ shared }) => shared !== true)
        .flatMap(optionLines),
      ...exampleLines(one),
    ]),
    ...(verb.examples.length > 0 ? ['.SH EXAMPLES', ...exampleLines(verb)] : []),
    '.SH SEE ALSO',
    `${bold('moraine')}(1)`,
  ]
}

function nameSection(name: string, what: string): string[] {
  return ['.SH NAME', `${escaped(name)} \\- ${escaped(what)}`]
}

function synopsisOf({ name, operands }: Verb): string {
  return `${bold(`moraine ${name}`)} [${italic('OPTION')}]... ${escaped(operands)}`.trimEnd()
}

function optionLines({ short, long, newer = [], argument, help, refused, values }: OptionSpec): string[] {
  if (refused === true) return []
  const shown = argument === undefined ? '' : italic(argument)
  const shorts = [short, ...newer.filter((name) => name.length === 1)].filter((name) => name !== undefined)
  const longs = new Set([long, ...newer.filter((name) => name.length > 1)].filter((name) => name !== undefined))
  const names = [
    ...shorts.map((name) => bold(`-${name}`) + (longs.size === 0 && shown !== '' ? ` ${shown}` : '')),
    ...[...longs].map((name) => bold(`--${name}`) + (shown === '' ? '' : `=${shown}`)),
  ]
  const words = values?.() ?? []
  const unsaid = words.filter((word) => !help.includes(word))
  return tagged(names.join(', '), unsaid.length === 0 ? help : `${help} One of ${words.join(', ')}.`)
}

function exampleLines({ examples }: Verb): string[] {
  return examples.flatMap(([command, what]) => tagged(bold(command), upperFirst(`${what}.`)))
}

/** A term, and under it what it means. */
function tagged(term: string, text: string): string[] {
  return ['.TP', term, escaped(text)]
}

function bold(text: string): string {
  return `\\fB${letters(text)}\\fR`
}

function italic(text: string): string {
  return `\\fI${letters(text)}\\fR`
}

/** Text of which each sentence has a line of its own, as typesetters ask, and no line begins with a request. */
function escaped(text: string): string {
  return letters(text)
    .split(/(?<=[a-z)\d"][.;:]) (?=[A-Z"])/)
    .map((line) => line.replace(/^\./, '\\&.'))
    .join('\n')
}

/** Letters that mean themselves: dashes and quotes stay what they are when they are copied. */
function letters(text: string): string {
  return text
    .replaceAll('\\', '\\e')
    .replaceAll('-', '\\-')
    .replaceAll("'", '\\(aq')
    .replaceAll('`', '\\(ga')
    .replaceAll('^', '\\(ha')
    .replaceAll('~', '\\(ti')
    .replaceAll('…', '...')
    .replaceAll('×', '\\(mu')
}

function upperFirst(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1)
}

function lowerFirst(text: string): string {
  return /^[A-Z][a-z]/.test(text) ? text.charAt(0).toLowerCase() + text.slice(1) : text
}
