/** `rebase`: give an image another backing file. */
import { changeBacking, copyFromBacking, type Disk, isMoraineError, type WritableDisk } from '@moraine/engine'
import { readCacheMode } from '../cache.ts'
import { closing } from '../closing.ts'
import type { WritePlan } from '../dry-run.ts'
import { Failure, failureFrom, usageFailure } from '../failure.ts'
import { formatNamed } from '../formats.ts'
import { fullNewBacking } from '../full-name.ts'
import { openForWriting, openImage } from '../open.ts'
import { showProgress } from '../output/progress.ts'
import { type Context, defineVerb } from '../verb.ts'
import {
  forceShare,
  format,
  imageOpts,
  object,
  oneImage,
  progressMode,
  showProgress as progressOption,
  quiet,
  rehearsal,
  sourceCache,
  trust,
  wantsJson,
} from './common.ts'

export const verb = defineVerb({
  name: 'rebase',
  summary: 'Give an image another backing file',
  operands: 'FILE',
  syntax:
    '[--object objectdef] [--image-opts] [-U] [-q] [-f fmt] [-t cache] [-T src_cache] [-p] [-u] -b backing_file [-F backing_fmt] filename',
  about:
    'The guest sees afterwards what it saw before: what the old backing file shows and the new one does not is copied into the image first. ' +
    "With -u only the name is changed, which is right when the file was merely moved. With an empty name (-b '') the image needs no backing file any more.",
  examples: [
    ['moraine rebase -b base2.qcow2 -F qcow2 disk.qcow2', 'stand on another image'],
    ["moraine rebase -b '' disk.qcow2", 'stand alone'],
    ['moraine rebase -u -b /new/place/base.qcow2 -F qcow2 disk.qcow2', 'the backing file was moved'],
  ],
  options: {
    object,
    ...trust,
    ...rehearsal,
    imageOpts,
    forceShare,
    quiet,
    format,
    cache: {
      short: 't',
      newer: ['cache'],
      argument: 'CACHE',
      help: 'Cache mode for writing: none, writeback (the default), writethrough, directsync or unsafe.',
    },
    sourceCache: { ...sourceCache, newer: ['backing-cache'], help: 'Cache mode for reading backing files.' },
    percent: progressOption,
    unsafe: { short: 'u', newer: ['backing-unsafe'], help: 'Only change the name; nothing is read or copied.' },
    backing: {
      short: 'b',
      newer: ['backing'],
      argument: 'FILE',
      help: 'The new backing file; relative to the folder of the image.',
    },
    backingFormat: {
      short: 'F',
      newer: ['backing-format', 'B'],
      argument: 'FMT',
      help: 'Format of the new backing file.',
    },
    compress: {
      newer: ['compress', 'c'],
      help: 'Pack what is copied into the image, cluster by cluster; not with -u, which copies nothing.',
    },
    progress: progressMode,
  },
  async run(values, operands, context) {
    const filename = oneImage(operands)
    const { backing: name, unsafe } = values
    if (name === undefined && !unsafe) throw usageFailure('Must specify backing file (-b) or use unsafe mode (-u)')
    const cache = readCacheMode('cache', values.cache ?? 'writeback')
    readCacheMode('source cache', values.sourceCache ?? 'writeback')
    if (values.dryRun) {
      const plan = await planOf(context, filename, { ...values, name })
      const { printPlan } = await import('../dry-run.ts')
      printPlan(context, plan, wantsJson(values.output))
      return 0
    }
    const display = await showProgress(context, values, { operation: 'rebase' })
    try {
      display.onProgress?.({ done: 0, total: 0 })
      const disk = await openForWriting(context, filename, {
        use: 'write',
        format: values.format,
        imageOpts: values.imageOpts,
        parents: !unsafe,
        cache,
      })
      await closing(disk, async () => {
        const target =
          name === undefined || name === '' ? undefined : { name, format: formatOf(context, values.backingFormat) }
        const asked = { name, target }
        if (values.compress && disk.packedUnit === undefined) {
          throw new Failure('Compression not supported for this file format')
        }
        if (!unsafe) await copyContent(context, disk, asked, { ...values, onProgress: display.onProgress })
        try {
          await change(context, disk, asked)
        } finally {
          display.finish()
        }
      })
      return 0
    } finally {
      display.end()
    }
  },
})

