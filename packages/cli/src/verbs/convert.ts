/** `convert`: what one or more images hold, as another image. */
import {
  allFormats,
  type ConversionPlan,
  type Disk,
  type DiskFormat,
  findFormat,
  gnuTarStream,
  planConversion,
  type RunOptions,
  raw,
  type StreamPlan,
  type WritableDisk,
} from '@moraine/engine'
import { type CacheMode, readCacheMode } from '../cache.ts'
import { closing } from '../closing.ts'
import { ConcatDisk } from '../concat.ts'
import { conversionFailure } from '../convert-failure.ts'
import { Failure, failureFrom } from '../failure.ts'
import { newFormatNamed } from '../formats.ts'
import { noteUnseenEnds, openForWriting, openImage } from '../open.ts'
import { asksForHelp, filePlacement, mediumOf, optionHelp } from '../options.ts'
import { type ProgressDisplay, showProgress } from '../output/progress.ts'
import { choosePreset, noteOfAzure, presetDisk, presetHelp, presetOptions } from '../preset.ts'
import { openNamedSnapshot } from '../snapshot-name.ts'
import { NewImage } from '../target.ts'
import { type Context, defineVerb } from '../verb.ts'
import { packStream, type TargetWrapping, targetWrapping } from '../wrappers.ts'
import { wantsJson } from './common.ts'
import { type ConvertValues, checkCombinations, convertOptions, splitOperands } from './convert-options.ts'
import { checkTarget, readTarget, type TargetOptions } from './convert-target.ts'

export const verb = defineVerb({
  name: 'convert',
  summary: 'Copy what images hold into an image of another format',
  operands: 'SOURCE... TARGET',
  syntax:
    '[--object objectdef] [--image-opts] [--target-image-opts] [--target-is-zero] [--bitmaps] [-U] [-C] [-c] [-p] [-q] [-n] [-f fmt] ' +
    '[-t cache] [-T src_cache] [-O output_fmt] [-B backing_file [-F backing_fmt]] [-o options] [-l snapshot_param] [-S sparse_size] ' +
    '[-r rate_limit] [-m num_coroutines] [-W] [--salvage] filename [filename2 [...]] output_filename',
  about:
    'Several sources are put one after the other. A backing chain is copied whole, unless -B names a backing file for the target. ' +
    'A new target appears under its name when it is complete; an existing one is overwritten where it lies. ' +
    "With '-' as the target the image is written to standard output, front to back.",
  examples: [
    ['moraine convert -p -O qcow2 disk.raw disk.qcow2', 'raw to qcow2'],
    ['moraine convert -c -O qcow2 -o compression_type=zstd disk.raw small.qcow2', 'compressed'],
    ['moraine convert -n disk.qcow2 /dev/vg/volume', 'onto a device'],
    ['moraine convert -O qcow2 disk.raw - | ssh host "cat > disk.qcow2"', 'through a pipe'],
  ],
  options: convertOptions,
  async run(given, operands, context) {
    checkCombinations(given)
    if (given.for === 'help') {
      context.out.write(presetHelp())
      return 0
    }
    const preset = choosePreset(context, 'convert', given, given.targetFormat)
    const values = preset === undefined ? given : { ...given, options: presetOptions(preset) }
    const formatName = preset?.format ?? values.targetFormat ?? 'raw'
    if (asksForHelp(values.options)) {
      const filename = operands.length > 1 ? operands.at(-1) : undefined
      const format = newFormatNamed(formatName, context.persona)
      const { persona } = context
      const medium = filename === undefined ? undefined : mediumOf(filename, persona)
      context.out.write(optionHelp(format, medium, persona.nameOf(format.name)))
      return 0
    }
    const { sources, target } = splitOperands(operands)
    const sourceCache = readCacheMode('source cache', values.sourceCache ?? 'writeback')
    const opened: Disk[] = []
    const display = await showProgress(context, values, {
      operation: 'convert',
      outputTaken: !values.targetImageOpts && isPipe(context, target),
    })
    try {
      display.onProgress?.({ done: 0, total: 0 })
      const all = await openSources(context, values, sources, sourceCache, opened)
      const source = preset === undefined ? all : await presetDisk(context, preset, all, values.quiet)
      const archive = preset?.preset.archive
      await convert(context, values, { source, opened, name: target, formatName, archive, display })
      display.finish()
      if (!values.quiet && values.format === undefined) await noteUnseenEnds(context, opened)
      return 0
    } finally {
      display.end()
      for (const disk of opened) await disk.close()
    }
  },
})

