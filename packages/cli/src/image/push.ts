/** From a file to an image: looked at, created, sent, compared; and cleared away when that fails. */
import type { Inspection } from '@moraine/engine'
import type { WritePlan } from '../dry-run.ts'
import { Failure, usageFailure } from '../failure.ts'
import { pathOf } from '../open.ts'
import { withProgress } from '../output/progress.ts'
import { sizeText } from '../output/size.ts'
import type { Context, Values } from '../verb.ts'
import { newImageDocument } from './attribute-options.ts'
import { Digests } from './digests.ts'
import { discard } from './http.ts'
import { createImage, done, findImage, getImage, type ImageDocument, imagePath } from './images.ts'
import { storeRequest } from './import-options.ts'
import type { pushOptions } from './push-options.ts'
import { convertedSource, diskFormatOf, inspectFile, type PushSource, plainSource } from './push-source.ts'
import type { Session } from './session.ts'
import { createTusUpload, sendTus, tusOffset, tusPath } from './tus.ts'
import { sendWhole, type Upload } from './upload.ts'
import { dropNote, findNote, keepNote, noteOf } from './upload-notes.ts'
import { imageTasks, waitForImport } from './wait.ts'

/** The options of a push, read. */
export type PushValues = Values<typeof pushOptions>

/** Milliseconds for clearing away, after which it is left. */
const clearingMilliseconds = 15_000

/** Pushes a file.
 *  @param file `name` is what the image is called when nothing else is said
 *  @throws Failure, MoraineError */
export async function push(
  session: Session,
  context: Context,
  file: { file: string; name: string },
  values: PushValues,
): Promise<ImageDocument> {
  const { inspection, source } = await openPushed(context, file.file, values)
  try {
    if (values.resume !== undefined) return await resume(session, context, file.file, source, values.resume, values)
    const image = await createImage(session, newDocument(values, file.name, source, inspection))
    try {
      return await withProgress(context, values, 'push', async ({ onProgress }) => {
        const upload = { image, source, onProgress }
        const digests = await send(session, context, file.file, upload, values)
        return await compare(session, context, digests, upload)
      })
    } catch (error) {
      await clearAway(session, context, image.id, values, file.file)
      throw error
    }
  } finally {
    await source.close()
  }
}

/** What a push of a file would make; the service is not asked.
 *  @throws Failure, MoraineError */
export async function planPush(
  context: Context,
  { file, name }: { file: string; name: string },
  values: PushValues,
): Promise<WritePlan> {
  const { inspection, source } = await openPushed(context, file, values)
  try {
    const document = newDocument(values, name, source, inspection)
    const { length } = source
    return {
      operation: 'image push',
      target: String(document.name),
      format: String(document.disk_format),
      'virtual-size': inspection.virtualSize,
      required: length,
      writes: [
        values.resume === undefined
          ? `a new image of the service; it takes ${length ?? 'a number of'} bytes by ${values.method ?? 'put'}`
          : `what the image ${values.resume} lacks of ${length ?? 'a number of'} bytes, by tus`,
      ],
      lost: [],
    }
  } finally {
    await source.close()
  }
}

async function openPushed(
  context: Context,
  file: string,
  values: PushValues,
): Promise<{ inspection: Inspection; source: PushSource }> {
  checkValues(values)
  const inspection = await inspectFile(context, file, values.unsafe)
  if (!values.quiet) context.err.write(`${context.persona.name}: note: ${file} is ${describe(inspection)}\n`)
  const source =
    values.convertTo === undefined
      ? await plainSource(context, file, inspection)
      : await convertedSource(context, file, values.convertTo, values.compress)
  return { inspection, source }
}

/** The document of an image whose data the service fetches itself. */
function webDocument(values: PushValues): Record<string, unknown> {
  const { uri = '' } = values
  if (values.convertTo !== undefined)
    throw usageFailure('--convert-to does not belong to web-download: the service fetches the data itself')
  if (values.diskFormat === undefined) throw usageFailure('web-download needs --disk-format')
  const last = URL.canParse(uri) ? new URL(uri).pathname.split('/').at(-1) : undefined
  return newImageDocument(values, { name: last === '' ? undefined : last })
}

/** What a push of data would make that the service fetches itself; it is not asked.
 *  @throws Failure */
export function planFromWeb(values: PushValues): WritePlan {
  const { name, disk_format: format } = webDocument(values)
  return {
    operation: 'image push',
    target: String(name ?? values.uri),
    format: String(format),
    writes: [`a new image of the service, which fetches ${values.uri} itself`],
    lost: [],
  }
}

/** Creates an image whose data the service fetches itself, and waits for it. */
export async function pushFromWeb(session: Session, values: PushValues): Promise<ImageDocument> {
  const image = await createImage(session, webDocument(values))
  try {
    await done(session, 'POST', imagePath(image.id, '/import'), {
      method: { name: 'web-download', uri: values.uri },
      ...storeRequest(values),
    })
    return await waitForImport(session, image.id, new Set())
  } catch (error) {
    await remove(session, image.id, values.keep)
    throw error
  }
}

function checkValues(values: PushValues): void {
  const { method = 'put' } = values
  const imports = values.stores !== undefined || values.allStores
  if (imports && method !== 'glance-direct')
    throw usageFailure('--stores and --all-stores need --method glance-direct or web-download; --store is for put')
  if (values.store !== undefined && method !== 'put') throw usageFailure(`--store does not belong to ${method}`)
  if (values.compress && values.convertTo === undefined) throw usageFailure('--compress needs --convert-to')
  if (values.resume !== undefined && values.method !== undefined && method !== 'tus')
    throw usageFailure(`an upload by ${method} cannot be resumed`)
}

