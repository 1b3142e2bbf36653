/** The bytes of an image, from any byte on: connections that break are taken up again where they broke, as long as the server says that the file is the same. */
import { createReadStream } from 'node:fs'
import { isMoraineError, MoraineError } from '@moraine/engine'
import { type Answer, cancelled, faultText, type Get, type Patience, passing, pause, usualPatience } from './mirror.ts'

/** The file is not the one that was begun with, or not the one of the catalogue. */
export class ChangedFile extends MoraineError {}

/** One download. */
export interface Download {
  readonly get: Get
  readonly url: string
  /** Bytes of the whole file, as the catalogue says. */
  readonly size: number | undefined
  /** Bytes that are taken at most where the catalogue does not say. */
  readonly most: number
  /** The first byte that is wanted. */
  readonly start: number
  /** The strong ETag of the bytes before `start`, where one is known. */
  readonly etag?: string | undefined
  /** Told the ETag of what comes, where the server has one. */
  readonly onEtag?: ((etag: string) => void) | undefined
  /** Told how long the whole file is, as soon as anybody says so. */
  readonly onSize?: ((size: number) => void) | undefined
  /** Told when it is tried again. */
  readonly onRetry?: ((reason: string, at: number) => void) | undefined
  readonly patience?: Patience | undefined
  readonly signal?: AbortSignal | undefined
}

/** The bytes from `start` to the end of the file.
 *  @throws ChangedFile; MoraineError `io` when several attempts bring nothing, `missing`, `limit`, `cancelled` */
export async function* downloadBytes(download: Download): AsyncGenerator<Uint8Array> {
  const { patience = usualPatience, signal, onRetry } = download
  const state: State = { at: download.start, etag: download.etag, total: download.size }
  for (let failures = 0; ; ) {
    const before = state.at
    let reason: string
    try {
      yield* attempt(download, state)
      if (state.total === undefined || state.at === state.total) return
      reason = `it ended after ${state.at} of ${state.total} bytes`
    } catch (error) {
      if (signal?.aborted === true) throw cancelled(signal)
      if (isMoraineError(error)) throw error
      reason = faultText(error)
    }
    failures = state.at > before ? 1 : failures + 1
    if (failures >= patience.attempts) {
      throw new MoraineError('io', `the download broke at byte ${state.at}: ${reason}`, { path: download.url })
    }
    onRetry?.(reason, state.at)
    await pause(patience.pauseMilliseconds * 2 ** (failures - 1), signal)
  }
}

interface State {
  at: number
  etag: string | undefined
  total: number | undefined
}

async function* attempt(download: Download, state: State): AsyncGenerator<Uint8Array> {
  const { get, url, signal } = download
  const range: Record<string, string> = state.at === 0 ? {} : { range: `bytes=${state.at}-` }
  const condition: Record<string, string> = state.at === 0 || state.etag === undefined ? {} : { 'if-range': state.etag }
  const answer = await get(url, { accept: '*/*', 'accept-encoding': 'identity', ...range, ...condition }, signal)
  let isDone = false
  try {
    let skip = await firstByte(answer, download, state)
    for await (const piece of answer.body) {
      const wanted = piece.subarray(Math.min(skip, piece.length))
      skip -= piece.length - wanted.length
      if (wanted.length === 0) continue
      const most = state.total ?? download.most
      if (state.at + wanted.length > most) {
        throw new ChangedFile(state.total === undefined ? 'limit' : 'corrupt', `more comes than ${most} bytes`, {
          path: url,
        })
      }
      state.at += wanted.length
      yield wanted
    }
    isDone = true
  } finally {
    if (!isDone) await answer.discard().catch(() => {})
  }
}

/** How many bytes of the body are not wanted: a server without ranges, or with another file, sends all of it. */
async function firstByte(answer: Answer, download: Download, state: State): Promise<number> {
  const { status, headers } = answer
  const { url } = download
  if (passing.has(status)) throw new Error(`the server answers ${status}`)
  if (status === 404 || status === 410) throw new MoraineError('missing', 'the image is not there', { path: url })
  if (status === 416) throw changed(url, `it has not got ${state.at} bytes any more`)
  if (status !== 200 && status !== 206) throw new MoraineError('io', `the server answers ${status}`, { path: url })
  const coding = headers['content-encoding'] ?? 'identity'
  if (coding !== 'identity') throw new MoraineError('io', `the server sends it in the coding ${coding}`, { path: url })
  checkEtag(headers.etag, download, state)
  const { first, size } = extentOf(answer)
  if (first > state.at) throw new MoraineError('io', 'the server sends another range than was asked for', { path: url })
  if (size !== undefined) {
    if (state.total !== undefined && size !== state.total) {
      throw changed(url, `it has ${size} bytes, and should have ${state.total}`)
    }
    if (size > download.most) throw new MoraineError('limit', `it has more than ${download.most} bytes`, { path: url })
    state.total = size
    download.onSize?.(size)
  }
  return state.at - first
}

function checkEtag(etag: string | undefined, { url, onEtag }: Download, state: State): void {
  // A weak one says nothing about bytes.
  if (etag?.startsWith('"') !== true) return
  if (state.etag !== undefined && etag !== state.etag) throw changed(url, 'it is another file than before')
  state.etag = etag
  onEtag?.(etag)
}

function extentOf({ status, headers }: Answer): { first: number; size: number | undefined } {
  if (status === 200) {
    const length = headers['content-length']
    return { first: 0, size: length === undefined ? undefined : Number(length) }
  }
  const [, first, size] = /^bytes (\d+)-\d+\/(\d+|\*)$/.exec(headers['content-range'] ?? '') ?? []
  if (first === undefined) return { first: Number.POSITIVE_INFINITY, size: undefined }
  return { first: Number(first), size: size === '*' ? undefined : Number(size) }
}

function changed(url: string, why: string): ChangedFile {
  return new ChangedFile('corrupt', `the file is not the one of the catalogue: ${why}`, { path: url })
}

/** The bytes of an image in a folder.
 *  @throws MoraineError `missing`, `io` */
export async function* fileBytes(
  path: string,
  start: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  try {
    yield* createReadStream(path, { start, highWaterMark: 1024 * 1024, ...(signal === undefined ? {} : { signal }) })
  } catch (error) {
    if (signal?.aborted === true) throw cancelled(signal)
    const kind = (error as NodeJS.ErrnoException).code === 'ENOENT' ? 'missing' : 'io'
    throw new MoraineError(kind, `the image cannot be read: ${faultText(error)}`, { path, cause: error })
  }
}
