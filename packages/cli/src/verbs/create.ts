/** `create`: a new, empty image. */
import {
  type AppliedPreset,
  type Disk,
  type DiskFormat,
  isDisk,
  isMoraineError,
  MoraineError,
  openDisk,
} from '@moraine/engine'
import { fileGate } from '@moraine/engine/node'
import { formatsAndDrivers, isPlain } from '../drivers.ts'
import { explain, Failure, failureFrom, usageFailure } from '../failure.ts'
import { formatNamed, newFormatNamed, probeFormat } from '../formats.ts'
import { refuseUncreatable } from '../new-place.ts'
import { beyondLongest, longestImage, readSize } from '../numbers.ts'
import { openNamedFile } from '../open.ts'
import {
  asksForHelp,
  backingFormatRefusal,
  creationTable,
  formattingLine,
  type Medium,
  mediumOf,
  optionHelp,
  optionPairs,
  readCreationOptions,
  readLoosely,
  readOptionList,
  refuseOurs,
  unknownBackingFormat,
} from '../options.ts'
import type { Persona } from '../persona.ts'
import { choosePreset, noteOfAzure, presetHelp, presetOption, presetOptions, presetSize } from '../preset.ts'
import { NewImage } from '../target.ts'
import { distrustfulGate, untrustedLimits } from '../untrusted.ts'
import { type Context, defineVerb } from '../verb.ts'
import { object, quiet, rehearsal, trust, wantsJson } from './common.ts'

export const verb = defineVerb({
  name: 'create',
  summary: 'Make a new, empty image, or an overlay over another one',
  operands: 'FILE [SIZE]',
  syntax: '[--object objectdef] [-q] [-f fmt] [-b backing_file [-F backing_fmt]] [-u] [-o options] filename [size]',
  about:
    'The size is needed unless there is a backing file, whose size is taken then. An existing file is overwritten, unless it is in use. ' +
    "A backing file's name is recorded as given and read relative to the new image's folder.",
  examples: [
    ['moraine create -f qcow2 disk.qcow2 20G', 'an empty disk of 20 GiB'],
    [
      'moraine create -f qcow2 -o preallocation=metadata disk.qcow2 20G',
      'with all metadata in place, for speed near raw',
    ],
    ['moraine create -f qcow2 -b base.qcow2 -F qcow2 overlay.qcow2', 'an overlay: writes go to the new file'],
    ['moraine create -f qcow2 -o help', 'the options of a format'],
  ],
  options: {
    object,
    ...trust,
    ...rehearsal,
    quiet,
    format: { short: 'f', newer: ['format'], argument: 'FMT', help: 'Format of the new image; raw by default.' },
    backing: {
      short: 'b',
      newer: ['backing'],
      argument: 'FILE',
      help: 'Backing file: what is not written yet is read from there.',
    },
    backingFormat: {
      short: 'F',
      newer: ['backing-format', 'B'],
      argument: 'FMT',
      help: 'Format of the backing file; it must be given.',
    },
    for: presetOption,
    unsafe: {
      short: 'u',
      newer: ['backing-unsafe'],
      help: 'Do not open the backing file, which then need not be there.',
    },
    options: {
      short: 'o',
      newer: ['options'],
      argument: 'OPTIONS',
      collect: true,
      help: 'Options of the format, as NAME=VALUE,…; "-o help" lists them.',
      parse: readOptionList,
    },
  },
  async run(given, operands, context) {
    const [filename, sizeText, surplus] = operands
    if (given.for === 'help') {
      context.out.write(presetHelp())
      return 0
    }
    const preset = choosePreset(context, 'create', given, given.format)
    const values = preset === undefined ? given : { ...given, options: presetOptions(preset) }
    const formatName = preset?.format ?? values.format ?? 'raw'
    if (asksForHelp(values.options)) return printOptions(context, formatName, filename)
    if (filename === undefined) throw usageFailure('Expecting image file name')
    const size = sizeText === undefined ? undefined : readSize('image size', sizeText, context.warn)
    if (surplus !== undefined) throw usageFailure(`Unexpected argument: ${surplus}`)
    try {
      await create(context, { ...values, filename, formatName, size, preset })
    } catch (error) {
      throw prefixed(error, filename, context)
    }
    return 0
  },
})

const noSize = 0xffff_ffff_ffff_ffffn

