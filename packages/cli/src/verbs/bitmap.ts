/** `bitmap`: what is done with the persistent dirty bitmaps of an image. */
import { type BitmapStore, type Disk, isMoraineError, type WritableDisk } from '@moraine/engine'
import { closing } from '../closing.ts'
import { printPlan, type WritePlan } from '../dry-run.ts'
import { explain, Failure } from '../failure.ts'
import { readSize, type Warn } from '../numbers.ts'
import { openForWriting, openImage } from '../open.ts'
import { type Context, defineVerb, type Given } from '../verb.ts'
import { imageOpts, object, rehearsal, trust, wantsJson } from './common.ts'

const actions = ['add', 'remove', 'clear', 'enable', 'disable', 'merge'] as const
type Action = (typeof actions)[number]

/** One step, in the order of the command line. */
interface Step {
  action: Action
  /** Of a merge: the bitmap that is added. */
  source: string
}

export const verb = defineVerb({
  name: 'bitmap',
  summary: 'Change the dirty bitmaps of an image',
  operands: 'FILE BITMAP',
  syntax:
    '(--merge SOURCE | --add | --remove | --clear | --enable | --disable)... [-b source_file [-F source_fmt]] [-g granularity] ' +
    '[--object objectdef] [--image-opts | -f fmt] filename bitmap',
  about:
    'A dirty bitmap says which parts of a disk were written since it was made or cleared; backup programs copy those. Several actions are done ' +
    'in the order in which they are given.',
  examples: [
    ['moraine bitmap --add disk.qcow2 since-monday', 'begin to count'],
    ['moraine bitmap --merge monday --merge tuesday disk.qcow2 week', 'put two together'],
    ['moraine bitmap --remove disk.qcow2 since-monday', 'forget it'],
    ['moraine bitmap --dry-run --remove disk.qcow2 since-monday', 'what would be forgotten?'],
  ],
  options: {
    add: { long: 'add', help: 'Make the bitmap; it follows writes at once.' },
    remove: { long: 'remove', help: 'Remove it, even when it is inconsistent.' },
    clear: { long: 'clear', help: 'Say that nothing is dirty.' },
    enable: { long: 'enable', help: 'Let it follow writes.' },
    disable: { long: 'disable', help: 'Let it follow writes no more.' },
    merge: { long: 'merge', argument: 'SOURCE', collect: true, help: 'Add what the bitmap SOURCE says is dirty.' },
    sourceFile: {
      short: 'b',
      long: 'source-file',
      argument: 'FILE',
      help: 'With --merge: the image that SOURCE is in.',
    },
    sourceFormat: { short: 'F', long: 'source-format', argument: 'FMT', help: 'Format of that image.' },
    granularity: {
      short: 'g',
      long: 'granularity',
      argument: 'SIZE',
      help: 'With --add: bytes that one bit stands for, a power of two from 512 to 2G.',
      parse: (text: string, warn: Warn) => readSize('granularity', text, warn),
    },
    object,
    ...trust,
    ...rehearsal,
    imageOpts,
    format: { short: 'f', newer: ['format'], argument: 'FMT', help: 'Format of the image; found out when not given.' },
  },
  async run(values, operands, context, given) {
    const steps = stepsOf(given)
    const has = (action: Action): boolean => steps.some((step) => step.action === action)
    const [filename, name] = operands
    if (steps.length === 0) {
      throw new Failure('Need at least one of --add, --remove, --clear, --enable, --disable, or --merge')
    }
    if (values.granularity !== undefined && !has('add')) throw new Failure('granularity only supported with --add')
    if (values.sourceFormat !== undefined && values.sourceFile === undefined) {
      throw new Failure('-F only supported with -b')
    }
    if (values.sourceFile !== undefined && !has('merge')) {
      throw new Failure('Merge bitmap source file only supported with --merge')
    }
    if (filename === undefined || name === undefined || operands.length > 2) {
      throw new Failure('Expecting filename and bitmap name')
    }
    const { format, imageOpts: opts } = values
    const json = wantsJson(values.output)
    const disk = await openForWriting(context, filename, {
      use: 'write',
      format,
      imageOpts: opts,
      parents: false,
      rehearse: values.dryRun,
    })
    const plan: WritePlan = { operation: 'bitmap', target: filename, format: disk.format, writes: [], lost: [] }
    await closing(disk, async () => {
      const other = await openSource(context, values)
      try {
        for (const step of steps) {
          const before = values.dryRun ? await dirtyBytes(disk, name) : undefined
          await perform(context, disk, other ?? disk, name, step, values.granularity)
          if (values.dryRun) await tellStep(plan, disk, name, step, before)
        }
      } finally {
        await other?.close()
      }
      if (values.dryRun) printPlan(context, plan, json)
    })
    return 0
  },
})

