/** `resize`: change the virtual size. */
import {
  allFormats,
  findFormat,
  isMoraineError,
  isWritable,
  MoraineError,
  type Preallocation,
  scanSize,
  sizeComplaint,
} from '@moraine/engine'
import { closing } from '../closing.ts'
import { isPlain } from '../drivers.ts'
import type { WritePlan } from '../dry-run.ts'
import { Failure, failureFrom, usageFailure } from '../failure.ts'
import { beyondLongest, longestImage, type Warn, warnOfHex } from '../numbers.ts'
import { isExport, openForWriting, openImage } from '../open.ts'
import { mediumOf } from '../options.ts'
import { defineVerb } from '../verb.ts'
import { format, imageOpts, object, quiet, rehearsal, trust, wantsJson } from './common.ts'

const preallocations: readonly Preallocation[] = ['off', 'metadata', 'falloc', 'full']

export const verb = defineVerb({
  name: 'resize',
  summary: "Change an image's virtual size",
  operands: 'FILE [+|-]SIZE',
  syntax:
    '[--object objectdef] [--image-opts] [-f fmt] [--preallocation=prealloc] [-q] [--shrink] filename [+ | -]size',
  about:
    'Sets the size, or adds to it (+) or takes from it (-). What lies in the image is not adapted: before shrinking, shrink the ' +
    'file systems and partitions in it; after growing, grow them. Every format that is written grows (of VMDK what is one sparse or one flat extent); raw, ' +
    'LUKS, qcow2, VHDX, fixed VHD and flat VMDK shrink. A VHD whose maker goes by its geometry gets the next size that is one. ' +
    'The second header of a GPT stays where it was, unless --move-gpt is given.',
  examples: [
    ['moraine resize disk.qcow2 +10G', 'grow by 10 GiB'],
    ['moraine resize --move-gpt disk.raw +10G', 'and move the second header of the GPT to the new end'],
    ['moraine resize --shrink disk.qcow2 20G', 'cut off what lies beyond 20 GiB'],
  ],
  trailing: { count: 1, least: 2, message: 'Not enough arguments' },
  options: {
    object,
    ...trust,
    ...rehearsal,
    imageOpts,
    format,
    preallocation: {
      long: 'preallocation',
      argument: 'MODE',
      values: () => preallocations,
      help: 'What to do with the space gained: off (nothing), metadata, falloc (reserve it), full (write zeros).',
      parse(text: string): Preallocation {
        const mode = preallocations.find((known) => known === text)
        if (mode === undefined) throw new Failure(`Invalid preallocation mode '${text}'`)
        return mode
      },
    },
    moveGpt: {
      long: 'move-gpt',
      extension: true,
      help: 'When growing: move the second header of the GPT to the new end, as sgdisk -e does. Refused where the table is not sound.',
    },
    quiet,
    shrink: { long: 'shrink', help: 'Allow a smaller size: what lies beyond it is lost.' },
  },
  async run(values, operands, context) {
    const [filename, text] = operands
    if (filename === undefined || text === undefined || operands.length > 2) {
      throw usageFailure('Expecting image file name and size')
    }
    const change = readChange(text, context.warn)
    const preallocation = values.preallocation ?? 'off'
    const { format, imageOpts } = values
    // A rehearsal keeps in memory what is written, and space that is taken in advance may be as much as a disk.
    const disk =
      values.dryRun && preallocation !== 'off'
        ? await openImage(context, filename, { use: 'read', format, imageOpts })
        : await openForWriting(context, filename, { use: 'resize', format, imageOpts, rehearse: values.dryRun })
    const before = disk.size
    const ended = await closing(disk, async () => {
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
      if (values.moveGpt && size <= BigInt(disk.size)) throw new Failure('--move-gpt goes with a size that is larger')
      if (size > longestImage) throw new Failure(beyondLongest(size))
      // QEMU's raw leaves the resizing to the file, which says so.
      if (
        isPlain(disk.format) &&
        mediumOf(filename, context.persona) === 'device' &&
        !isExport(filename, context.persona)
      ) {
        if (preallocation !== 'off') {
          throw new Failure(`Preallocation mode '${preallocation}' unsupported for this non-regular file`)
        }
        if (size !== BigInt(disk.size)) throw new Failure('Cannot resize device files')
      }
      const prefix = isPlain(disk.format) && preallocation === 'off' ? 'Could not resize file: ' : ''
      try {
        if (isPlain(disk.format) && size > BigInt(Number.MAX_SAFE_INTEGER)) {
          throw new MoraineError('limit', 'File too large', { path: filename, field: 'size', value: size })
        }
        if (isWritable(disk)) {
          const resize = (): Promise<void> => disk.resize(Number(size), preallocation, values.shrink)
          if (values.moveGpt) {
            const { growWithGpt } = await import('../longer-disk.ts')
            await growWithGpt(disk, Number(size), resize, context.signal)
          } else await resize()
          await disk.flush()
        } else if (findFormat(allFormats, disk.format)?.can.resize === false) {
          throw new MoraineError('unsupported', `the format '${disk.format}' cannot be resized`)
        }
      } catch (error) {
        throw failureFrom(error, context.persona, isMoraineError(error, 'unsupported') ? '' : prefix)
      }
      if (values.dryRun) {
        const after = isWritable(disk) ? disk.size : Number(size)
        const plan = planOf(filename, disk.format, { before, after }, preallocation)
        if (values.moveGpt) plan.writes.push((await import('../longer-disk.ts')).gptMoved)
        const { printPlan } = await import('../dry-run.ts')
        printPlan(context, plan, wantsJson(values.output))
        return 0
      }
      return undefined
    })
    if (ended !== undefined) return ended
    if (!values.quiet) context.out.write('Image resized.\n')
    return 0
  },
})

function planOf(
  target: string,
  format: string,
  { before, after }: { before: number; after: number },
  preallocation: Preallocation,
): WritePlan {
  const change = after - before
  const gained = preallocation === 'off' ? '' : ` (preallocation: ${preallocation})`
  return {
    operation: 'resize',
    target,
    format,
    'virtual-size': after,
    writes: [change < 0 ? `${-change} bytes are cut off` : `${change} bytes of zeros are added${gained}`],
    lost: change < 0 ? [`what lies from byte ${after} on, up to ${before}`] : [],
  }
}

interface Change {
  sign: '+' | '-' | undefined
  bytes: bigint
}

function readChange(text: string, warn: Warn): Change {
  const sign = text.startsWith('+') ? '+' : text.startsWith('-') ? '-' : undefined
  const size = sign === undefined ? text : text.slice(1)
  warnOfHex(size, warn)
  const bytes = scanSize(size)
  if (typeof bytes !== 'bigint') throw new Failure(sizeComplaint('size', size, bytes))
  return { sign, bytes }
}

/** The new size. QEMU counts in 64 bits with a sign, so a size from 2^63 on is negative. */
function newSize(current: number, { sign, bytes }: Change): bigint {
  if (sign === '+') return BigInt.asIntN(64, BigInt(current) + bytes)
  if (sign === '-') return BigInt.asIntN(64, BigInt(current) - bytes)
  return BigInt.asIntN(64, bytes)
}