/** What would change; the new backing file is not looked at. */
async function planOf(
  context: Context,
  filename: string,
  values: { name: string | undefined; format: string | undefined; imageOpts: boolean; unsafe: boolean },
): Promise<WritePlan> {
  const { name, format, imageOpts, unsafe } = values
  const disk = await openImage(context, filename, { use: 'info', format, imageOpts })
  try {
    const { backing, format: found, virtualSize } = disk.info()
    const target = name === undefined || name === '' ? undefined : name
    const before = backing === undefined ? 'nothing' : `'${backing.name}'`
    const after = target === undefined ? 'nothing' : `'${target}'`
    return {
      operation: 'rebase',
      target: filename,
      format: found,
      'virtual-size': virtualSize,
      backing: target,
      writes: [
        ...(unsafe ? [] : [`where ${before} and ${after} differ, what the guest sees is copied into '${filename}'`]),
        `the name of the backing file: ${after} in place of ${before}`,
      ],
      lost: unsafe ? [`what the guest sees changes where ${before} and ${after} differ`] : [],
    }
  } finally {
    await disk.close()
  }
}

interface NewBacking {
  name: string
  format: string | undefined
}

function formatOf({ persona }: Context, name: string | undefined): string | undefined {
  if (name === undefined) return undefined
  try {
    formatNamed(name, 'driver', persona)
    return name
  } catch {
    throw new Failure(`Invalid format name: '${name}'`)
  }
}

/** What was asked for: the name as given, which may be empty, and the image that it means. */
interface Asked {
  name: string | undefined
  target: NewBacking | undefined
}

async function copyContent(
  context: Context,
  disk: WritableDisk,
  asked: Asked,
  how: {
    forceShare: boolean
    compress: boolean
    onProgress: ((progress: { done: number; total: number }) => void) | undefined
  },
): Promise<void> {
  const { target } = asked
  const base = target === undefined ? undefined : await openBase(context, disk, target, how.forceShare)
  try {
    // What could not be recorded afterwards is not begun.
    refuse(context, disk, asked)
    await copyFromBacking(disk, base, { signal: context.signal, onProgress: how.onProgress, compress: how.compress })
    await disk.flush()
  } finally {
    await base?.close()
  }
}

async function openBase(context: Context, disk: WritableDisk, target: NewBacking, share: boolean): Promise<Disk> {
  const full = newBackingOf(context, disk, target.name)
  try {
    return await openImage(context, full, { use: 'source', format: target.format, forceShare: share })
  } catch (error) {
    if (!(error instanceof Failure)) throw error
    const [first = '', ...rest] = error.messages
    const reason = first.replace(`Could not open '${full}': `, '')
    const { exitCode, usage, hint } = error
    throw new Failure([`Could not open new backing file '${target.name}': ${reason}`, ...rest], {
      exitCode,
      usage,
      hint,
    })
  }
}

function newBackingOf({ persona }: Context, disk: Disk, name: string): string {
  try {
    return fullNewBacking(disk.file.name, name)
  } catch (error) {
    throw failureFrom(error, persona, 'Could not resolve backing filename: ')
  }
}

function refuse(context: Context, disk: WritableDisk, { name, target }: Asked): void {
  const prefix = `Could not change the backing file to '${name ?? '(null)'}': `
  if (target !== undefined && target.format === undefined) {
    throw new Failure(`${prefix}backing format must be specified`, {
      hint: context.persona.details ? 'Say it with -F.' : undefined,
    })
  }
  if (disk.changeBacking !== undefined) return
  const lacks = context.persona.details ? `the format '${disk.format}' cannot be rebased` : 'Operation not supported'
  throw new Failure(prefix + lacks)
}

async function change(context: Context, disk: WritableDisk, asked: Asked): Promise<void> {
  const { target } = asked
  refuse(context, disk, asked)
  try {
    await changeBacking(disk, target)
  } catch (error) {
    if (isMoraineError(error) && error.code === 'ENOSPC') {
      throw new Failure(`Could not change the backing file to '${target?.name}': No space left in the file header`)
    }
    throw failureFrom(error, context.persona, `Could not change the backing file to '${target?.name ?? ''}': `)
  }
}
