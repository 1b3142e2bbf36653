/** `image pull`: an image becomes a file. */
import { Failure, usageFailure } from '../../failure.ts'
import { defineImageVerb, type ImageCall, savingOptions } from '../../image/image-verb.ts'
import type { ImageDocument } from '../../image/images.ts'
import type { Pull } from '../../image/pull.ts'
import { withProgress } from '../../output/progress.ts'
import type { Values } from '../../verb.ts'

const options = {
  targetFormat: {
    short: 'O',
    long: 'convert-to',
    argument: 'FMT',
    help: 'Convert it to this format once it is here and was checked.',
  },
  options: {
    short: 'o',
    argument: 'OPTIONS',
    help: 'Options of that format, as in compression_type=zstd.',
    collect: true,
  },
  compress: { short: 'c', long: 'compress', help: 'Compress what -O or --export makes.' },
  export: {
    long: 'export',
    argument: 'FMT',
    help: "Let the service convert it while it sends (moraine's own services only), as 'moraine image export' does.",
  },
  ...savingOptions,
} as const

export const verb = defineImageVerb({
  name: 'pull',
  summary: 'Save an image as a file',
  operands: 'IMAGE FILE',
  about:
    'What comes is kept in FILE.part; when it is cut, the same command goes on from there, as long as the image is the same. At the end all of it is compared with the digest that the service ' +
    "has, and only then gets its name. Zeros become holes. With '-' it is written to standard output, and the exit code tells whether it was right.",
  examples: [
    ['moraine image pull debian-13 debian.qcow2', 'again after it was cut: goes on'],
    ['moraine image pull -O raw debian-13 disk.raw', 'converted here'],
    ['moraine image pull --export vmdk debian-13 disk.vmdk', 'converted by the service'],
    ['moraine image pull debian-13 - | ssh host "cat > debian.qcow2"', 'through a pipe'],
  ],
  options,
  count: [2, 2],
  async run(call, values, [name = '', target = '']) {
    const { checkSaveTarget, pathOfTarget } = await import('../../image/save-target.ts')
    const path = pathOfTarget(call.context, target)
    checkValues(values, path)
    if (path !== undefined) checkSaveTarget(path)
    const conversion = values.targetFormat === undefined ? undefined : await readConversion(call, values, target)
    const { findImage } = await import('../../image/images.ts')
    const image = await findImage(call.session, name)
    if (values.dryRun) return await rehearse(call, values, image, path)
    if (values.export !== undefined) return await pullExport(call, values, image, path)
    if (path === undefined) return await pullToPipe(call, values, image)
    await pullToFile(call, values, image, path, conversion)
  },
})

type PullValues = Values<typeof options>

function checkValues(values: PullValues, path: string | undefined): void {
  if (values.export !== undefined && values.targetFormat !== undefined) throw usageFailure('-O contradicts --export')
  if (values.compress && values.export === undefined && values.targetFormat === undefined)
    throw usageFailure('--compress needs -O or --export')
  if (values.options.length > 0 && values.export === undefined && values.targetFormat === undefined)
    throw usageFailure('-o needs -O or --export')
  if (values.targetFormat !== undefined && path === undefined) {
    throw new Failure('-O cannot be used with standard output: an image is converted once all of it is here')
  }
}

/** Tells what would be fetched and written. */
async function rehearse(
  { context, json }: ImageCall,
  { export: exported, targetFormat }: PullValues,
  image: ImageDocument,
  path: string | undefined,
): Promise<void> {
  const { planFile, printPlan } = await import('../../dry-run.ts')
  const made = exported ?? targetFormat
  const writes = [
    `image ${image.id}: ${image.size ?? 'an unknown number of'} bytes${image.disk_format ? ` of ${image.disk_format}` : ''} are fetched`,
    ...(made === undefined ? [] : [`converted to ${made} ${exported === undefined ? 'here' : 'by the service'}`]),
  ]
  const size = made === undefined ? (image.size ?? undefined) : undefined
  printPlan(context, planFile('image pull', path ?? '-', { writes, size }), json)
}

async function readConversion({ context }: ImageCall, values: PullValues, target: string) {
  const { readPullTarget } = await import('../../image/pull-convert.ts')
  return readPullTarget(context, values.targetFormat ?? '', values.options, values.compress, target)
}

async function pullToFile(
  call: ImageCall,
  values: PullValues,
  image: ImageDocument,
  path: string,
  conversion: Awaited<ReturnType<typeof readConversion>> | undefined,
): Promise<void> {
  const { pullPart } = await import('../../image/pull.ts')
  const part = await withProgress(call.context, values, 'pull', ({ onProgress }) =>
    pullPart({ ...call, image, onProgress }, path),
  )
  if (conversion === undefined) return await part.publish(path)
  const { convertPulled } = await import('../../image/pull-convert.ts')
  await withProgress(call.context, values, 'convert', ({ onProgress }) =>
    convertPulled(call.context, image, part.path, path, conversion, onProgress),
  )
  part.remove()
}

async function pullToPipe(call: ImageCall, values: PullValues, image: ImageDocument): Promise<void> {
  const [{ pullStream }, { writeStream }] = await Promise.all([
    import('../../image/pull.ts'),
    import('../../output/pipe.ts'),
  ])
  await withProgress(call.context, values, 'pull', async ({ onProgress }) => {
    const pull: Pull = { ...call, image, onProgress }
    await writeStream(pullStream(pull), { signal: call.context.signal, onProgress })
  })
}

async function pullExport(
  call: ImageCall,
  values: PullValues,
  image: ImageDocument,
  path: string | undefined,
): Promise<void> {
  const { exportQuery, saveExport } = await import('../../image/save-export.ts')
  const query = exportQuery(values.export ?? '', values.options, values.compress)
  await saveExport({ ...call, image }, values, query, path)
}
