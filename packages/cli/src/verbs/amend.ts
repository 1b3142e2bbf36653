/** `amend`: change options of an image that is there. */
import { amendKeys, type DiskFormat, findFormat, isMoraineError, type OptionSpec, readOptions } from '@moraine/engine'
import { readCacheMode } from '../cache.ts'
import { closing } from '../closing.ts'
import { cryptoLibrary } from '../crypto-library.ts'
import { formatsAndDrivers } from '../drivers.ts'
import { printPlan } from '../dry-run.ts'
import { explain, Failure, usageFailure } from '../failure.ts'
import { formatNamed } from '../formats.ts'
import { openForWriting } from '../open.ts'
import { asksForHelp, helpLine, optionPairs, readOptionList } from '../options.ts'
import { showProgress } from '../output/progress.ts'
import { type Context, defineVerb } from '../verb.ts'
import {
  format,
  imageOpts,
  object,
  progressMode,
  showProgress as progressOption,
  quiet,
  rehearsal,
  trust,
  wantsJson,
} from './common.ts'

/** What is changed about key slots; where they are those of qcow2, `encrypt.` stands before. */
const keyOptions: readonly OptionSpec[] = [
  {
    name: 'state',
    type: 'enum',
    values: ['active', 'inactive'],
    help: 'Select new state of affected keyslots (active/inactive)',
  },
  { name: 'new-secret', type: 'string', help: 'New secret to set in the matching keyslots. Empty string to erase' },
  { name: 'old-secret', type: 'string', help: 'Select all keyslots that match this password' },
  { name: 'keyslot', type: 'number', help: 'Select a single keyslot to modify explicitly' },
  { name: 'iter-time', type: 'number', help: 'Time to spend in PBKDF in milliseconds' },
]

export const verb = defineVerb({
  name: 'amend',
  summary: 'Change options of an image that is there',
  operands: 'FILE',
  syntax: '[--object objectdef] [--image-opts] [-p] [-q] [-f fmt] [-t cache] [--force] -o options filename',
  about:
    'Changes what an image is made like, not what it holds: of qcow2 the version, the width of reference counts, lazy counting, the size and the name of the data file; ' +
    'of encrypted images the passwords that open them. "-o help" lists what a format can change.',
  examples: [
    ['moraine amend -o compat=1.1 old.qcow2', 'to version 3'],
    [
      'moraine amend --object secret,id=old,file=old.txt --object secret,id=new,file=new.txt -o encrypt.state=active,encrypt.new-secret=new --image-opts driver=qcow2,encrypt.key-secret=old,file.filename=disk.qcow2',
      'one more password',
    ],
    ['moraine amend --dry-run -o compat=0.10 disk.qcow2', 'what would be lost?'],
  ],
  options: {
    object,
    ...trust,
    ...rehearsal,
    imageOpts,
    percent: progressOption,
    quiet,
    format,
    cache: {
      short: 't',
      newer: ['cache'],
      argument: 'CACHE',
      help: 'Cache mode for writing: none, writeback (the default), writethrough, directsync or unsafe.',
    },
    force: { long: 'force', help: 'Erase the last password too, or write over one.' },
    options: {
      short: 'o',
      newer: ['options'],
      argument: 'OPTIONS',
      collect: true,
      help: 'What to change, as NAME=VALUE,…; "-o help" lists what there is.',
      parse: readOptionList,
    },
    progress: progressMode,
  },
  async run(values, operands, context) {
    if (values.options.length === 0) throw usageFailure('Must specify options (-o)')
    const [filename] = operands
    if (values.format !== undefined && asksForHelp(values.options)) {
      return printHelp(context, formatNamed(values.format, 'file format', context.persona))
    }
    if (filename === undefined || operands.length > 1) throw new Failure('Expecting one image file name')
    const cache = readCacheMode('cache', values.cache ?? 'writeback')
    const { format: given, imageOpts: opts } = values
    const { dryRun } = values
    const json = wantsJson(values.output)
    const disk = await openForWriting(context, filename, {
      use: 'write',
      format: given,
      imageOpts: opts,
      cache,
      rehearse: dryRun,
    })
    let closed = false
    const open = { close: async () => (closed ? undefined : await disk.close()) }
    return await closing(open, async () => {
      const found = findFormat(formatsAndDrivers(), disk.format)
      if (asksForHelp(values.options)) return printHelp(context, found)
      const known = tableOf(found, context)
      if (dryRun) {
        const { planAmendment } = await import('../amend-plan.ts')
        const { own, keys } = readAmendments(known, values.options)
        closed = true
        const plan = await planAmendment(disk, filename, async () => {
          await change(context, known.format, disk, { own, keys }, values.force)
        })
        printPlan(context, plan, json)
        return 0
      }
      const display = await showProgress(context, values, { operation: 'amend' })
      try {
        display.onProgress?.({ done: 0, total: 0 })
        const read = readAmendments(known, values.options)
        await change(context, known.format, disk, read, values.force)
        closed = true
        await disk.close()
      } finally {
        display.finish()
        display.end()
      }
      return 0
    })
  },
})

