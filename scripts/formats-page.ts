/** `npm run formats-page`: writes `docs/formats.md` and the table in `README.md`, of formats and what each can, from the formats' own declarations.
 *  With `--check` it only says whether both are as they would be written. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { allFormats, type Capabilities, type DiskFormat, type OptionSpec } from '@moraine/engine'
import { root } from './build/workspace.ts'

const page = join(root, 'docs', 'formats.md')
const readme = join(root, 'README.md')
/** Between these two lines of the README. */
const marks = ['<!-- formats: written by npm run formats-page -->', '<!-- end of formats -->'] as const

const columns: readonly (readonly [title: string, can: keyof Capabilities])[] = [
  ['read', 'read'],
  ['write', 'write'],
  ['create', 'create'],
  ['check', 'check'],
  ['repair', 'repair'],
  ['resize', 'resize'],
  ['snapshots', 'snapshots'],
  ['backing file', 'backing'],
  ['compress', 'compress'],
  ['measure', 'measure'],
]

const cell = (text: string): string => text.replaceAll('|', '\\|').replaceAll('\n', ' ')

function row(cells: readonly string[]): string {
  return `| ${cells.map(cell).join(' | ')} |`
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [row(head), row(head.map(() => '---')), ...rows.map(row)].join('\n')
}

function summary(formats: readonly DiskFormat[]): string {
  const rows = formats.map((format) => [
    `\`${format.name}\``,
    format.aliases.map((alias) => `\`${alias}\``).join(', '),
    format.extensions.map((extension) => `.${extension.replace(/^\./, '')}`).join(' '),
    ...columns.map(([, can]) => (format.can[can] ? 'yes' : '')),
    format.stream === undefined ? '' : 'yes',
  ])
  return table(['format', 'also', 'files', ...columns.map(([title]) => title), 'to a pipe'], rows)
}

function optionRow({ name, type, values, ours = [], default: value, help, refused }: OptionSpec): string[] {
  const kind = values === undefined ? type : [...values, ...ours].map((each) => `\`${each}\``).join(', ')
  return [
    `\`${name}\``,
    kind,
    value === undefined ? '' : `\`${value}\``,
    refused === undefined ? help : `refused: ${refused}`,
  ]
}

function optionTables(formats: readonly DiskFormat[]): string[] {
  return formats.flatMap(({ name, options }) =>
    options.length === 0
      ? []
      : [`### ${name}`, table(['option', 'values', 'default', 'what it is'], options.map(optionRow))],
  )
}

const formats = [...allFormats].sort((a, b) => (a.name < b.name ? -1 : 1))
const text = `${[
  '# Formats',
  'Written by `npm run formats-page` from what the formats declare of themselves.',
  summary(formats),
  '`read` and `write` are of guest data; `repair` is `check -r`; `resize` is growing (of `vmdk` what is one sparse or one flat extent), and of `raw`, `luks`, `qcow2`, `vhdx`, fixed `vhd` and flat `vmdk` shrinking, too; `to a pipe` is `convert … -` and the export of the image service, with an exact length known first wherever nothing is compressed.',
  '## Options of creation',
  ...optionTables(formats),
].join('\n\n')}\n`

const start = read(readme).split(marks[0])[0] ?? ''
const end = read(readme).split(marks[1])[1] ?? ''
const files: readonly (readonly [path: string, text: string])[] = [
  [page, text],
  [readme, [start, marks[0], '\n\n', summary(formats), '\n\n', marks[1], end].join('')],
]

if (!process.argv.includes('--check')) for (const [path, content] of files) writeFileSync(path, content)
else process.exitCode = files.every(([path, content]) => read(path) === content) ? 0 : 1

/** Nothing where there is no file yet. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