/** One conversion. */
interface Job {
  source: Disk
  /** The disks that are read, for the check that the target is none of them. */
  opened: Disk[]
  name: string
  formatName: string
  /** It is written as a packed archive that holds the image under this name. */
  archive: string | undefined
  display: ProgressDisplay
}

async function openSources(
  context: Context,
  values: ConvertValues,
  names: string[],
  cache: CacheMode,
  opened: Disk[],
): Promise<Disk> {
  for (const name of names) {
    const request = {
      use: 'source',
      format: values.format,
      forceShare: values.forceShare,
      imageOpts: values.imageOpts,
      cache,
    } as const
    opened.push(await openImage(context, name, request))
  }
  const [first] = opened
  if (first === undefined) throw new Failure('Must specify image file name')
  if (values.snapshot === undefined) return opened.length === 1 ? first : new ConcatDisk(opened)
  if ('either' in values.snapshot && opened.length > 1) {
    throw new Failure('No support for concatenating multiple snapshot')
  }
  const snapshot = await openNamedSnapshot(first, values.snapshot, context)
  return opened.length === 1 ? snapshot : new ConcatDisk([snapshot, ...opened.slice(1)])
}

async function convert(context: Context, values: ConvertValues, job: Job): Promise<void> {
  const draft = readTarget(context, values, job)
  const bitmaps = checkTarget(context, values, job.opened, draft)
  const target = draft.settle()
  const { format, options } = target
  noteOfAzure(context, { ...values, format: format.name, options, size: job.source.size })
  if (values.dryRun) return await rehearse(context, values, job, { ...target, bitmaps })
  if (!values.targetImageOpts && isPipe(context, job.name)) {
    return await writeToPipe(context, values, job, { ...target, bitmaps })
  }
  const cache = readCacheMode('cache', values.cache ?? 'unsafe')
  const wrapping = values.noCreate ? undefined : wrappingFor(context, values, job)
  if (wrapping !== undefined || (await isOrdered(context, values, job.name, target))) {
    return await writeAsStream(context, values, job, { ...target, bitmaps, cache, wrapping })
  }
  if (values.noCreate) return await convertInto(context, values, job, { ...target, bitmaps, cache })
  const image = await createTarget(context, job, target, cache)
  try {
    const disk = await attempt(context, `Could not open '${job.name}': `, () => image.open())
    await closing(closedFor(context, job, disk), async () => {
      checkOpenTarget(values, disk, context)
      await run(context, values, job, { ...target, bitmaps }, disk)
    })
    await image.publish()
  } catch (error) {
    await image.abandon()
    if (image.inPlace) throw damaged(error, job.name, context)
    throw error
  }
}

/** Tells what would be made, and writes nothing. */
async function rehearse(
  context: Context,
  values: ConvertValues,
  job: Job,
  target: TargetOptions & { bitmaps: boolean },
): Promise<void> {
  const { planNewImage, printPlan } = await import('../dry-run.ts')
  await attempt(context, '', async () => {
    const { losses } = await plans(context, values, job, target)
    const { source, name } = job
    const { format, options, backing } = target
    const lost = losses.map(({ reason }) => reason)
    const request = { target: name, format, size: source.size, options, backing: backing?.name, source, lost }
    const plan = await planNewImage(context, 'convert', request)
    // How far it can be packed shows when it is.
    const required = values.compress ? undefined : plan.required
    printPlan(context, { ...plan, required }, wantsJson(values.output))
  })
}

