/** `measure`: how large a file an image would need. */
import {
  type Disk,
  type DiskFormat,
  defaultLimits,
  isMoraineError,
  MoraineError,
  measureImage,
  type OptionValues,
} from '@moraine/engine'
import { explain, Failure } from '../failure.ts'
import { formatNamed } from '../formats.ts'
import { readSize, type Warn } from '../numbers.ts'
import { openImage } from '../open.ts'
import { optionPairs, readLoosely, readOptionList } from '../options.ts'
import { toPrettyJson } from '../output/json.ts'
import { openNamedSnapshot, readSnapshot } from '../snapshot-name.ts'
import { type Context, defineVerb } from '../verb.ts'
import { forceShare, format, imageOpts, object, outputFormat, trust } from './common.ts'

export const verb = defineVerb({
  name: 'measure',
  summary: 'Tell how large a file an image would need',
  operands: '[--size SIZE | FILE]',
  syntax:
    '[--output=ofmt] [-O output_fmt] [-o options] [--size N | [--object objectdef] [--image-opts] [-f fmt] [-l snapshot_param] filename]',
  about:
    'Prints the bytes needed for what an image holds now (required size) and for all it may hold (fully allocated size), ' +
    'as an image of the given format and options.',
  examples: [
    ['moraine measure -O qcow2 disk.raw', 'before a conversion'],
    ['moraine measure -O qcow2 -o cluster_size=4k --size 1T', 'for an empty disk'],
  ],
  lenient: true,
  options: {
    imageOpts: { ...imageOpts, newer: ['source-image-opts'] },
    object,
    ...trust,
    output: { ...outputFormat, parse: readOutput },
    targetFormat: {
      short: 'O',
      newer: ['target-format'],
      argument: 'FMT',
      help: 'Format of the image to be made; raw by default.',
    },
    options: {
      short: 'o',
      newer: ['options', 'target-format-options'],
      argument: 'OPTIONS',
      collect: true,
      help: 'Creation options of that image, as NAME=VALUE,…',
      parse: readOptionList,
    },
    size: {
      long: 'size',
      newer: ['s'],
      argument: 'SIZE',
      help: 'Measure an empty disk of this size.',
      parse: (text: string, warn: Warn) => readSize('image size', text, warn),
    },
    format: { ...format, newer: ['format', 'source-format'] },
    snapshot: {
      short: 'l',
      newer: ['snapshot'],
      argument: 'SNAPSHOT',
      help: 'Measure an internal snapshot, by its id or name, or as snapshot.id=ID,snapshot.name=NAME.',
      parse: readSnapshot,
    },
    forceShare,
  },
  async run(values, operands, context) {
    const [filename] = operands
    if (operands.length > 1) throw new Failure('At most one filename argument is allowed.')
    if (filename === undefined && (values.imageOpts || values.format !== undefined || values.snapshot !== undefined)) {
      throw new Failure('--image-opts, -f, and -l require a filename argument.')
    }
    if (filename !== undefined && values.size !== undefined) {
      throw new Failure('--size N cannot be used together with a filename.')
    }
    if (filename === undefined && values.size === undefined) {
      throw new Failure('Either --size N or one filename must be specified.')
    }
    if (filename === undefined) {
      context.out.write(await measure(context, values, undefined))
      return 0
    }
    const disk = await openImage(context, filename, {
      imageOpts: values.imageOpts,
      use: 'read',
      walked: true,
      format: values.format,
      forceShare: values.forceShare,
    })
    try {
      const { snapshot } = values
      const source = snapshot === undefined ? disk : await openNamedSnapshot(disk, snapshot, context)
      context.out.write(await measure(context, values, source))
      return 0
    } finally {
      await disk.close()
    }
  },
})

interface MeasureValues {
  output: 'human' | 'json' | undefined
  targetFormat: string | undefined
  options: string[]
  size: bigint | undefined
}

function readOutput(text: string): 'human' | 'json' {
  if (text === 'human' || text === 'json') return text
  throw new Failure('--output must be used with human or json as argument.')
}

function targetNamed({ persona }: Context, name: string): DiskFormat {
  const format = formatNamed(name, 'file format', persona)
  if (format.create === undefined) throw new Failure(`Format driver '${name}' does not support image creation`)
  return format
}

async function measure(context: Context, values: MeasureValues, source: Disk | undefined): Promise<string> {
  const target = targetNamed(context, values.targetFormat ?? 'raw')
  const options = readTargetOptions(context, target, values.options)
  if (target.measure === undefined || !context.persona.measures(target.name)) {
    const name = context.persona.nameOf(target.name)
    throw new MoraineError('unsupported', `Block driver '${name}' does not support size measurement`)
  }
  const size = values.size ?? (typeof options.size === 'bigint' ? options.size : 0n)
  if (size > BigInt(defaultLimits.virtualSize)) {
    throw new MoraineError('limit', 'The image size is too large (try using a larger cluster size)', {
      field: 'size',
      value: size,
      rule: `at most ${defaultLimits.virtualSize} bytes`,
    })
  }
  const found = await measureImage(
    { ...target, name: context.persona.nameOf(target.name) },
    { size: Number(size), source, options, signal: context.signal, secrets: context.objects.secrets },
  ).catch((error) => {
    throw context.persona.details ? error : inMeasuring(error)
  })
  if (values.output === 'json') {
    const { required, fullyAllocated, bitmaps } = found
    return `${toPrettyJson({ required, 'fully-allocated': fullyAllocated, bitmaps })}\n`
  }
  const bitmaps = found.bitmaps === undefined ? '' : `bitmaps size: ${found.bitmaps}\n`
  return `required size: ${found.required}\nfully allocated size: ${found.fullyAllocated}\n${bitmaps}`
}

function readTargetOptions(context: Context, target: DiskFormat, lists: string[]): OptionValues {
  const pairs = optionPairs(lists)
  try {
    readLoosely(target, 'file', pairs, context.warn)
  } catch (error) {
    if (!isMoraineError(error)) throw error
    throw new Failure([explain(error, context.persona), `Invalid options for file format '${target.name}'`])
  }
  // What is asked of the file system takes no room.
  const { nocow: _nocow, extent_size_hint: _hint, ...options } = readLoosely(target, 'file', pairs)
  return options
}

/** What QEMU says here is not what it says when the image is made. */
function inMeasuring(error: unknown): unknown {
  if (!isMoraineError(error) || !error.reason.includes('does not accept value')) return error
  const { field, value } = error
  if (field === 'compat') return new Failure(`Invalid compatibility level: '${value}'`)
  return field === 'preallocation' ? new Failure(`invalid parameter value: ${value}`) : error
}
