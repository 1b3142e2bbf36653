/** A kernel, a ramdisk and what they boot become three images at once, or none. */
import { bootKindOf } from '@moraine/engine'
import { openFile } from '@moraine/engine/node'
import type { WritePlan } from '../dry-run.ts'
import { Failure, failureFrom, usageFailure } from '../failure.ts'
import { pathOf } from '../open.ts'
import { type ProgressDisplay, withProgress } from '../output/progress.ts'
import type { Context } from '../verb.ts'
import { newImageDocument } from './attribute-options.ts'
import { createImage, type ImageDocument, patchImage } from './images.ts'
import { compare, type PushValues, remove } from './push.ts'
import { convertedSource, inspectFile, type PushSource, plainSource } from './push-source.ts'
import type { Session } from './session.ts'
import { sendWhole } from './upload.ts'

/** One of the three. */
interface Part {
  format: 'aki' | 'ari' | 'ami'
  name: string
  source: PushSource
}

const kinds = {
  kernel: { format: 'aki', taken: ['kernel', 'packed'] },
  ramdisk: { format: 'ari', taken: ['ramdisk', 'packed', 'file-system'] },
} as const

/** Pushes them, the kernel first; the image that boots with the others.
 *  @throws Failure, MoraineError; then nothing of it is left, unless `--keep` says otherwise. */
export async function pushTrio(
  session: Session,
  context: Context,
  name: string | undefined,
  values: PushValues,
): Promise<ImageDocument> {
  return await withParts(context, name, values, (parts) =>
    withProgress(context, values, 'push', (display) => pushParts(session, context, parts, values, display)),
  )
}

/** What a push of them would make; the service is not asked.
 *  @throws Failure, MoraineError */
export async function planTrio(context: Context, name: string | undefined, values: PushValues): Promise<WritePlan> {
  return await withParts(context, name, values, async (parts) => ({
    operation: 'image push',
    target: values.name ?? name ?? '',
    format: 'ami',
    required: parts.every(({ source }) => source.length !== undefined) ? totalLength(parts) : undefined,
    writes: parts.map(
      ({ format, name, source }) =>
        `a new image '${name}' (${format}) of the service; it takes ${source.length ?? 'a number of'} bytes`,
    ),
    lost: [],
  }))
}

/** Opens the two or three files for as long as `work` takes. */
async function withParts<T>(
  context: Context,
  name: string | undefined,
  values: PushValues,
  work: (parts: readonly Part[]) => Promise<T>,
): Promise<T> {
  const { kernel, ramdisk, root } = checkedValues(values, name)
  const { unsafe } = values
  const title = values.name ?? name ?? ''
  const parts: Part[] = []
  try {
    parts.push({
      format: 'aki',
      name: `${title}-kernel`,
      source: await bootSource(context, 'kernel', kernel, unsafe),
    })
    if (ramdisk !== undefined) {
      parts.push({
        format: 'ari',
        name: `${title}-ramdisk`,
        source: await bootSource(context, 'ramdisk', ramdisk, unsafe),
      })
    }
    parts.push({ format: 'ami', name: title, source: await rootSource(context, root, unsafe) })
    return await work(parts)
  } finally {
    for (const { source } of parts) await source.close()
  }
}

function totalLength(parts: readonly Part[]): number {
  return parts.reduce((sum, { source }) => sum + (source.length ?? 0), 0)
}

function checkedValues(
  values: PushValues,
  name: string | undefined,
): { kernel: string; ramdisk: string | undefined; root: string } {
  const { kernel, ramdisk, root } = values
  if (name === undefined && values.name === undefined) throw usageFailure('Expecting NAME')
  if (kernel === undefined || root === undefined)
    throw usageFailure('--kernel and --root belong together; --ramdisk may be left out')
  const others = {
    '--method': values.method !== undefined && values.method !== 'put',
    '--uri': values.uri !== undefined,
    '--convert-to': values.convertTo !== undefined,
    '--compress': values.compress,
    '--resume': values.resume !== undefined,
    '--stores': values.stores !== undefined,
    '--all-stores': values.allStores,
    '--disk-format': values.diskFormat !== undefined,
    '--container-format': values.containerFormat !== undefined,
  }
  const odd = Object.entries(others).find(([, given]) => given)?.[0]
  if (odd !== undefined) throw usageFailure(`${odd} does not belong to --kernel`)
  return { kernel, ramdisk, root }
}

