/** Opens the file system of an ISO image, wherever the image is: in a file, packed, or as the disk in an image of another format. */
import { type IsoFileSystem, type IsoNames, openIsoFileSystem } from '@moraine/engine'
import { Failure, failureFrom } from '../failure.ts'
import { openImage } from '../open.ts'
import type { Context, OptionSpec } from '../verb.ts'

const kinds = ['rock-ridge', 'joliet', 'plain'] as const satisfies readonly IsoNames[]

export const namesOption = {
  long: 'names',
  argument: 'KIND',
  values: () => kinds,
  help: 'Which names to use: rock-ridge, joliet or plain. The first of them that the image has when not given.',
  parse(text: string): IsoNames {
    const kind = kinds.find((known) => known === text)
    if (kind === undefined) throw new Failure(`--names must be used with one of ${kinds.join(', ')}`)
    return kind
  },
} as const satisfies OptionSpec

/** Opens the image, lets `work` use its file system, and closes it.
 *  @throws Failure */
export async function withIso<Result>(
  context: Context,
  { name, format, names }: { name: string; format: string | undefined; names: IsoNames | undefined },
  work: (files: IsoFileSystem) => Promise<Result>,
): Promise<Result> {
  const disk = await openImage(context, name, { use: 'read', format })
  try {
    let files: IsoFileSystem
    try {
      files = await openIsoFileSystem(disk, { names, warn: (message) => context.warn(message), signal: context.signal })
    } catch (error) {
      throw failureFrom(error, context.persona, `Could not open '${name}': `)
    }
    return await work(files)
  } finally {
    await disk.close()
  }
}
