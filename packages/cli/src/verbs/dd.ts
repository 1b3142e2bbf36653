/** `dd`: blocks of an image into a new one. */
import { type Disk, isMoraineError, MoraineError, throwIfCancelled, type WritableDisk } from '@moraine/engine'
import { closing } from '../closing.ts'
import { Failure, failureFrom } from '../failure.ts'
import { formatNamed } from '../formats.ts'
import { readSize, type Warn } from '../numbers.ts'
import { openImage } from '../open.ts'
import type { Persona } from '../persona.ts'
import { NewImage } from '../target.ts'
import { type Context, defineVerb } from '../verb.ts'
import { forceShare, format, imageOpts, object, rehearsal, trust, wantsJson } from './common.ts'

/** What the operands say. */
interface Request {
  blockSize: number
  /** Blocks. */
  count: bigint | undefined
  /** Blocks of the source that are left out. */
  skip: bigint
  source: string
  target: string
}

/** Bytes read and written at once, whatever the block size. */
const pieceBytes = 2 * 1024 * 1024

export const verb = defineVerb({
  name: 'dd',
  summary: 'Copy blocks of an image into a new one',
  operands: 'if=SOURCE of=TARGET [bs=SIZE] [count=BLOCKS] [skip=BLOCKS]',
  syntax:
    '[--image-opts] [-U] [-f fmt] [-O output_fmt] [bs=block_size] [count=blocks] [skip=blocks] if=input of=output',
  about:
    'Copies guest bytes from SOURCE into a new image TARGET, which is as large as what is copied. Without bs, blocks have 512 bytes. ' +
    'All of it is written, zeros too.',
  examples: [
    ['moraine dd if=disk.qcow2 of=boot.raw bs=1M count=1', 'the first MiB of what the guest sees'],
    ['moraine dd -O qcow2 if=disk.raw of=part.qcow2 bs=1M skip=1', 'all but the first MiB'],
  ],
  options: {
    object,
    ...trust,
    ...rehearsal,
    imageOpts,
    forceShare,
    format,
    targetFormat: {
      short: 'O',
      newer: ['output-format'],
      argument: 'FMT',
      help: 'Format of the target; raw by default.',
    },
  },
  async run(values, operands, context) {
    const request = readRequest(operands, context.warn)
    const disk = await openImage(context, request.source, {
      use: 'read',
      format: values.format,
      forceShare: values.forceShare,
      imageOpts: values.imageOpts,
    })
    try {
      const targetFormat = values.targetFormat ?? 'raw'
      if (values.dryRun) await rehearse(context, disk, request, targetFormat, wantsJson(values.output))
      else await copy(context, disk, request, targetFormat)
      return 0
    } finally {
      await disk.close()
    }
  },
})

/** @throws Failure in QEMU's words. */
function readRequest(operands: readonly string[], warn: Warn): Request {
  const request: Partial<Request> = {}
  for (const operand of operands) {
    const at = operand.indexOf('=')
    const name = at < 0 ? operand : operand.slice(0, at)
    const value = operand.slice(at + 1)
    if (at >= 0 && name === 'bs')
      request.blockSize = Number(readSize('bs', value, warn, { least: 1n, most: 2n ** 31n - 1n }))
    else if (at >= 0 && name === 'count') request.count = readSize('count', value, warn)
    else if (at >= 0 && name === 'skip') request.skip = readSize('skip', value, warn)
    else if (at >= 0 && name === 'if') request.source = value
    else if (at >= 0 && name === 'of') request.target = value
    else throw new Failure(`unrecognized operand ${name}`)
  }
  const { source, target } = request
  if (source === undefined || target === undefined) throw new Failure('Must specify both input and output files')
  return { blockSize: 512, count: undefined, skip: 0n, ...request, source, target }
}

async function copy(context: Context, disk: Disk, request: Request, formatName: string): Promise<void> {
  const target = formatFor(context, formatName)
  const { start, length } = rangeOf(context, disk, request)
  let image: NewImage
  try {
    if (request.target === '') {
      throw new MoraineError('missing', "Could not create '': No such file or directory", { code: 'ENOENT' })
    }
    image = await NewImage.create(context, {
      name: request.target,
      format: target,
      size: length ?? 0n,
      options: {},
      cache: 'writeback',
      sources: [disk],
    })
  } catch (error) {
    if (isMoraineError(error) && error.reason.startsWith('Unknown protocol')) throw error
    throw failureFrom(error, context.persona, `${request.target}: error while creating output image: `)
  }
  try {
    if (length === undefined) context.report(`${request.source}: cannot skip to specified offset`)
    const written = await image.open()
    await closing(written, async () => {
      if (length !== undefined) await copyBytes(context, disk, Number(start), Number(length), written)
    })
    await image.publish()
  } catch (error) {
    await image.abandon()
    throw failureFrom(error, context.persona)
  }
}

/** Tells what would be copied. */
async function rehearse(
  context: Context,
  disk: Disk,
  request: Request,
  formatName: string,
  json: boolean,
): Promise<void> {
  const format = formatFor(context, formatName)
  const { start, length = 0n } = rangeOf(context, disk, request)
  const { planNewImage, printPlan } = await import('../dry-run.ts')
  const size = Number(length)
  const plan = await planNewImage(context, 'dd', { target: request.target, format, size, options: {}, lost: [] })
  const writes = [...plan.writes, `${length} bytes of '${request.source}' from byte ${start} on, zeros too`]
  // Zeros are written as well, so that the image is allocated as a whole.
  printPlan(context, { ...plan, required: plan['fully-allocated'], 'fully-allocated': undefined, writes }, json)
}

function rangeOf(context: Context, disk: Disk, { blockSize, count, skip }: Request) {
  const start = skip * BigInt(blockSize)
  const wanted = count === undefined ? undefined : count * BigInt(blockSize)
  return { start, length: lengthOf(context, BigInt(disk.size), start, wanted) }
}

/** Bytes that are copied; undefined where there is nothing at `start`. */
function lengthOf({ persona }: Context, size: bigint, start: bigint, wanted: bigint | undefined): bigint | undefined {
  const least = (a: bigint, b: bigint): bigint => (a < b ? a : b)
  const end = wanted === undefined ? size : least(size, persona.countsSkipped ? wanted : start + wanted)
  return start > end ? undefined : end - start
}

function formatFor({ persona }: Context, name: string) {
  try {
    const format = formatNamed(name, 'file format', persona)
    if (format.create === undefined) {
      throw new Failure(`Format driver '${persona.nameOf(format.name)}' does not support image creation`)
    }
    return format
  } catch (error) {
    if (error instanceof Failure) throw error
    throw new Failure(persona.details ? `Unknown file format '${name}'` : 'Unknown file format')
  }
}

async function copyBytes(
  { signal, persona }: Context,
  disk: Disk,
  from: number,
  length: number,
  target: WritableDisk,
): Promise<void> {
  const buffer = new Uint8Array(Math.min(pieceBytes, length))
  for (let done = 0; done < length; done += buffer.length) {
    throwIfCancelled(signal, disk.name)
    const piece = buffer.subarray(0, Math.min(buffer.length, length - done))
    await saying('error while reading from input image file: ', persona, disk.read(from + done, piece, signal))
    await saying('error while writing to output image file: ', persona, target.write(done, piece, signal))
  }
}

async function saying(prefix: string, persona: Persona, work: Promise<void>): Promise<void> {
  try {
    await work
  } catch (error) {
    throw failureFrom(error, persona, prefix)
  }
}
