/** What was pulled, as an image of another format. */
import {
  allFormats,
  closedGate,
  type Disk,
  type DiskFormat,
  findFormat,
  type OptionValues,
  openDisk,
  type Progress,
  planConversion,
} from '@moraine/engine'
import { nodeCodecs, openFile } from '@moraine/engine/node'
import { Failure, failureFrom } from '../failure.ts'
import { newFormatNamed } from '../formats.ts'
import { mediumOf, optionPairs, readCreationOptions } from '../options.ts'
import { NewImage } from '../target.ts'
import type { Context } from '../verb.ts'
import type { ImageDocument } from './images.ts'

/** What shall be made. */
export interface PullTarget {
  format: DiskFormat
  options: OptionValues
  compress: boolean
}

const engineNames: Readonly<Record<string, string>> = { ploop: 'parallels' }

/** Reads `-O` and `-o`, before anything is fetched.
 *  @throws Failure */
export function readPullTarget(
  context: Context,
  formatName: string,
  lists: readonly string[],
  compress: boolean,
  name: string,
): PullTarget {
  try {
    const format = newFormatNamed(formatName, context.persona)
    const options = readCreationOptions(format, mediumOf(name, context.persona), optionPairs(lists), context.warn)
    const { size, backing_file: backing, ...others } = options
    if (size !== undefined || backing !== undefined)
      throw new Failure('a pulled image has its own size and no backing file')
    if (compress && !format.can.compress) throw new Failure('Compression not supported for this file format')
    return { format, options: others, compress }
  } catch (error) {
    throw failureFrom(error, context.persona)
  }
}

/** Converts what was pulled. It is a stranger's: no file that it names is opened.
 *  @throws Failure */
export async function convertPulled(
  context: Context,
  image: ImageDocument,
  part: string,
  name: string,
  target: PullTarget,
  onProgress: ((progress: Progress) => void) | undefined,
): Promise<void> {
  try {
    const disk = await openPulled(image, part)
    try {
      await writePulled(context, disk, name, target, onProgress)
    } finally {
      await disk.close()
    }
  } catch (error) {
    throw failureFrom(error, context.persona, `Could not convert the image to '${name}': `)
  }
}

/** Writes what a disk holds as a new image, which stands under its name when it is whole. What it will not have is noted.
 *  @throws MoraineError */
export async function writePulled(
  context: Context,
  disk: Disk,
  name: string,
  target: PullTarget,
  onProgress: ((progress: Progress) => void) | undefined,
): Promise<void> {
  const { format, options } = target
  const size = BigInt(disk.size)
  const made = await NewImage.create(context, { name, format, size, options, cache: 'writeback', sources: [disk] })
  try {
    const plan = await planConversion(disk, { ...target })
    for (const { reason } of plan.losses) context.err.write(`${context.persona.name}: note: ${reason}\n`)
    const written = await made.open()
    try {
      await plan.run(written, { signal: context.signal, onProgress })
    } finally {
      await written.close()
    }
    await made.publish()
  } catch (error) {
    await made.abandon()
    throw error
  }
}

async function openPulled(image: ImageDocument, part: string): Promise<Disk> {
  const said = image.disk_format ?? ''
  // Its format is what the service says, not what it looks like: a guest can write anything at the beginning of a raw disk.
  const format = findFormat(allFormats, engineNames[said] ?? said)
  if (format === undefined) throw new Failure(`the disk format '${said}' cannot be converted`)
  const source = await openFile(part)
  return await openDisk(source, { formats: allFormats, format: format.name, gate: closedGate, codecs: nodeCodecs })
}
