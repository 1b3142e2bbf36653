/** From an image to a file: resumed where it was cut, compared with the service's digest, converted when asked for. */
import type { Progress, StreamPlan } from '@moraine/engine'
import { Failure, failureFrom } from '../failure.ts'
import type { Context } from '../verb.ts'
import { Digests } from './digests.ts'
import { ChangedImage, imageBytes } from './download.ts'
import { plainText } from './error-text.ts'
import type { ImageDocument } from './images.ts'
import { identityOf, PartFile } from './part-file.ts'
import type { Session } from './session.ts'
import { SparseWriter } from './sparse-writer.ts'

/** What a pull works with. */
export interface Pull {
  session: Session
  context: Context
  image: ImageDocument
  onProgress: ((progress: Progress) => void) | undefined
}

/** Downloads to `FILE.part`, and checks it; the caller gives it its name.
 *  @throws Failure; what came is kept, unless it is known to be wrong. */
export async function pullPart(pull: Pull, target: string): Promise<PartFile> {
  const { context, image } = pull
  checkReadable(image)
  try {
    return await download(pull, await openPart(context, target, image))
  } catch (error) {
    if (!(error instanceof ChangedImage)) throw error
    // What is there is of other bytes: from the beginning, once.
    context.err.write(`${context.persona.name}: note: ${error.message}; it is read again from the beginning\n`)
    return await download(pull, await openPart(context, target, image))
  }
}

async function openPart(context: Context, target: string, image: ImageDocument): Promise<PartFile> {
  try {
    return await PartFile.open(target, identityOf(image))
  } catch (error) {
    throw failureFrom(error, context.persona, `Could not write '${target}.part': `)
  }
}

async function download({ session, context, image, onProgress }: Pull, part: PartFile): Promise<PartFile> {
  const total = image.size ?? 0
  const writer = new SparseWriter(part.store, part.start)
  const digests = Digests.toCheck(image)
  let isWhole = false
  try {
    if (part.start > 0)
      context.err.write(`${context.persona.name}: note: goes on after the first ${part.start} bytes of ${part.path}\n`)
    await part.digest(digests, session.signal)
    onProgress?.({ done: part.start, total })
    const request = { image, start: part.start, etag: part.etag, onEtag: (etag: string) => part.keepEtag(etag) }
    for await (const bytes of imageBytes(session, request)) {
      digests.update(bytes)
      await writer.write(bytes)
      onProgress?.({ done: writer.position, total })
    }
    isWhole = true
  } catch (error) {
    if (error instanceof ChangedImage) part.remove()
    throw error
  } finally {
    try {
      await writer.finish()
      if (isWhole) await part.store.flush()
    } finally {
      await part.store.close()
    }
  }
  compare(context, digests, image, () => part.remove())
  return part
}

function compare(context: Context, digests: Digests, image: ImageDocument, onWrong: () => void): void {
  try {
    if (!digests.check(image)) context.warn('the service says no checksum of the image, so nothing was compared')
  } catch (error) {
    onWrong()
    throw error
  }
}

function checkReadable({ id, name, status, size }: ImageDocument): void {
  if (size !== null && status !== 'queued') return
  throw new Failure(`the image ${plainText(name ?? id)} has no data yet: it is ${status}`)
}

/** The image as a stream, checked at its end: for standard output, where nothing can be taken back. */
export function pullStream({ session, context, image }: Pull): StreamPlan {
  checkReadable(image)
  async function* chunks(): AsyncIterable<Uint8Array> {
    const digests = Digests.toCheck(image)
    for await (const bytes of imageBytes(session, { image, start: 0, etag: undefined })) {
      digests.update(bytes)
      yield bytes
    }
    compare(context, digests, image, () => {})
  }
  return { length: image.size ?? undefined, chunks }
}
