/** `image export`: an image becomes a file of another format, converted by the service while it sends. */
import { allFormats } from '@moraine/engine'
import { Failure, usageFailure } from '../../failure.ts'
import { formatOfName, newFormatNamed } from '../../formats.ts'
import { defineImageVerb, type ImageCall, savingOptions } from '../../image/image-verb.ts'
import type { ImageDocument } from '../../image/images.ts'
import { withProgress } from '../../output/progress.ts'
import type { Values } from '../../verb.ts'

const options = {
  targetFormat: {
    short: 'O',
    long: 'format',
    argument: 'FMT',
    values: () => allFormats.filter(({ create }) => create !== undefined).map(({ name }) => name),
    help: 'The format of the file, which else is what the end of its name stands for.',
  },
  options: {
    short: 'o',
    argument: 'OPTIONS',
    help: 'Options of that format, as in subformat=streamOptimized.',
    collect: true,
  },
  compress: { short: 'c', long: 'compress', help: 'Pack it.' },
  here: { long: 'here', help: 'Convert here, after all of the image was downloaded and compared with its digest.' },
  verify: {
    long: 'verify',
    help: 'Read the file again: its structure is checked, and what the disk holds is compared with the digest of a raw image.',
  },
  ...savingOptions,
} as const

type ExportValues = Values<typeof options>

export const verb = defineImageVerb({
  name: 'export',
  summary: 'Save an image in another format',
  operands: 'IMAGE FILE',
  about:
    "moraine's own services convert while they send, so that nothing is stored twice; from any other the image is downloaded and converted here. What comes is kept in FILE.part and gets its name when it is whole, opens, and " +
    'has the size of the disk. A connection that breaks is gone on with where the service keeps what it made (exportCacheSize), and begun anew elsewhere. With - it is written to standard output.',
  examples: [
    ['moraine image export debian-13 debian.vmdk', 'as VMDK, by the name of the file'],
    ['moraine image export debian-13 debian.vmdk -o subformat=streamOptimized --verify', 'packed, and read once more'],
    ['moraine image export debian-13 - -O raw | ssh host "dd of=/dev/vdb bs=1M"', 'through a pipe'],
  ],
  options,
  count: [2, 2],
  async run(call, values, [name = '', target = '']) {
    const { context, session } = call
    const { checkSaveTarget, pathOfTarget } = await import('../../image/save-target.ts')
    const path = pathOfTarget(context, target)
    if (path !== undefined) checkSaveTarget(path)
    const format = targetFormat(call, values, path)
    if (values.here && path === undefined)
      throw usageFailure('--here needs a file: an image is converted once all of it is here')
    if (values.verify && path === undefined)
      throw usageFailure('--verify needs a file: what went through a pipe cannot be read again')
    const { findImage } = await import('../../image/images.ts')
    const image = await findImage(session, name)
    if (values.dryRun) return await rehearse(call, values, image, format, path)
    if (values.here && path !== undefined) return await exportHere(call, values, image, format, path)
    await exportThere(call, values, image, format, path)
  },
})

/** The name of the format that is asked for.
 *  @throws Failure when nothing says it, or nobody can make it. */
function targetFormat({ context }: ImageCall, values: ExportValues, path: string | undefined): string {
  const name = values.targetFormat ?? (path === undefined ? undefined : formatOfName(path))
  if (name === undefined) {
    throw path === undefined
      ? usageFailure('Standard output has no name that tells a format: expecting -O')
      : new Failure(`the name '${path}' does not tell a format`, { hint: 'It can be said with -O FMT.' })
  }
  const format = newFormatNamed(name, context.persona)
  // Nothing that is written front to back.
  if (format.stream === undefined && !values.here)
    throw new Failure(`${format.name} cannot be written front to back, as a service sends it`, {
      hint: 'With --here the image is converted here.',
    })
  return name
}

async function exportThere(
  call: ImageCall,
  values: ExportValues,
  image: ImageDocument,
  format: string,
  path: string | undefined,
): Promise<void> {
  const [{ exportQuery, saveExport }, { NoExport }] = await Promise.all([
    import('../../image/save-export.ts'),
    import('../../image/export.ts'),
  ])
  const query = exportQuery(format, values.options, values.compress)
  try {
    await saveExport({ ...call, image }, values, query, path, values.verify)
  } catch (error) {
    if (!(error instanceof NoExport) || path === undefined) throw error
    const { context } = call
    if (!values.quiet) context.err.write(`${context.persona.name}: note: ${error.message}; it is converted here\n`)
    await exportHere(call, values, image, format, path)
  }
}

/** Downloads, compares with the digest, and converts. */
async function exportHere(
  call: ImageCall,
  values: ExportValues,
  image: ImageDocument,
  format: string,
  path: string,
): Promise<void> {
  const { context } = call
  const [{ pullPart }, { readPullTarget, convertPulled }] = await Promise.all([
    import('../../image/pull.ts'),
    import('../../image/pull-convert.ts'),
  ])
  const target = readPullTarget(context, format, values.options, values.compress, path)
  const part = await withProgress(context, values, 'pull', ({ onProgress }) =>
    pullPart({ ...call, image, onProgress }, path),
  )
  await withProgress(context, values, 'convert', ({ onProgress }) =>
    convertPulled(context, image, part.path, path, target, onProgress),
  )
  part.remove()
  if (!values.verify) return
  const { verifyExport } = await import('../../image/export.ts')
  await withProgress(context, values, 'verify', ({ onProgress }) =>
    verifyExport({ ...call, image, onProgress }, path, target.format, true),
  )
}

/** Tells what would be fetched and written. */
async function rehearse(
  { context, json }: ImageCall,
  values: ExportValues,
  image: ImageDocument,
  format: string,
  path: string | undefined,
): Promise<void> {
  const { planFile, printPlan } = await import('../../dry-run.ts')
  const writes = [
    `image ${image.id}: ${image.size ?? 'an unknown number of'} bytes${image.disk_format ? ` of ${image.disk_format}` : ''} are read`,
    `converted to ${format} ${values.here ? 'here' : 'by the service'}`,
  ]
  printPlan(context, planFile('image export', path ?? '-', { writes, size: undefined }), json)
}
