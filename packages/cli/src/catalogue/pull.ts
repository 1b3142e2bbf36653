/** From a catalogue to a disk: the publisher's file by way of the cache, then in the format and size that are asked for, with a seed beside it. */
import { constants, copyFile } from 'node:fs/promises'
import { basename } from 'node:path'
import { type CloudImage, findImage } from '@moraine/cloud-images'
import { allFormats, closedGate, type Disk, openDisk, type Progress, padDisk, parseSize } from '@moraine/engine'
import { newFile, nodeCodecs, openFile } from '@moraine/engine/node'
import { Failure, failureFrom, usageFailure } from '../failure.ts'
import { formatOfName } from '../formats.ts'
import { type PullTarget, readPullTarget, writePulled } from '../image/pull-convert.ts'
import { checkSaveTarget } from '../image/save-target.ts'
import { withProgress } from '../output/progress.ts'
import { sizeText } from '../output/size.ts'
import type { SeedFiles } from '../seed/files.ts'
import type { Context, Values } from '../verb.ts'
import { type CatalogueValues, queryOf, withCatalogue } from './open.ts'
import type { pullOptions } from './options.ts'
import { fetchOriginal, forgetOriginal } from './original.ts'

export type PullValues = CatalogueValues & Values<typeof pullOptions>

/** What shall be made of the image; undefined where it stays as it is. */
interface Making {
  name: string
  target: PullTarget
  /** Bytes. */
  size: number | undefined
  seed: SeedFiles | undefined
}

/** Pulls one image.
 *  @throws MoraineError, Failure */
export async function pullImage(
  context: Context,
  distribution: string,
  release: string,
  values: PullValues,
): Promise<number> {
  const making = await readMaking(context, values)
  return await withCatalogue(context, distribution, values, async (reading) => {
    const image = await findImage(reading, { ...queryOf(values, release), release })
    warnOf(context, image)
    if (making !== undefined && !Object.hasOwn(reading.definition.disks, image.kind)) {
      throw new Failure(`${image.kind} is no disk, so it cannot be made one of another format or size`, {
        hint: 'Without --to the file is put into the current folder as it is.',
      })
    }
    const target = making?.name ?? values.to ?? image.name
    checkSaveTarget(target)
    if (values.dryRun) return await rehearse(context, values, image, making)
    const original = await withProgress(context, values, 'pull', ({ onProgress }) =>
      fetchOriginal({ context, reading, image, onProgress }),
    )
    if (making === undefined) await copyOriginal(context, original, target)
    else await makeAll(context, values, original, making)
    if (values.noCache) await forgetOriginal(original)
    if (!values.quiet)
      context.err.write(`${context.persona.name}: ${sentence(reading.definition.title, image, target)}\n`)
    return 0
  })
}

/** Tells what would be fetched and made. */
async function rehearse(
  context: Context,
  { to, output, size }: PullValues,
  image: CloudImage,
  making: Making | undefined,
): Promise<number> {
  const { planFile, printPlan } = await import('../dry-run.ts')
  const { wantsJson } = await import('../verbs/common.ts')
  const writes = [
    `${image.name}${image.size === undefined ? '' : `, ${image.size} bytes,`} is fetched where the cache does not have it`,
    ...(making === undefined
      ? []
      : [`it is converted to ${making.target.format.name}${size === undefined ? '' : ` of ${size}`}`]),
    ...(making?.seed === undefined ? [] : [`a seed beside it: ${(await import('./seed.ts')).seedName(making.name)}`]),
  ]
  const known = making === undefined ? image.size : undefined
  printPlan(context, planFile('pull', making?.name ?? to ?? image.name, { writes, size: known }), wantsJson(output))
  return 0
}

/** Reads what is asked for before anything is fetched.
 *  @throws Failure */
async function readMaking(context: Context, values: PullValues): Promise<Making | undefined> {
  const { to, size, targetFormat, options, compress } = values
  if (to === undefined) {
    const given = [
      ['--size', size],
      ['--seed', values.seed],
      ['-O', targetFormat],
    ].find(([, value]) => value !== undefined)
    if (given !== undefined) throw usageFailure(`${given[0]} needs --to`)
    return undefined
  }
  const format = targetFormat ?? formatOfName(to)
  if (format === undefined) {
    if (size !== undefined || values.seed !== undefined || options.length > 0) {
      throw new Failure(`the name '${basename(to)}' does not tell a format`, { hint: 'It can be said with -O FMT.' })
    }
    return undefined
  }
  checkSaveTarget(to)
  const target = readPullTarget(context, format, options, compress, to)
  const seed = values.seed === undefined ? undefined : await (await import('./seed.ts')).readSeed(values.seed)
  return { name: to, target, size: size === undefined ? undefined : readSize(size), seed }
}

function readSize(text: string): number {
  const size = parseSize(text)
  if (size === undefined || size <= 0n || size > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new Failure(`--size must be used with a size, as in 20G, not '${text}'`)
  }
  return Number(size)
}

function warnOf(context: Context, image: CloudImage): void {
  const { title, supported, eol } = image
  if (!supported)
    context.warn(`support of ${title} ended${eol === undefined ? '' : ` on ${eol}`}: it gets no fixes any more`)
}

function sentence(distribution: string, image: CloudImage, target: string): string {
  const { title, architecture, serial, kind } = image
  return `${target} is ${distribution} ${title}, ${architecture}, ${kind} of ${serial}`
}

async function makeAll(context: Context, values: PullValues, original: string, making: Making): Promise<void> {
  const disk = () =>
    withProgress(context, values, 'convert', ({ onProgress }) => makeDisk(context, original, making, onProgress))
  if (making.seed === undefined) return await disk()
  const { besideSeed, seedName } = await import('./seed.ts')
  await besideSeed(context, making.seed, making.name, disk)
  if (!values.quiet) context.err.write(`${context.persona.name}: ${seedName(making.name)} is its seed\n`)
}

/** The file as it is, shared with the cache where the file system can. */
async function copyOriginal(context: Context, original: string, target: string): Promise<void> {
  const file = await newFile(target)
  try {
    await file.store.close()
    await copyFile(original, file.writtenPath, constants.COPYFILE_FICLONE)
    await file.publish()
  } catch (error) {
    await file.abandon()
    throw failureFrom(error, context.persona, `Could not write '${target}': `)
  }
}

async function makeDisk(
  context: Context,
  original: string,
  { name, target, size }: Making,
  onProgress: ((progress: Progress) => void) | undefined,
): Promise<void> {
  const disk = await openOriginal(context, original)
  try {
    if (size !== undefined && size < disk.size) {
      throw new Failure(`--size is ${sizeText(size)}, and the disk has ${sizeText(disk.size)}`, {
        hint: 'A disk cannot be made smaller without a look at what is in it.',
      })
    }
    await writePulled(context, padDisk(disk, size ?? disk.size), name, target, onProgress).catch((error: unknown) => {
      throw failureFrom(error, context.persona, `Could not make '${name}': `)
    })
  } finally {
    await disk.close()
  }
}

/** No file that the image names is opened: it is a stranger's, however well it is signed. */
async function openOriginal(context: Context, path: string): Promise<Disk> {
  try {
    const source = await openFile(path)
    return await openDisk(source, { formats: allFormats, gate: closedGate, codecs: nodeCodecs })
  } catch (error) {
    throw failureFrom(error, context.persona, 'Could not open the image: ')
  }
}
