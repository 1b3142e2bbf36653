/** `commit`: what an overlay holds goes into a disk that it stands on. */
import { realpathSync } from 'node:fs'
import { commitDisk, type Disk, isMoraineError, isWritable, type WritableDisk } from '@moraine/engine'
import { protocolOf } from '@moraine/engine/node'
import { readCacheMode } from '../cache.ts'
import { closing } from '../closing.ts'
import type { WritePlan } from '../dry-run.ts'
import { Failure, failureFrom } from '../failure.ts'
import { fullName, fullNameIfAny } from '../full-name.ts'
import { readSize, type Warn } from '../numbers.ts'
import { openForWriting, openImage, refuseBacking } from '../open.ts'
import { type ProgressDisplay, showProgress } from '../output/progress.ts'
import { type Context, defineVerb } from '../verb.ts'
import {
  format,
  imageOpts,
  object,
  oneImage,
  progressMode,
  showProgress as progressOption,
  quiet,
  rehearsal,
  trust,
  wantsJson,
} from './common.ts'

export const verb = defineVerb({
  name: 'commit',
  summary: 'Write what an overlay holds into its backing file',
  operands: 'FILE',
  syntax: '[--object objectdef] [--image-opts] [-q] [-f fmt] [-t cache] [-b base] [-r rate_limit] [-d] [-p] filename',
  about:
    'Afterwards the backing file shows what FILE shows, and FILE is emptied. With -b an image further down the chain takes it all; FILE and those between are ' +
    'left as they are, and are of no use any more where the base was changed under them. With -d FILE is not emptied.',
  examples: [
    ['moraine commit overlay.qcow2', 'into its backing file'],
    ['moraine commit -b base.qcow2 top.qcow2', 'a whole chain into its base'],
  ],
  options: {
    object,
    ...trust,
    ...rehearsal,
    imageOpts,
    quiet,
    format,
    cache: {
      short: 't',
      newer: ['cache'],
      argument: 'CACHE',
      help: 'Cache mode for writing: none, writeback (the default), writethrough, directsync or unsafe.',
    },
    base: {
      short: 'b',
      newer: ['base'],
      argument: 'BASE',
      help: 'The image of the chain that takes it; the backing file by default.',
    },
    rate: {
      short: 'r',
      newer: ['rate-limit'],
      argument: 'RATE',
      help: 'Bytes a second at most.',
      parse: (text: string, warn: Warn) => Number(readSize('rate limit', text, warn)),
    },
    drop: { short: 'd', newer: ['drop'], help: 'Do not empty FILE.' },
    percent: progressOption,
    progress: progressMode,
  },
  async run(values, operands, context) {
    const filename = oneImage(operands)
    const cache = readCacheMode('cache', values.cache ?? 'writeback')
    if (values.dryRun) {
      const link = await findBase(context, filename, values, async () => {})
      const { printPlan } = await import('../dry-run.ts')
      printPlan(context, planOf(filename, link, values.drop || values.base !== undefined), wantsJson(values.output))
      return 0
    }
    let display: ProgressDisplay | undefined
    // Shown once the image was opened, as in QEMU.
    const begin = async () => {
      display ??= await showProgress(context, values, { operation: 'commit' })
      display.onProgress?.({ done: 0, total: 0 })
      return display
    }
    try {
      const link = await findBase(context, filename, values, begin)
      const base = await openBase(context, filename, link, values)
      let opened: Disk
      try {
        opened = await openForWriting(context, filename, {
          use: 'write',
          format: values.format,
          imageOpts: values.imageOpts,
          ...(link.given ? { backing: base } : { under: { name: link.name, disk: base } }),
          cache,
        })
      } catch (error) {
        await base.close()
        throw error
      }
      const top = opened
      await closing(top, async () => {
        await commit(context, top, base, values.rate, (await begin()).onProgress)
        if (!values.drop && values.base === undefined && isWritable(top)) await empty(context, top)
      })
      display?.finish()
    } finally {
      display?.end()
    }
    if (!values.quiet) context.out.write('Image committed.\n')
    return 0
  },
})

/** One image of a chain, by its full name. */
interface Link {
  name: string
  format: string | undefined
  /** Options of FILE describe it, whatever FILE names. */
  given?: boolean
}

function planOf(filename: string, { name, format }: Link, keeps: boolean): WritePlan {
  return {
    operation: 'commit',
    target: name,
    format,
    writes: [
      `'${name}' takes what '${filename}' and the images between them hold`,
      keeps ? `'${filename}' stays as it is` : `'${filename}' is emptied`,
    ],
    lost: [`what '${name}' holds now where it is written over; other overlays over it become wrong`],
  }
}

