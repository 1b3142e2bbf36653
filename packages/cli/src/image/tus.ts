/** Uploads that go on where they were cut. Source: tus resumable upload protocol 1.0.0 (core, creation), https://tus.io/protocols/resumable-upload. */
import type { Progress } from '@moraine/engine'
import { Failure } from '../failure.ts'
import { Digests } from './digests.ts'
import { answerFailure, ConnectionFailure, discard, type HttpAnswer, isOk } from './http.ts'
import { imagePath } from './images.ts'
import type { PushSource } from './push-source.ts'
import type { Session } from './session.ts'
import type { Upload } from './upload.ts'
import { sleep } from './wait.ts'

const version = { 'tus-resumable': '1.0.0' }
/** Attempts in a row that bring nothing forward. */
const mostAttempts = 6

/** Where an image's upload is created, and asked for when nobody remembers its address. */
export function tusPath(id: string): string {
  return imagePath(id, '/tus')
}

/** Begins an upload; its address.
 *  @throws Failure where the service has no tus, HttpFailure */
export async function createTusUpload(session: Session, id: string, length: number): Promise<string> {
  const path = tusPath(id)
  const answer = await session.send('POST', path, {
    headers: { ...version, 'upload-length': String(length), 'content-length': '0' },
  })
  if (answer.status === 404 || answer.status === 405) {
    const said = await answerFailure(answer)
    throw new Failure('the service does not offer resumable uploads (tus)', { hint: said.message })
  }
  if (!isOk(answer)) throw await answerFailure(answer)
  await discard(answer)
  const { location } = answer.headers
  if (location === undefined) throw new Failure('the service begins a tus upload without saying where it is')
  return new URL(location, await session.addressOf(path)).href
}

/** How many bytes the service has; undefined where there is no such upload. */
export async function tusOffset(
  session: Session,
  address: string,
): Promise<{ offset: number; length: number | undefined } | undefined> {
  const answer = await session.send('HEAD', address, { headers: version })
  await discard(answer)
  if (answer.status === 403 || answer.status === 404 || answer.status === 405 || answer.status === 410) return undefined
  if (!isOk(answer)) throw await answerFailure(answer)
  const offset = readCount(answer, 'upload-offset')
  if (offset === undefined) return undefined
  return { offset, length: readCount(answer, 'upload-length') }
}

function readCount({ headers }: HttpAnswer, name: string): number | undefined {
  const text = headers[name]
  return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined
}

/** Sends what the service has not yet, and goes on after broken connections; the digests of all of it.
 *  @throws Failure, HttpFailure, ConnectionFailure when several attempts bring nothing forward */
export async function sendTus(
  session: Session,
  address: string,
  { image, source, onProgress }: Upload & { source: { length: number } },
): Promise<Digests> {
  const digests = Digests.toSend(image)
  let attempts = 0
  for (let reached = -1; ; ) {
    const offset = await offsetNow(session, address, source.length, attempts)
    if (offset !== undefined) {
      if (offset > reached) attempts = 0
      reached = Math.max(reached, offset)
      onProgress?.({ done: offset, total: source.length })
      if (offset === source.length) break
      if (await patch(session, address, offset, source, digests, onProgress)) continue
    }
    attempts++
    if (attempts >= mostAttempts) throw new ConnectionFailure('the upload does not get on')
    await sleep(250 * 2 ** attempts, session.signal)
  }
  await digestUpTo(digests, source, source.length, session.signal)
  return digests
}

/** Undefined when the service could not be reached this time. */
async function offsetNow(
  session: Session,
  address: string,
  length: number,
  attempts: number,
): Promise<number | undefined> {
  try {
    const found = await tusOffset(session, address)
    if (found === undefined) throw new Failure('the service no longer has this upload')
    if (found.length !== undefined && found.length !== length) {
      throw new Failure(`the upload was begun for ${found.length} bytes, and there are ${length} now`)
    }
    if (found.offset > length) throw new Failure(`the service has ${found.offset} bytes of ${length}`)
    return found.offset
  } catch (error) {
    if (!(error instanceof ConnectionFailure) || attempts + 1 >= mostAttempts) throw error
    return undefined
  }
}

/** One PATCH with all that is left; false when the connection broke or the service was not ready. */
async function patch(
  session: Session,
  address: string,
  offset: number,
  source: PushSource & { length: number },
  digests: Digests,
  onProgress: ((progress: Progress) => void) | undefined,
): Promise<boolean> {
  await digestUpTo(digests, source, offset, session.signal)
  async function* body(): AsyncIterable<Uint8Array> {
    let at = offset
    for await (const chunk of source.chunks(offset, session.signal)) {
      digests.updateFrom(at, chunk)
      yield chunk
      at += chunk.length
      onProgress?.({ done: at, total: source.length })
    }
  }
  const headers = {
    ...version,
    'upload-offset': String(offset),
    'content-type': 'application/offset+octet-stream',
    'content-length': String(source.length - offset),
  }
  try {
    const answer = await session.send('PATCH', address, { headers, body })
    if (isOk(answer)) {
      await discard(answer)
      return true
    }
    const failure = await answerFailure(answer)
    // 409: it has another offset; 423: it still holds the connection that broke; the others pass.
    if ([409, 423, 429, 500, 502, 503, 504].includes(answer.status)) return false
    throw failure
  } catch (error) {
    if (error instanceof ConnectionFailure) return false
    throw error
  }
}

/** Reads what the service has already, for the digests. */
async function digestUpTo(
  digests: Digests,
  source: PushSource,
  end: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (digests.size >= end) return
  for await (const chunk of source.chunks(digests.size, signal)) {
    digests.update(chunk.subarray(0, end - digests.size))
    if (digests.size >= end) return
  }
}