/** A kernel or a ramdisk, as it stands. */
async function bootSource(
  context: Context,
  what: keyof typeof kinds,
  file: string,
  unsafe: boolean,
): Promise<PushSource> {
  const inspection = await inspectFile(context, file, true)
  try {
    const source = await openFile(pathOf(file, context.persona))
    try {
      const kind = await bootKindOf(source, context.signal)
      if (!unsafe && (kind === undefined || !(kinds[what].taken as readonly string[]).includes(kind))) {
        throw new Failure(
          `'${file}' is no ${what}${kind === undefined || kind === 'packed' ? '' : `, but a ${kind.replace('-', ' ')}`}`,
          {
            hint: 'With --unsafe it is pushed all the same; the service may refuse it.',
          },
        )
      }
    } finally {
      await source.close()
    }
    return await plainSource(context, file, inspection)
  } catch (error) {
    throw failureFrom(error, context.persona, `Could not open '${file}': `)
  }
}

/** The disk, raw: as it stands, or converted on the way. */
async function rootSource(context: Context, file: string, unsafe: boolean): Promise<PushSource> {
  const inspection = await inspectFile(context, file, unsafe)
  if (inspection.format === 'raw') return await plainSource(context, file, inspection)
  return await convertedSource(context, file, 'raw', false)
}

async function pushParts(
  session: Session,
  context: Context,
  parts: readonly Part[],
  values: PushValues,
  display: ProgressDisplay,
): Promise<ImageDocument> {
  const total = totalLength(parts)
  const made: ImageDocument[] = []
  let before = 0
  try {
    for (const { format, name, source } of parts) {
      const image = await createImage(session, documentOf(format, name, values, made))
      made.push(image)
      const { onProgress } = display
      const upload = {
        image,
        source,
        onProgress:
          onProgress === undefined
            ? undefined
            : ({ done }: { done: number }) => onProgress({ done: before + done, total }),
      }
      const digests = await sendWhole(session, '/file', upload, values.store)
      made[made.length - 1] = await compare(session, context, digests, upload)
      before += source.length ?? 0
    }
    // Last, as what is protected could not be taken back.
    if (values.protected) {
      for (const [index, { id }] of made.entries()) {
        made[index] = await patchImage(session, id, [{ op: 'replace', path: '/protected', value: true }])
      }
    }
    return made.at(-1) as ImageDocument
  } catch (error) {
    for (const { id } of made.toReversed()) {
      if (values.protected)
        await patchImage(session, id, [{ op: 'replace', path: '/protected', value: false }]).catch(() => {})
      if (!(await remove(session, id, values.keep))) context.warn(`the image ${id} is left behind`)
    }
    throw error
  }
}

/** The document of one of the three; the root's names those that were made before it. */
function documentOf(
  format: Part['format'],
  name: string,
  values: PushValues,
  made: readonly ImageDocument[],
): Record<string, unknown> {
  const shared = { ...values, protected: false, name, diskFormat: format, containerFormat: format }
  if (format !== 'ami') {
    return newImageDocument({ ...shared, id: undefined, property: [], minDisk: undefined, minRam: undefined })
  }
  const idOf = (kind: string): string | undefined => made.find((image) => image.disk_format === kind)?.id
  const ramdisk = idOf('ari')
  const boots = { kernel_id: idOf('aki'), ...(ramdisk === undefined ? {} : { ramdisk_id: ramdisk }) }
  return { ...newImageDocument(shared), ...boots }
}