/** What a format can change. */
interface Amendable {
  format: DiskFormat
  table: readonly OptionSpec[]
  /** What stands before the options of key slots. */
  prefix: string
}

function tableOf(format: DiskFormat | undefined, { persona }: Context): Amendable {
  if (format === undefined || (format.amend === undefined && format.amendKeys === undefined)) {
    const name = format === undefined ? 'raw' : persona.nameOf(format.name)
    throw new Failure(`Format driver '${name}' does not support option amendment`)
  }
  const prefix = format.name === 'luks' ? '' : 'encrypt.'
  const keys =
    format.amendKeys === undefined ? [] : keyOptions.map((option) => ({ ...option, name: prefix + option.name }))
  return { format, table: [...(format.amendOptions ?? []), ...keys], prefix }
}

function printHelp(context: Context, format: DiskFormat | undefined): number {
  const { table, format: known } = tableOf(format, context)
  const lines = [...table].sort((a, b) => (a.name < b.name ? -1 : 1)).map(helpLine)
  context.out.write(`Amend options for '${context.persona.nameOf(known.name)}':\n${lines.join('')}`)
  return 0
}

type Read = Record<string, string | number | bigint | boolean>

interface Amendments {
  own: Read
  keys: Read
}

function readAmendments({ format, table, prefix }: Amendable, lists: readonly string[]): Amendments {
  const pairs = optionPairs(lists)
  for (const [name] of pairs) {
    if (table.some((option) => option.name === name)) continue
    throw new Failure(`Invalid parameter '${name}'`, {
      hint: format.options.some((option) => option.name === name)
        ? 'This option is only supported for image creation'
        : undefined,
    })
  }
  const state = pairs.findLast(([name]) => name === `${prefix}state`)?.[1]
  if (state !== undefined && state !== 'active' && state !== 'inactive') {
    throw new Failure(`Parameter 'state' does not accept value '${state}'`)
  }
  const own: Read = {}
  const keys: Read = {}
  for (const [name, value] of Object.entries(readOptions(table, pairs))) {
    const key = name.startsWith(prefix) ? name.slice(prefix.length) : undefined
    if (key !== undefined && keyOptions.some((option) => option.name === key)) keys[key] = value
    else own[name] = value
  }
  return { own, keys }
}

async function change(
  context: Context,
  format: DiskFormat,
  disk: Parameters<NonNullable<DiskFormat['amend']>>[0],
  { own, keys }: Amendments,
  force: boolean,
): Promise<void> {
  try {
    if (Object.keys(keys).length > 0) {
      const { state } = keys
      await amendKeys(
        format,
        disk,
        {
          state: state === 'active' || state === 'inactive' ? state : undefined,
          newSecret: textOf(keys['new-secret']),
          oldSecret: textOf(keys['old-secret']),
          keyslot: numberOf(keys.keyslot),
          iterTime: numberOf(keys['iter-time']),
          force,
        },
        { crypto: cryptoLibrary(), secrets: context.objects.secrets },
      )
    }
    if (Object.keys(own).length > 0) await format.amend?.(disk, { options: own, signal: context.signal })
  } catch (error) {
    if (!isMoraineError(error) || error.kind === 'cancelled') throw error
    throw new Failure(explain(error, context.persona), { hint: error.hint })
  }
}

function textOf(value: Read[string] | undefined): string | undefined {
  return typeof value === 'string' ? value : undefined
}

function numberOf(value: Read[string] | undefined): number | undefined {
  return typeof value === 'number' ? value : undefined
}
