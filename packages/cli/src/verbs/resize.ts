/** `resize`: change the virtual size. */
import { type Preallocation, parseSize } from '@moraine/engine'
import { Failure, failureFrom, usageFailure } from '../failure.ts'
import { openForWriting } from '../open.ts'
import { defineVerb } from '../verb.ts'
import { format, imageOpts, object, quiet } from './common.ts'

const preallocations: readonly Preallocation[] = ['off', 'metadata', 'falloc', 'full']

export const verb = defineVerb({
  name: 'resize',
  summary: "Change an image's virtual size",
  operands: 'FILE [+|-]SIZE',
  syntax:
    '[--object objectdef] [--image-opts] [-f fmt] [--preallocation=prealloc] [-q] [--shrink] filename [+ | -]size',
  about:
    'Sets the size, or adds to it (+) or takes from it (-). What lies in the image is not adapted: before shrinking, shrink the ' +
    'file systems and partitions in it; after growing, grow them.',
  examples: [
    ['moraine resize disk.qcow2 +10G', 'grow by 10 GiB'],
    ['moraine resize --shrink disk.qcow2 20G', 'cut off what lies beyond 20 GiB'],
  ],
  trailing: { count: 1, least: 2, message: 'Not enough arguments' },
  options: {
    object,
    imageOpts,
    format,
    preallocation: {
      long: 'preallocation',
      argument: 'MODE',
      help: 'What to do with the space gained: off (nothing), metadata, falloc (reserve it), full (write zeros).',
      parse(text: string): Preallocation {
        const mode = preallocations.find((known) => known === text)
        if (mode === undefined) throw new Failure(`Invalid preallocation mode '${text}'`)
        return mode
      },
    },
    quiet,
    shrink: { long: 'shrink', help: 'Allow a smaller size: what lies beyond it is lost.' },
  },
  async run(values, operands, context) {
    const [filename, text] = operands
    if (filename === undefined || text === undefined || operands.length > 2) {
      throw usageFailure('Expecting image file name and size')
    }
    const change = readChange(text)
    const preallocation = values.preallocation ?? 'off'
    const disk = await openForWriting(context, filename, { use: 'resize', format: values.format })
    try {
      const size = newSize(disk.size, change)
      if (size <= 0n) throw new Failure('New image size must be positive')
      if (size <= BigInt(disk.size) && preallocation !== 'off') {
        throw new Failure('Preallocation can only be used for growing images')
      }
      if (size < BigInt(disk.size) && !values.shrink) {
        context.report('Use the --shrink option to perform a shrink operation.')
        context.warn(
          "Shrinking an image will delete all data beyond the shrunken image's end. Before performing such an operation, make sure " +
            'there is no important data there.',
        )
        return 1
      }
      try {
        await disk.resize(Number(size), preallocation, values.shrink)
        await disk.flush()
      } catch (error) {
        throw failureFrom(error, context.persona)
      }
    } finally {
      await disk.close()
    }
    if (!values.quiet) context.out.write('Image resized.\n')
    return 0
  },
})

interface Change {
  sign: '+' | '-' | undefined
  bytes: bigint
}

function readChange(text: string): Change {
  const sign = text.startsWith('+') ? '+' : text.startsWith('-') ? '-' : undefined
  const bytes = parseSize(sign === undefined ? text : text.slice(1))
  if (bytes === undefined) {
    throw new Failure(
      "Parameter 'size' expects a non-negative number below 2^64\n" +
        'Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively.',
    )
  }
  return { sign, bytes }
}

/** The new size, in whole sectors. QEMU counts in 64 bits with a sign, so a size from 2^63 on is negative. */
function newSize(current: number, { sign, bytes }: Change): bigint {
  const signed = BigInt.asIntN(64, bytes)
  if (sign === '+') return BigInt(current) + signed
  if (sign === '-') return BigInt(current) - signed
  return signed
}
