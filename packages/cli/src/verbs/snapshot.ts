/** `snapshot`: list, create, apply and delete internal snapshots. */
import { isMoraineError, type SnapshotStore, type WritableDisk } from '@moraine/engine'
import { closing } from '../closing.ts'
import { Failure, failureFrom, usageFailure } from '../failure.ts'
import { openForWriting, openImage } from '../open.ts'
import { toPrettyJson } from '../output/json.ts'
import { snapshotHead, snapshotJson, snapshotLine } from '../output/table.ts'
import { type Context, defineVerb } from '../verb.ts'
import { forceShare, format, imageOpts, object, oneImage, quiet, rehearsal, trust, wantsJson } from './common.ts'

const actions = new Set(['list', 'apply', 'create', 'delete'])

export const verb = defineVerb({
  name: 'snapshot',
  summary: 'List, create, apply or delete internal snapshots',
  operands: 'FILE',
  syntax: '[--object objectdef] [--image-opts] [-U] [-q] [-l | -a snapshot | -c snapshot | -d snapshot] filename',
  about:
    'An internal snapshot keeps the disk as it was, inside the same file. A snapshot is named by its id or its name. ' +
    'The image must not be in use.',
  examples: [
    ['moraine snapshot -c before-upgrade disk.qcow2', 'keep the disk as it is now'],
    ['moraine snapshot -a before-upgrade disk.qcow2', 'go back to it'],
    ['moraine convert -l before-upgrade -O qcow2 disk.qcow2 old.qcow2', 'copy it into an image of its own'],
  ],
  options: {
    object,
    ...trust,
    ...rehearsal,
    output: {
      ...rehearsal.output,
      goesWith: ['list', 'dryRun'],
      help: 'With -l, and with --dry-run: tell it for people (human, the default) or for programs (json).',
    },
    imageOpts,
    forceShare,
    quiet,
    format: { newer: ['format', 'f'], argument: 'FMT', help: format.help },
    list: { short: 'l', newer: ['list'], help: 'List the snapshots.' },
    apply: { short: 'a', newer: ['apply'], argument: 'SNAPSHOT', help: 'Make the disk what it was then.' },
    create: { short: 'c', newer: ['create'], argument: 'NAME', help: 'Make a snapshot of the disk as it is.' },
    delete: {
      short: 'd',
      newer: ['delete'],
      argument: 'SNAPSHOT',
      help: 'Delete a snapshot (as qemu-img: by its name only).',
    },
  },
  each(key, seen) {
    if (!actions.has(key)) return
    for (const before of seen) if (actions.has(before)) throw usageFailure("Cannot mix '-l', '-a', '-c', '-d'")
  },
  async run(values, operands, context) {
    const filename = oneImage(operands)
    if (values.list) return await list(context, filename, values)
    if (values.dryRun) return await rehearse(context, filename, values)
    const disk = await openForWriting(context, filename, {
      use: 'write',
      forceShare: values.forceShare,
      imageOpts: values.imageOpts,
      format: values.format,
    })
    await closing(disk, async () => {
      const { create, apply, delete: remove } = values
      if (create !== undefined) await createSnapshot(context, disk, create)
      if (apply !== undefined) await applySnapshot(context, disk, apply)
      if (remove !== undefined) await deleteSnapshot(context, disk, remove)
    })
    return 0
  },
})

interface Rehearsed {
  format: string | undefined
  create: string | undefined
  apply: string | undefined
  delete: string | undefined
  imageOpts: boolean
  output: string | undefined
}

