/** `compare`: do two images hold the same. */
import { type CompareOptions, type Comparison, compareDisks, type Disk, isMoraineError } from '@moraine/engine'
import { readCacheMode } from '../cache.ts'
import { Failure, usageFailure } from '../failure.ts'
import { openImage } from '../open.ts'
import { showProgress } from '../output/progress.ts'
import { type Context, defineVerb } from '../verb.ts'
import {
  forceShare,
  format,
  imageOpts,
  object,
  outputFormat,
  progressMode,
  showProgress as progressOption,
  quiet,
  sourceCache,
  trust,
  wantsJson,
} from './common.ts'

/** Exit codes, as QEMU documents them. */
const exitCodes = { identical: 0, different: 1, failed: 2, statusFailed: 3, readFailed: 4 }

export const verb = defineVerb({
  name: 'compare',
  objectFailure: exitCodes.failed,
  summary: 'Compare what two images hold, whatever their formats',
  operands: 'FILE1 FILE2',
  syntax:
    '[--object objectdef] [--image-opts] [-f fmt] [-F fmt] [-T src_cache] [-p] [-q] [-s] [-U] filename1 filename2',
  about:
    'Two images are identical when the guest reads the same; a longer one may end with zeros. Exit codes: 0 identical, 1 different, ' +
    '2 an image cannot be opened, 3 the block status of an image cannot be read, 4 its content cannot be read.',
  examples: [['moraine compare disk.raw disk.qcow2', 'is the conversion right?']],
  options: {
    object,
    ...trust,
    imageOpts,
    format1: { ...format, newer: ['a-format'], help: 'Format of the first image.' },
    format2: { short: 'F', newer: ['b-format'], argument: 'FMT', help: 'Format of the second image.' },
    cache: sourceCache,
    percent: progressOption,
    quiet,
    strict: { short: 's', newer: ['strict'], help: 'Strict: sizes and block status must be the same too.' },
    forceShare,
    output: { ...outputFormat, extension: true },
    progress: progressMode,
  },
  async run(values, operands, context) {
    const [first, second] = operands
    if (first === undefined || second === undefined || operands.length > 2) {
      throw usageFailure('Expecting two image file names')
    }
    const json = readOutput(values.output)
    const display = await showProgress(context, values, {
      step: 2,
      addsUp: true,
      operation: 'compare',
      outputTaken: json,
    })
    const disks: Disk[] = []
    try {
      await openBoth(disks, context, values, [first, second])
      const [a, b] = disks
      if (a === undefined || b === undefined) throw new Failure('two disks are needed')
      const verdict = await compare(a, b, {
        strict: values.strict,
        signal: context.signal,
        onProgress: display.onProgress,
        onSizeMismatch: () => {
          if (!values.quiet && !json) context.out.write('Warning: Image size mismatch!\n')
        },
      })
      if (!values.quiet)
        context.out.write(json ? verdictJson(context, [first, second], [a, b], verdict) : verdictText(verdict))
      return verdict.identical ? exitCodes.identical : exitCodes.different
    } finally {
      display.end()
      for (const disk of disks) await disk.close()
    }
  },
})

interface OpenValues {
  cache: string | undefined
  format1: string | undefined
  format2: string | undefined
  imageOpts: boolean
  forceShare: boolean
}

async function openBoth(
  disks: Disk[],
  context: Context,
  values: OpenValues,
  [first, second]: [string, string],
): Promise<void> {
  const { forceShare: share, imageOpts: opts } = values
  try {
    const cache = readCacheMode('source cache', values.cache ?? 'writeback')
    disks.push(
      await openImage(context, first, {
        use: 'read',
        walked: true,
        format: values.format1,
        forceShare: share,
        imageOpts: opts,
        cache,
      }),
    )
    disks.push(
      await openImage(context, second, {
        use: 'read',
        walked: true,
        format: values.format2,
        forceShare: share,
        imageOpts: opts,
        cache,
      }),
    )
  } catch (error) {
    throw error instanceof Failure ? error.withExitCode(exitCodes.failed) : error
  }
}

async function compare(a: Disk, b: Disk, options: CompareOptions): Promise<Comparison> {
  try {
    return await compareDisks(a, b, options)
  } catch (error) {
    if (!isMoraineError(error) || error.kind === 'cancelled') throw error
    const name = error.path ?? a.name
    if (error.field === 'block status') {
      throw new Failure(`Sector allocation test failed for ${name}`, { exitCode: exitCodes.statusFailed })
    }
    throw new Failure(`Error while reading offset ${error.offset ?? 0} of ${name}: ${error.reason}`, {
      exitCode: exitCodes.readFailed,
    })
  }
}

function verdictText(verdict: Comparison): string {
  if (verdict.identical) return 'Images are identical.\n'
  switch (verdict.reason) {
    case 'size':
      return 'Strict mode: Image size mismatch!\n'
    case 'status':
      return `Strict mode: Offset ${verdict.offset} block status mismatch!\n`
    case 'content':
      return `Content mismatch at offset ${verdict.offset}!\n`
  }
}

/** @throws Failure as `wantsJson`, with this verb's exit code. */
function readOutput(output: string | undefined): boolean {
  try {
    return wantsJson(output)
  } catch (error) {
    throw error instanceof Failure ? error.withExitCode(exitCodes.failed) : error
  }
}

function verdictJson(
  { persona }: Context,
  names: readonly string[],
  disks: readonly Disk[],
  verdict: Comparison,
): string {
  const told = {
    images: disks.map(({ format, size }, at) => ({
      filename: names[at],
      format: persona.nameOf(format),
      'virtual-size': size,
    })),
    identical: verdict.identical,
    // Of different lengths, and none the less identical where the rest is zeros.
    'size-mismatch': new Set(disks.map(({ size }) => size)).size > 1,
    ...(verdict.identical
      ? {}
      : { difference: verdict.reason, offset: verdict.reason === 'size' ? undefined : verdict.offset }),
  }
  return `${JSON.stringify(told, undefined, 4)}\n`
}