/** What a bitmap says is dirty, in bytes; undefined where it is not there or cannot be trusted. */
async function dirtyBytes(disk: Disk, name: string): Promise<number | undefined> {
  const found = disk.bitmaps?.list().find((one) => one.name === name)
  if (disk.bitmaps === undefined || found === undefined || found.inconsistent) return undefined
  let sum = 0
  for await (const batch of disk.bitmaps.ranges(name)) for (const { length } of batch) sum += length
  return sum
}

/** Puts a step that was tried into the plan. */
async function tellStep(
  plan: WritePlan,
  disk: Disk,
  name: string,
  { action, source }: Step,
  before: number | undefined,
): Promise<void> {
  const { granularity } = disk.bitmaps?.list().find((one) => one.name === name) ?? { granularity: 0 }
  const sentences: Record<Action, string> = {
    add: `the bitmap '${name}' is made, with ${granularity} bytes for each bit, and follows writes`,
    remove: `the bitmap '${name}' is removed`,
    clear: `the bitmap '${name}' says that nothing is dirty`,
    enable: `the bitmap '${name}' follows writes`,
    disable: `the bitmap '${name}' follows writes no more`,
    merge: `the bitmap '${name}' takes what '${source}' says is dirty, and then has ${await dirtyBytes(disk, name)} bytes`,
  }
  plan.writes.push(sentences[action])
  if (action !== 'remove' && action !== 'clear') return
  const said = before === undefined ? 'cannot be trusted' : `says that ${before} bytes are dirty`
  if (action === 'remove') plan.lost.push(`the bitmap '${name}', which ${said}`)
  else if (before !== 0) plan.lost.push(`that the bitmap '${name}' ${said}`)
}

function stepsOf(given: Given): Step[] {
  return given.flatMap(({ key, value }) => {
    const action = actions.find((known) => known === key)
    return action === undefined ? [] : [{ action, source: String(value) }]
  })
}

async function openSource(
  context: Context,
  { sourceFile, sourceFormat }: { sourceFile: string | undefined; sourceFormat: string | undefined },
): Promise<Disk | undefined> {
  if (sourceFile === undefined) return undefined
  return await openImage(context, sourceFile, { use: 'read', format: sourceFormat, parents: false })
}

async function perform(
  context: Context,
  disk: WritableDisk,
  source: Disk,
  name: string,
  { action, source: from }: Step,
  granularity: bigint | undefined,
): Promise<void> {
  try {
    if (action === 'add') return await add(disk, name, granularity)
    const store = disk.bitmaps
    if (store === undefined) throw new Failure(`Dirty bitmap '${name}' not found`)
    await change(store, source, name, action, from)
  } catch (error) {
    const prefix = `Operation ${action} on bitmap ${name} failed: `
    if (error instanceof Failure) throw error.withPrefix(prefix)
    if (!isMoraineError(error) || error.kind === 'cancelled') throw error
    const removal = context.persona.details ? 'Try --remove' : 'Try block-dirty-bitmap-remove'
    throw new Failure(prefix + explain(error, context.persona), {
      hint: /is inconsistent and cannot be used$/.test(error.reason)
        ? `${removal} to delete this bitmap from disk`
        : undefined,
    })
  }
}

async function change(
  store: BitmapStore,
  source: Disk,
  name: string,
  action: Exclude<Action, 'add'>,
  from: string,
): Promise<void> {
  switch (action) {
    case 'remove':
      return await store.remove(name)
    case 'clear':
      return await store.clear(name)
    case 'enable':
      return await store.enable(name, true)
    case 'disable':
      return await store.enable(name, false)
    case 'merge':
      if (source.bitmaps === undefined) throw new Failure(`Dirty bitmap '${from}' not found`)
      return await store.merge(name, source.bitmaps, from)
  }
}

async function add(disk: WritableDisk, name: string, given: bigint | undefined): Promise<void> {
  // QEMU keeps it in 32 bits, and takes 0 for none.
  const granularity = given === undefined || given === 0n ? defaultGranularity(disk) : Number(BigInt.asUintN(32, given))
  if (granularity < 512 || !Number.isInteger(Math.log2(granularity))) {
    throw new Failure('Granularity must be power of 2 and at least 512')
  }
  if (name === '') throw new Failure('Bitmap name cannot be empty')
  if (disk.bitmaps === undefined) {
    throw new Failure(
      disk.format === 'qcow2'
        ? `Can't make bitmap '${name}' persistent in '${disk.name}': Cannot store dirty bitmaps in qcow2 v2 files`
        : `Can't store persistent bitmaps to ${disk.name}: Operation not supported`,
    )
  }
  const length = new TextEncoder().encode(name).length
  if (length > 1023) {
    throw new Failure(
      `Can't make bitmap '${name}' persistent in '${disk.name}': Name length exceeds maximum (1023 characters)`,
    )
  }
  await disk.bitmaps.add([{ name, granularity, enabled: true }])
}

/** A cluster, within QEMU's bounds. */
function defaultGranularity(disk: Disk): number {
  const { clusterSize = 65_536 } = disk.info()
  return Math.min(65_536, Math.max(4096, clusterSize))
}