interface CreateArguments {
  filename: string
  formatName: string
  size: bigint | undefined
  backing: string | undefined
  backingFormat: string | undefined
  unsafe: boolean
  options: string[]
  quiet: boolean
  preset: AppliedPreset | undefined
  dryRun: boolean
  output: string | undefined
}

function printOptions(context: Context, formatName: string, filename: string | undefined): number {
  const format = newFormatNamed(formatName, context.persona)
  const medium = filename === undefined ? undefined : mediumOf(filename, context.persona)
  context.out.write(optionHelp(format, medium, context.persona.nameOf(format.name)))
  return 0
}

async function create(context: Context, args: CreateArguments): Promise<void> {
  const { filename } = args
  const format = newFormatNamed(args.formatName, context.persona)
  refuseUncreatable(filename, context.persona)
  const medium = mediumOf(filename, context.persona)
  const pairs = gatherPairs(format, medium, args, context)
  const values = readLoosely(format, medium, pairs)
  const backing = backingOf(filename, values)
  const opened = backing === undefined || args.unsafe ? undefined : await openBacking(context, filename, backing)
  try {
    if (backing !== undefined && backing.format === undefined) throw missingBackingFormat(opened, context)
    const asked = givenSize(values) ?? (opened === undefined ? undefined : BigInt(opened.size))
    if (asked === undefined) throw new Failure('Image creation needs a size parameter')
    const { preset } = args
    const rounds = preset !== undefined && asked <= Number.MAX_SAFE_INTEGER
    const size = rounds ? BigInt(presetSize(context, preset, Number(asked), args.quiet)) : asked
    if (!args.quiet && !args.dryRun)
      context.out.write(
        formattingLine({ name: filename, format, medium, persona: context.persona }, { ...values, size }, pairs),
      )
    // The backing file itself is not looked at, but its format must be one.
    const unknown = args.unsafe ? unknownBackingFormat(format.name, backing?.format, context.persona) : undefined
    if (unknown !== undefined) throw new Failure(unknown)
    const alone = backing === undefined ? values.backing_fmt : undefined
    const refusal =
      typeof alone === 'string' ? backingFormatRefusal(format.name, alone, false, context.persona) : undefined
    if (refusal !== undefined) throw new Failure(refusal)
    const {
      size: _size,
      backing_file: _file,
      backing_fmt: _format,
      ...options
    } = readCreationOptions(format, medium, pairs, context.warn)
    refuseBeyondQemu(format, size)
    refuseOurs(format, options, context.persona)
    noteOfAzure(context, {
      format: format.name,
      options,
      size: Number(size),
      for: preset?.preset.name,
      quiet: args.quiet,
    })
    if (args.dryRun) {
      const { planNewImage, printPlan } = await import('../dry-run.ts')
      const plan = { target: filename, format, size: Number(size), options, backing: backing?.name, lost: [] }
      printPlan(context, await planNewImage(context, 'create', plan), wantsJson(args.output))
      return
    }
    // What QEMU makes is for writing into; what is asked for by the name of an importer has the order that it reads.
    if (preset !== undefined && format.streamPacked !== undefined && backing === undefined) {
      const { isStreamed, writeEmptyStream } = await import('../output/packed-file.ts')
      const planned = { format, size: Number(size), options }
      if (isStreamed(context, filename, planned)) return await writeEmptyStream(context, filename, planned)
    }
    const image = await NewImage.create(context, {
      name: filename,
      format,
      size,
      options,
      backing: backing === undefined ? undefined : { ...backing, disk: opened },
      cache: 'unsafe',
      sources: opened === undefined ? [] : [opened],
    }).catch((error) => {
      throw tooLarge(error, format, context.persona)
    })
    await image.publish()
  } finally {
    await opened?.close()
  }
}

/** QEMU counts sizes in 64 bits with a sign; −1 is its "no size". */
function givenSize({ size }: Record<string, unknown>): bigint | undefined {
  return typeof size === 'bigint' && size !== noSize ? size : undefined
}

/** Sizes that are negative for QEMU once they are rounded up to sectors, or longer than it takes any image to be. */
function refuseBeyondQemu(format: DiskFormat, size: bigint): void {
  const raw = isPlain(format.name)
  const rounded = ((size + 511n) / 512n) * 512n
  if (rounded > 0x7fff_ffff_ffff_ffffn) {
    throw new Failure(
      raw ? 'Could not resize file: Invalid argument' : 'Could not resize image: Image size cannot be negative',
    )
  }
  if (rounded > longestImage && !raw) throw new Failure(`Could not resize image: ${beyondLongest(rounded)}`)
}