interface Wanted {
  base: string | undefined
  format: string | undefined
  imageOpts: boolean
  dryRun: boolean
}

/** Looks for the base down the chain, opening nothing for use. */
async function findBase(
  context: Context,
  filename: string,
  { base, format, imageOpts, dryRun }: Wanted,
  begin: () => Promise<unknown>,
): Promise<Link> {
  const { givenBacking } = await import('../blockdev/given-backing.ts')
  let next: Link = { name: filename, format }
  const seen = new Set<string>()
  for (let depth = 0; !seen.has(next.name); depth++) {
    seen.add(next.name)
    const disk = await openImage(context, next.name, {
      use: 'info',
      format: next.format,
      imageOpts: imageOpts && depth === 0,
      backing: 'ignored',
    }).catch(async (error: unknown) => {
      // Who wants to write is told so.
      const held = error instanceof Failure && error.origin?.kind === 'locked' && depth === 0 && !dryRun
      if (held) await (await openForWriting(context, filename, { use: 'write', format, imageOpts })).close()
      throw error
    })
    const { backing } = disk.info()
    const from = disk.file.name
    await disk.close()
    const given = depth === 0 ? givenBacking(filename, imageOpts) : undefined
    if (given !== undefined) {
      if (given.name === undefined) break
      next = { name: given.name, format: undefined, given: true }
      if (base === undefined || base === (given.file ?? given.name)) return next
      continue
    }
    if (backing === undefined) break
    const full = fullBackingName(context, from, backing.name)
    refuseBacking(context, { from, name: backing.name }, full)
    next = { name: full, format: backing.format }
    if (base === undefined || isMeant(base, { from, name: backing.name, full })) return next
  }
  if (base === undefined) {
    // What is wrong with writing it is said first, as in QEMU.
    await (await openForWriting(context, filename, { use: 'write', format, imageOpts })).close()
    await begin()
    throw new Failure('Image does not have a backing file')
  }
  await begin()
  throw new Failure(`Did not find '${base}' in the backing chain of '${filename}'`)
}

/** Opens the base for writing. Where that fails as the chain does not open, the chain says so, as in QEMU. */
async function openBase(
  context: Context,
  filename: string,
  { name, format }: Link,
  values: { format: string | undefined; imageOpts: boolean; cache: string | undefined },
): Promise<WritableDisk> {
  const cache = readCacheMode('cache', values.cache ?? 'writeback')
  try {
    const base = await openForWriting(context, name, { use: 'resize', format, cache, guessed: true })
    if (context.persona.reopens(base.format)) return base
    await base.close()
    throw new Failure(`Block format '${base.format}' used by node '${name}' does not support reopening files`)
  } catch (error) {
    const { format, imageOpts } = values
    await (await openImage(context, filename, { use: 'read', format, imageOpts })).close()
    throw error
  }
}

function fullBackingName({ persona }: Context, from: string, name: string): string {
  try {
    return fullName({ from, name })
  } catch (error) {
    throw failureFrom(error, persona, `Could not open '${from}': `)
  }
}

/** Whether the backing file of the image `from` is meant by a name: names of files are taken from the folder of that image, others as they stand. */
function isMeant(base: string, { from, name, full }: { from: string; name: string; full: string }): boolean {
  if (protocolOf(base) !== undefined || protocolOf(name) !== undefined) return base === name || base === full
  const place = placeOf(fullNameIfAny({ from, name: base }))
  return place !== undefined && place === placeOf(full)
}

function placeOf(path: string | undefined): string | undefined {
  try {
    return path === undefined ? undefined : realpathSync(path)
  } catch {
    return undefined
  }
}

async function commit(
  context: Context,
  top: Disk,
  base: WritableDisk,
  rate: number | undefined,
  onProgress: ((progress: { done: number; total: number }) => void) | undefined,
): Promise<void> {
  try {
    await commitDisk(top, base, { signal: context.signal, rate: rate === 0 ? undefined : rate, onProgress })
  } catch (error) {
    const prefix = 'Block job failed: '
    if (!context.persona.details && isMoraineError(error, 'unsupported')) {
      throw new Failure(`${prefix}Operation not supported`, { origin: error })
    }
    throw failureFrom(error, context.persona, prefix)
  }
}

/** Where the format knows no way, the overlay keeps what it has, which is now in both. */
async function empty(context: Context, top: WritableDisk): Promise<void> {
  try {
    await top.makeEmpty?.()
  } catch (error) {
    throw failureFrom(error, context.persona, `Could not empty ${top.name}: `)
  }
}