function isPipe({ persona }: Context, name: string): boolean {
  return persona.readName(name).kind === 'stdio'
}

async function createTarget(context: Context, job: Job, target: TargetOptions, cache: CacheMode): Promise<NewImage> {
  return await attempt(context, `${job.name}: error while converting ${job.formatName}: `, () =>
    NewImage.create(context, {
      name: job.name,
      format: target.format,
      size: BigInt(job.source.size),
      options: target.options,
      backing: target.backing,
      cache,
      sources: job.opened,
    }),
  )
}

async function formatOf(disk: Disk): Promise<DiskFormat> {
  const known = findFormat(allFormats, disk.format)
  if (known !== undefined) return known
  const { imageUnder } = await import('../blockdev/filters.ts')
  return findFormat(allFormats, imageUnder(disk).format) ?? raw
}

/** QEMU's filter `compress` stands for `-c`. */
function compressing(values: ConvertValues, disk: Disk): ConvertValues {
  return disk.format === 'compress' ? { ...values, compress: true } : values
}

/** `-n`: into an image or a device that is there. */
async function convertInto(
  context: Context,
  values: ConvertValues,
  job: Job,
  target: TargetOptions & { bitmaps: boolean; cache: CacheMode },
): Promise<void> {
  const opts = values.targetImageOpts
  if (opts && values.targetFormat !== undefined) {
    throw new Failure('--image-opts and --format are mutually exclusive')
  }
  const format = opts ? undefined : job.formatName
  const disk = await openForWriting(context, job.name, { use: 'write', format, imageOpts: opts, cache: target.cache })
  await closing(closedFor(context, job, disk), async () => {
    checkOpenTarget(values, disk, context)
    if (disk.size < job.source.size) throw new Failure('output file is smaller than input file')
    try {
      await run(context, compressing(values, disk), job, { ...target, format: await formatOf(disk) }, disk)
    } catch (error) {
      throw damaged(error, job.name, context)
    }
  })
}

function checkOpenTarget(values: ConvertValues, disk: WritableDisk, { persona }: Context): void {
  if (values.bitmaps && disk.bitmaps === undefined) {
    throw new Failure(`Format driver '${persona.nameOf(disk.format)}' does not support bitmaps`)
  }
  if (values.compress && disk.packedUnit === undefined && disk.compression !== 'ignored') {
    throw new Failure('Compression not supported for this file format')
  }
}

async function run(
  context: Context,
  values: ConvertValues,
  job: Job,
  target: TargetOptions & { bitmaps: boolean },
  disk: WritableDisk,
): Promise<void> {
  const plan = await attempt(context, '', () => plans(context, values, job, target, disk.parent))
  if (!values.quiet) sayLosses(context, plan)
  try {
    await plan.run(disk, { signal: context.signal, onProgress: job.display.onProgress })
  } catch (error) {
    throw conversionFailure(error, [job.name, disk.name], context.persona)
  }
}

function plans(
  context: Context,
  values: ConvertValues,
  job: Job,
  target: TargetOptions & { bitmaps: boolean },
  parent?: Disk,
): Promise<ConversionPlan> {
  return planConversion(job.source, {
    format: target.format,
    options: target.options,
    compress: values.compress,
    sparseBytes: values.sparse,
    backing: target.backing === undefined ? undefined : { ...target.backing, disk: parent },
    targetIsZero: values.noCreate ? values.targetIsZero : undefined,
    requests: values.requests,
    outOfOrder: values.outOfOrder,
    salvage: values.salvage,
    rate: values.rate === 0 ? undefined : values.rate,
    copyOffload: values.copyOffload,
    bitmaps: target.bitmaps,
    skipBrokenBitmaps: values.skipBroken,
    // QEMU says what bitmaps it leaves out even when asked to be quiet.
    warn: (message, about) => {
      if (!values.quiet || about === 'bitmap') context.warn(message)
    },
  })
}