/** Of whatever is too large QEMU's `create` says the same, and how it could be done where the format has clusters. */
function tooLarge(error: unknown, format: DiskFormat, persona: Persona): unknown {
  if (!isMoraineError(error) || !(error.kind === 'limit' || error.code === 'EFBIG')) return error
  const clusters = format.options.some(({ name }) => name === 'cluster_size')
  const hint = clusters ? ' (try using a larger cluster size)' : ''
  return new MoraineError(
    error.kind,
    `The image size is too large for file format '${persona.nameOf(format.name)}'${hint}`,
    error,
  )
}

/** All options as pairs: those of -o, then the size, -b and -F, which are old spellings of options. */
function gatherPairs(format: DiskFormat, medium: Medium, args: CreateArguments, context: Context): [string, string][] {
  const pairs = optionPairs(args.options)
  // A wrong option is said before a size given twice.
  readLoosely(format, medium, pairs, context.warn)
  const table = creationTable(format, medium)
  if (args.size !== undefined) {
    if (pairs.some(([name]) => name === 'size')) throw new Failure('The image size must be specified only once')
    pairs.push(['size', String(args.size)])
  }
  const has = (name: string): boolean => table.some((option) => option.name === name)
  if (args.backing !== undefined) {
    if (!has('backing_file'))
      throw new Failure(`Backing file not supported for file format '${context.persona.nameOf(format.name)}'`)
    pairs.push(['backing_file', args.backing])
  }
  if (args.backingFormat !== undefined) {
    if (!has('backing_fmt'))
      throw new Failure(`Backing file format not supported for file format '${context.persona.nameOf(format.name)}'`)
    pairs.push(['backing_fmt', args.backingFormat])
  }
  return pairs
}

interface Backing {
  name: string
  format: string | undefined
}

function backingOf(filename: string, values: Record<string, unknown>): Backing | undefined {
  const { backing_file: name, backing_fmt: format } = values
  if (typeof name !== 'string') return undefined
  if (name === '') throw new Failure('Expected backing file name, got empty string')
  if (name === filename) {
    throw new Failure('Error: Trying to create an image with the same filename as the backing file')
  }
  return { name, format: typeof format === 'string' ? format : undefined }
}

/** Opens the backing file without a lock, as QEMU does here. */
async function openBacking(context: Context, filename: string, backing: Backing): Promise<Disk> {
  try {
    const given = backing.format === undefined ? undefined : formatNamed(backing.format, 'driver', context.persona)
    const source = await openNamedFile(context, filename, backing.name)
    // A `json:` name may tell the format, too.
    if (isDisk(source) && source.format !== 'raw' && source.format === (given?.name ?? source.format)) return source
    let format = given
    try {
      format ??= await probeFormat(source, context.persona)
    } catch (error) {
      await source.close()
      throw error
    }
    return await openDisk(source, {
      formats: formatsAndDrivers(),
      format,
      // Its size is all that is wanted: an encrypted one needs no password for it.
      purpose: 'info',
      parents: true,
      gate: context.untrusted === undefined ? fileGate() : distrustfulGate(context.untrusted, fileGate()),
      limits: context.untrusted === undefined ? undefined : untrustedLimits,
    })
  } catch (error) {
    if (!isMoraineError(error) || error.kind === 'cancelled') throw error
    const hint = context.persona.details && error.hint !== undefined ? `\n${error.hint}` : ''
    throw new Failure(explain(error, context.persona), { hint: `Could not open backing image.${hint}` })
  }
}

function missingBackingFormat(opened: Disk | undefined, context: Context): Failure {
  if (opened === undefined) return new Failure('Backing file specified without backing format')
  return new Failure('Backing file specified without backing format', {
    hint: context.persona.details
      ? `Detected format of ${opened.format}. If it has that format, say so: -F ${opened.format}`
      : `Detected format of ${context.persona.nameOf(opened.format)}.`,
    unterminated: !context.persona.details,
  })
}

function prefixed(error: unknown, filename: string, context: Context): unknown {
  if (error instanceof Failure) return error.usage ? error : error.withPrefix(`${filename}: `)
  return failureFrom(error, context.persona, `${filename}: `)
}