function describe({ format, virtualSize, verdict }: Inspection): string {
  const size = virtualSize === undefined ? '' : `, a disk of ${sizeText(virtualSize)}`
  const words = { passed: 'its checks passed', unknown: 'not all of it could be checked', failed: 'it is NOT SAFE' }
  return `${format}${size}; ${words[verdict]}`
}

function newDocument(
  values: PushValues,
  name: string,
  source: PushSource,
  inspection: Inspection,
): Record<string, unknown> {
  const { diskFormat } = source
  if (diskFormat === undefined && values.diskFormat === undefined) {
    const found = values.convertTo ?? inspection.format
    throw new Failure(`image services have no disk format '${found}'`, {
      hint: 'With --convert-to qcow2 it is converted on the way; --disk-format FMT says what it is to be taken for.',
    })
  }
  const said = values.diskFormat
  if (
    said !== undefined &&
    diskFormat !== undefined &&
    said !== diskFormat &&
    said !== 'raw' &&
    !values.unsafe &&
    isKnown(said)
  ) {
    const seen = values.convertTo === undefined ? diskFormatOf(inspection) : diskFormat
    throw new Failure(`the file is ${seen}, not ${said}`, {
      hint: 'With --unsafe it is pushed under that name all the same.',
    })
  }
  return newImageDocument(values, { name, diskFormat })
}

/** Whether the engine would have seen that a file is of this format. */
function isKnown(format: string): boolean {
  return ['qcow2', 'vmdk', 'vhd', 'vhdx', 'vdi', 'iso', 'ploop'].includes(format)
}

async function send(
  session: Session,
  context: Context,
  file: string,
  upload: Upload,
  values: PushValues,
): Promise<Digests> {
  const { id } = upload.image
  switch (values.method) {
    case 'tus': {
      const source = withLength(upload.source)
      const address = await createTusUpload(session, id, source.length)
      keepNote(id, noteOf(pathOf(file, context.persona), address))
      const digests = await sendTus(session, address, { ...upload, source })
      await finishTus(session, id)
      return digests
    }
    case 'glance-direct': {
      const digests = await sendWhole(session, '/stage', upload)
      const before = new Set((await imageTasks(session, id)).map((task) => task.id))
      await done(session, 'POST', imagePath(id, '/import'), {
        method: { name: 'glance-direct' },
        ...storeRequest(values),
      })
      await waitForImport(session, id, before)
      return digests
    }
    default:
      return await sendWhole(session, '/file', upload, values.store)
  }
}

function withLength(source: PushSource): PushSource & { length: number } {
  const { length } = source
  if (length === undefined)
    throw new Failure('the length of what is converted is not known beforehand, so it cannot be sent by tus', {
      hint: 'Without --compress it is known.',
    })
  return { ...source, length }
}

async function finishTus(session: Session, id: string): Promise<void> {
  await waitForImport(session, id, new Set())
  dropNote(id)
}

/** Compares what was sent with what the service says it has. Where it hashed in another way than was thought, all is read once more. */
export async function compare(
  session: Session,
  context: Context,
  digests: Digests,
  { image, source }: Upload,
): Promise<ImageDocument> {
  const sent = await getImage(session, image.id)
  if (digests.check(sent)) return sent
  const others = Digests.toCheck(sent)
  if (!others.canCheck) context.warn('the service says no checksum of what it has, so nothing was compared')
  else {
    for await (const chunk of source.chunks(0, session.signal)) others.update(chunk)
    others.check(sent)
  }
  return sent
}

/** Goes on with an upload that was cut. */
async function resume(
  session: Session,
  context: Context,
  file: string,
  source: PushSource,
  name: string,
  values: PushValues,
): Promise<ImageDocument> {
  const sized = withLength(source)
  const image = await findImage(session, name)
  const note = findNote(image.id)
  const here = noteOf(pathOf(file, context.persona), '')
  if (note !== undefined && (note.size !== here.size || note.modified !== here.modified)) {
    throw new Failure(`'${file}' was changed since the upload began, or is another file`)
  }
  const places = note === undefined ? [await session.addressOf(tusPath(image.id))] : [note.address]
  for (const address of places) {
    if ((await tusOffset(session, address)) === undefined) continue
    return await withProgress(context, values, 'push', async ({ onProgress }) => {
      const upload = { image, source: sized, onProgress }
      const digests = await sendTus(session, address, upload)
      await finishTus(session, image.id)
      return await compare(session, context, digests, upload)
    })
  }
  throw new Failure(`the service has no upload of '${name}' to go on with`)
}

/** After a failure: an upload by tus is kept, for it can be resumed; anything else leaves nothing. */
async function clearAway(
  session: Session,
  context: Context,
  id: string,
  values: PushValues,
  file: string,
): Promise<void> {
  if (values.method === 'tus' && findNote(id) !== undefined) {
    context.err.write(
      `${context.persona.name}: note: what was sent is kept; go on with: moraine image push --resume ${id} ${file}\n`,
    )
    return
  }
  const isGone = await remove(session, id, values.keep)
  if (!isGone) context.warn(`the image ${id} is left behind`)
}

/** Deletes an image whose push failed, even though the user stopped the command; whether it is gone. */
export async function remove(session: Session, id: string, keep: boolean): Promise<boolean> {
  if (keep) return false
  try {
    const answer = await session.ask('DELETE', imagePath(id), { signal: AbortSignal.timeout(clearingMilliseconds) })
    await discard(answer)
    return true
  } catch {
    return false
  }
}