/** `-`: front to back, to standard output. */
async function writeToPipe(
  context: Context,
  values: ConvertValues,
  job: Job,
  target: TargetOptions & { bitmaps: boolean },
): Promise<void> {
  if (values.noCreate) throw new Failure('-n cannot be used with standard output')
  const { writeStream } = await import('../output/pipe.ts')
  await attempt(context, '', async () => {
    const plan = await plans(context, values, job, target)
    const stream = packStream(await streamFor(job, plan), wrappingFor(context, values, job), job.display.onProgress)
    if (!values.quiet) sayLosses(context, plan)
    await writeStream(stream, { signal: context.signal, onProgress: job.display.onProgress })
  })
}

function wrappingFor(
  { persona }: Context,
  { wrap }: ConvertValues,
  { name, archive }: Job,
): TargetWrapping | undefined {
  if (archive === undefined) return targetWrapping(name, wrap, persona)
  if (wrap === undefined || wrap === 'gzip') return 'gzip'
  throw new Failure('--wrap contradicts --for, whose archive is packed with gzip')
}

function streamFor(
  { archive, source }: Job,
  plan: ConversionPlan,
  onProgress?: RunOptions['onProgress'],
): Promise<StreamPlan> {
  return archive === undefined ? plan.stream({ onProgress }) : gnuTarStream(source, archive)
}

/** Whether importers mind the order of what is in the file. */
async function isOrdered(
  context: Context,
  { noCreate, bitmaps }: ConvertValues,
  name: string,
  target: TargetOptions,
): Promise<boolean> {
  if (noCreate || bitmaps || target.backing !== undefined || target.options.subformat !== 'streamOptimized')
    return false
  return (await import('../output/packed-file.ts')).isStreamed(context, name, target)
}

/** A file front to back: packed as a whole, or an image whose order matters. */
async function writeAsStream(
  context: Context,
  values: ConvertValues,
  job: Job,
  target: TargetOptions & { bitmaps: boolean; cache: CacheMode; wrapping: TargetWrapping | undefined },
): Promise<void> {
  const { writeStreamToFile } = await import('../output/stream-file.ts')
  const { cache, wrapping } = target
  const { placement } = filePlacement(target.options)
  await attempt(context, '', async () => {
    const plan = await plans(context, values, job, target)
    const { onProgress } = job.display
    // What is packed as a whole besides may be packed twice, and tells no progress by itself.
    const image = await streamFor(job, plan, wrapping === undefined ? onProgress : undefined)
    const stream = packStream(image, wrapping, onProgress)
    if (!values.quiet) sayLosses(context, plan)
    const run = { signal: context.signal, onProgress }
    await writeStreamToFile(context, stream, { name: job.name, cache, sources: job.opened, placement }, run)
  })
}

/** What the target will not have; QEMU does not say. */
function sayLosses(context: Context, plan: ConversionPlan): void {
  if (!context.persona.details) return
  for (const { reason } of plan.losses) context.err.write(`${context.persona.name}: note: ${reason}\n`)
}

/** The target, whose closing fails as its writing does. */
function closedFor(context: Context, job: Job, disk: WritableDisk): { close(): Promise<void> } {
  return {
    async close() {
      try {
        await disk.close()
      } catch (error) {
        throw conversionFailure(error, [job.name, disk.name], context.persona)
      }
    },
  }
}

function damaged(error: unknown, name: string, context: Context): unknown {
  if (!context.persona.details) return error
  const note = `'${name}' was there before and is incomplete now.`
  const failure = failureFrom(error, context.persona)
  if (failure instanceof Failure) return failure.withMoreHint(note)
  context.warn(note)
  return failure
}

async function attempt<Result>(context: Context, prefix: string, work: () => Promise<Result>): Promise<Result> {
  try {
    return await work()
  } catch (error) {
    throw failureFrom(error, context.persona, prefix)
  }
}
