/** Image data as it comes, from any byte on: broken connections are taken up again where they broke. */
import { Failure } from '../failure.ts'
import { answerFailure, ConnectionFailure, connectionFailure, type HttpAnswer } from './http.ts'
import { type ImageDocument, imagePath } from './images.ts'
import type { Session } from './session.ts'
import { sleep } from './wait.ts'

/** The image was changed while it was read, or is not the one that an earlier download began with. */
export class ChangedImage extends Failure {}

/** One download. */
export interface Download {
  image: ImageDocument
  /** The first byte that is wanted. */
  start: number
  /** The strong ETag of the bytes before `start`, where one is known. */
  etag: string | undefined
  /** Told the ETag of what comes, where the service has one. */
  onEtag?: ((etag: string) => void) | undefined
}

/** Attempts in a row that bring nothing. */
const mostAttempts = 6
const passing = new Set([429, 500, 502, 503, 504])

/** The bytes of an image from `start` to its end.
 *  @throws ChangedImage, HttpFailure, ConnectionFailure when several attempts bring nothing, MoraineError `cancelled` */
export async function* imageBytes(session: Session, { image, start, etag, onEtag }: Download): AsyncIterable<Buffer> {
  const total = image.size
  if (total === null) throw new Failure(`the image ${image.id} has no data yet: it is ${image.status}`)
  let at = start
  let seen = etag
  for (let attempts = 0; at < total; ) {
    try {
      const answer = await request(session, image, at, seen)
      seen = checkEtag(answer, seen)
      if (seen !== undefined) onEtag?.(seen)
      let skip = firstByte(answer, at, total)
      for await (const part of answer.body) {
        const bytes = part as Buffer
        const left = bytes.subarray(Math.min(skip, bytes.length))
        skip -= bytes.length - left.length
        if (at + left.length > total)
          throw new ChangedImage(`the service sends more than the ${total} bytes of the image`)
        if (left.length === 0) continue
        yield left
        at += left.length
        attempts = 0
      }
      if (at === total) return
      // A chunked body may end where it likes, and no connection breaks.
      throw new ConnectionFailure(`the service ended the image after ${at} of ${total} bytes`)
    } catch (error) {
      const failure = connectionFailure(error, await session.addressOf(imagePath(image.id)), session.signal)
      if (!(failure instanceof ConnectionFailure)) throw failure
      if (++attempts >= mostAttempts) throw failure
    }
    await sleep(100 * 2 ** attempts, session.signal)
  }
}

async function request(
  session: Session,
  image: ImageDocument,
  at: number,
  etag: string | undefined,
): Promise<HttpAnswer> {
  const headers = {
    accept: 'application/octet-stream, application/json;q=0.5, */*;q=0.1',
    range: at === 0 ? undefined : `bytes=${at}-`,
    'if-range': at === 0 ? undefined : etag,
  }
  const answer = await session.send('GET', imagePath(image.id, '/file'), { headers })
  if (answer.status === 200 || answer.status === 206) return answer
  if (answer.status === 204) throw new Failure(`the image ${image.id} has no data`)
  const failure = await answerFailure(answer)
  if (passing.has(answer.status)) throw new ConnectionFailure(failure.message)
  throw failure
}

/** The strong ETag from now on.
 *  @throws ChangedImage when it is another than before */
function checkEtag(answer: HttpAnswer, before: string | undefined): string | undefined {
  const etag = strongEtag(answer)
  if (etag === undefined) return before
  if (before !== undefined && etag !== before) throw new ChangedImage('the image was changed while it was read')
  return etag
}

/** The ETag that stands for bytes: a weak one says nothing about them. */
export function strongEtag({ headers: { etag } }: HttpAnswer): string | undefined {
  return etag?.startsWith('"') === true ? etag : undefined
}

/** How many bytes of the body are not wanted: a service without ranges sends all of it.
 *  @throws ChangedImage when it is of another size */
function firstByte({ status, headers }: HttpAnswer, at: number, total: number): number {
  if (status === 200) {
    const length = headers['content-length']
    if (length !== undefined && Number(length) !== total)
      throw new ChangedImage(`the image has ${length} bytes, not the ${total} that were told`)
    return at
  }
  const [, first, size] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(headers['content-range'] ?? '') ?? []
  if (first === undefined || Number(first) > at)
    throw new Failure(`the service sends another range than was asked for: ${headers['content-range']}`)
  if (size !== '*' && Number(size) !== total)
    throw new ChangedImage(`the image has ${size} bytes, not the ${total} that were told`)
  return at - Number(first)
}