/** Tells what an action would do, and writes nothing. */
async function rehearse(context: Context, filename: string, values: Rehearsed): Promise<number> {
  const disk = await openImage(context, filename, { use: 'read', imageOpts: values.imageOpts, format: values.format })
  try {
    const { snapshots, format } = disk.info()
    const name = values.apply ?? values.delete
    const found = snapshots.find((one) => one.name === name || one.id === name)
    if (name !== undefined && found === undefined) throw new Failure(`'${filename}' has no snapshot '${name}'`)
    const lost = [
      ...(values.apply === undefined ? [] : ['what is on the disk now, as far as no snapshot holds it']),
      ...(values.delete === undefined
        ? []
        : [`the disk as it was at the time of '${name}', with what no other snapshot holds`]),
    ]
    const [operation, what] =
      values.create !== undefined
        ? ['snapshot -c', `a snapshot '${values.create}' of the disk as it is`]
        : values.apply !== undefined
          ? ['snapshot -a', `the disk becomes what it was at the time of '${name}'`]
          : ['snapshot -d', `'${name}' is deleted; ${snapshots.length - 1} of ${snapshots.length} snapshots stay`]
    const { printPlan } = await import('../dry-run.ts')
    printPlan(context, { operation, target: filename, format, writes: [what], lost }, wantsJson(values.output))
    return 0
  } finally {
    await disk.close()
  }
}

async function list(
  context: Context,
  filename: string,
  {
    forceShare,
    imageOpts,
    format,
    output,
  }: { forceShare: boolean; imageOpts: boolean; format: string | undefined; output: string | undefined },
): Promise<number> {
  const json = wantsJson(output)
  const disk = await openImage(context, filename, { use: 'read', forceShare, imageOpts, format })
  try {
    const { snapshots } = disk.info()
    if (json) context.out.write(`${toPrettyJson(snapshots.map(snapshotJson))}\n`)
    else if (snapshots.length > 0) {
      context.out.write(`Snapshot list:\n${snapshotHead}\n${snapshots.map((one) => `${snapshotLine(one)}\n`).join('')}`)
    }
    return 0
  } finally {
    await disk.close()
  }
}

async function createSnapshot(context: Context, disk: WritableDisk, name: string): Promise<void> {
  const { snapshots } = disk
  const what = `Could not create snapshot '${name}': `
  if (snapshots === undefined) {
    throw new Failure(context.persona.details ? `${what}${lacking(disk)}` : `${what}-95 (Operation not supported)`)
  }
  const now = Date.now()
  const when = { seconds: Math.floor(now / 1000), nanoseconds: (now % 1000) * 1_000_000 }
  await attempt(context, what, () => snapshots.create(name, when), '-22 (Invalid argument)')
}

async function applySnapshot(context: Context, disk: WritableDisk, name: string): Promise<void> {
  const what = `Could not apply snapshot '${name}': `
  const { snapshots } = disk
  if (!context.persona.appliesOverBitmaps && disk.bitmaps !== undefined && disk.bitmaps.list().length > 0) {
    throw new Failure(`${what}Device has active dirty bitmaps`)
  }
  if (snapshots === undefined) throw new Failure(what + lacking(disk))
  if (!disk.info().snapshots.some((one) => one.id === name || one.name === name)) {
    throw new Failure(`${what}Failed to load snapshot: No such file or directory`)
  }
  await attempt(context, what, () => snapshots.apply(name), 'Failed to load snapshot: Invalid argument')
}

async function deleteSnapshot(context: Context, disk: WritableDisk, name: string): Promise<void> {
  const what = `Could not delete snapshot '${name}': `
  const known = disk.info().snapshots
  const byId = context.persona.deletesById ? known.find((one) => one.id === name) : undefined
  const found = byId ?? known.find((one) => one.name === name)
  if (found === undefined || disk.snapshots === undefined) throw new Failure(`${what}snapshot not found`)
  const store: SnapshotStore = disk.snapshots
  await attempt(context, what, () => store.delete(found.id))
}

/** `tooNarrow` is what QEMU says when a count of references cannot hold one more. */
async function attempt(context: Context, what: string, action: () => Promise<void>, tooNarrow?: string): Promise<void> {
  try {
    await action()
  } catch (error) {
    const narrow = isMoraineError(error, 'limit') && error.code === 'EINVAL'
    if (narrow && tooNarrow !== undefined && !context.persona.details) throw new Failure(what + tooNarrow)
    if (isMoraineError(error) && error.code === 'ENOTSUP' && !context.persona.details) {
      throw new Failure(`${what}-95 (Operation not supported)`)
    }
    throw failureFrom(error, context.persona, what)
  }
}

function lacking({ format }: WritableDisk): string {
  return format === 'raw' ? 'Block driver does not support snapshots' : `the format '${format}' has no snapshots`
}
