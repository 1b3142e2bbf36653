/** Downloads that go on where they were cut off. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { WebAnswer, WebClient } from './client.ts'
import { WebRefused } from './gate.ts'

/** A download that failed for good; the text says why. */
export class DownloadError extends Error {}

/** What was fetched before is of no use: the server has another file now, does not give the rest of it, or says nothing by which to know that the rest is of the same file. */
export class CannotResume extends DownloadError {}

export interface DownloadOptions {
  client: Pick<WebClient, 'get'>
  url: string
  headers?: Record<string, string>
  /** How often in a row it is tried again without a byte in between. */
  retries: number
  /** The caller compares the whole with a digest that it knows: the rest may come from a server that says nothing to know the file by but its length. */
  isChecked?: boolean
  /** Of the first pause; each next one is twice as long. */
  pauseMilliseconds?: number
  signal: AbortSignal
  /** Goes on with what an earlier download of the same address has fetched. @throws CannotResume */
  from?: { at: number; version: FileVersion } | undefined
  /** Told what the server says about the file, when it begins at the first byte. */
  onVersion?(version: FileVersion): void
  /** Told the whole size, as soon as the server has said it. May throw to refuse. */
  onSize?(size: number): void
  /** Told of each time that it is tried again. */
  onRetry?(reason: string, at: number): void
}

/** What tells that the file is still the same one. */
export interface FileVersion {
  /** A strong one. */
  readonly etag?: string | undefined
  /** When it was changed last, where that tells two files apart. */
  readonly modified?: string | undefined
  /** Bytes. */
  readonly size?: number | undefined
}

/** Whether a later download can find out that it goes on with the same file. */
export function canGoOn({ etag, modified, size }: FileVersion): boolean {
  return size !== undefined && (etag !== undefined || modified !== undefined)
}

/** So long a pause precedes another try. @param failures In a row; at least 1. */
export function pauseBefore(failures: number, first = 500): number {
  return Math.min(first * 2 ** (failures - 1), longestPause)
}

const passing = new Set([408, 425, 429, 500, 502, 503, 504])
const longestPause = 30_000

/** The bytes at an address. When the connection breaks or ends early, the rest is asked for, as long as the server says that the file is the same.
 *  @throws WebRefused, DownloadError; CannotResume when all of it has to be fetched anew; the signal's reason. */
export async function* download(options: DownloadOptions): AsyncGenerator<Uint8Array> {
  const { signal, retries, pauseMilliseconds = 500 } = options
  let at = options.from?.at ?? 0
  let failures = 0
  let version = options.from?.version
  // Until the server has agreed that what was fetched before is of the same file.
  let isAgreed = at === 0
  if (version?.size !== undefined) options.onSize?.(version.size)
  if (at > 0 && at === version?.size) return
  for (;;) {
    let reason: string
    const before = at
    try {
      const answer = await ask(options, at, version)
      // Until the first byte has come, any file will do.
      if (version === undefined || at === 0) {
        version = versionOf(answer)
        options.onVersion?.(version)
        if (version.size !== undefined) options.onSize?.(version.size)
      } else if (!isSame(version, answer)) {
        discard(answer)
        throw new DownloadError('the file changed while it was downloaded')
      }
      isAgreed = true
      // A server that knows no ranges begins anew.
      let skip = answer.status === 206 ? 0 : at
      for await (const chunk of answer.body as AsyncIterable<Uint8Array>) {
        const fresh = skip >= chunk.length ? undefined : chunk.subarray(skip)
        skip -= Math.min(skip, chunk.length)
        if (fresh === undefined) continue
        at += fresh.length
        if (version.size !== undefined && at > version.size)
          throw new DownloadError(`more came than the ${version.size} bytes that the server announced`)
        yield fresh
      }
      if (version.size === undefined || at === version.size) return
      reason = `it ended after ${at} of ${version.size} bytes`
    } catch (error) {
      if (signal.aborted) throw signal.reason
      if (!isAgreed && error instanceof DownloadError) throw new CannotResume(error.message, { cause: error })
      if (error instanceof WebRefused || error instanceof DownloadError) throw error
      const cause = refusalIn(error)
      if (cause !== undefined) throw cause
      reason = error instanceof TryAgain ? error.message : `the connection failed: ${textOf(error)}`
    }
    // What came could be of one file, and the rest of another.
    if (at > 0 && version !== undefined && !canGoOn(version) && !(options.isChecked && version.size !== undefined)) {
      if (retries === 0) throw new DownloadError(reason)
      throw new CannotResume(`${reason}, and the server says nothing to know the rest by`)
    }
    failures = at > before ? 1 : failures + 1
    if (failures > retries) {
      const tried = `${reason}; tried ${failures} times`
      throw isAgreed ? new DownloadError(tried) : new CannotResume(tried)
    }
    options.onRetry?.(reason, at)
    await sleep(pauseBefore(failures, pauseMilliseconds), undefined, { signal }).catch(() => {
      throw signal.reason
    })
  }
}

class TryAgain extends Error {}

async function ask(
  { client, url, headers = {}, signal }: DownloadOptions,
  at: number,
  version: FileVersion | undefined,
): Promise<WebAnswer> {
  const condition = version?.etag ?? version?.modified
  const range: Record<string, string> =
    at === 0 ? {} : { range: `bytes=${at}-`, ...(condition === undefined ? {} : { 'if-range': condition }) }
  const answer = await client.get(url, { ...headers, ...range }, signal)
  const { status } = answer
  const isRange = status === 206 && at > 0 && rangeStart(answer) === at
  if ((status === 200 || isRange) && isPlain(answer)) return answer
  discard(answer)
  if (passing.has(status)) throw new TryAgain(`the server answered ${status}`)
  if (!isPlain(answer))
    throw new DownloadError(`the server sends it in a coding of its own: ${String(answer.headers['content-encoding'])}`)
  if (status === 206) throw new DownloadError('the server sent another range than the one asked for')
  throw new DownloadError(`the server answered ${status}`)
}

function discard({ body }: WebAnswer): void {
  body.on('error', () => {}).destroy()
}

function isSame(first: FileVersion, answer: WebAnswer): boolean {
  const now = versionOf(answer)
  const modified = text(answer.headers['last-modified'])
  // A part that was asked for with `If-Range` need not say it again. Source: RFC 9110, 15.3.7.
  const isSilent = modified === undefined && answer.status === 206
  return (
    first.size === now.size &&
    (first.etag === undefined || first.etag === now.etag) &&
    (first.modified === undefined || first.modified === modified || isSilent)
  )
}

/** A file may change twice in the second that `Last-Modified` names; it tells files apart only when that was over. Source: RFC 9110, 8.8.2.2. */
function strongDate(headers: WebAnswer['headers']): string | undefined {
  const modified = text(headers['last-modified'])
  const [then, now] = [Date.parse(modified ?? ''), Date.parse(text(headers.date) ?? '')]
  return now - then >= 1000 ? modified : undefined
}

function versionOf({ status, headers }: WebAnswer): FileVersion {
  const total =
    status === 206 ? /\/(\d+)$/.exec(text(headers['content-range']) ?? '')?.[1] : text(headers['content-length'])
  const size = total === undefined ? undefined : Number(total)
  const etag = text(headers.etag)
  return {
    // A weak one does not say that the bytes are the same.
    etag: etag?.startsWith('"') ? etag : undefined,
    modified: strongDate(headers),
    size: size !== undefined && Number.isSafeInteger(size) ? size : undefined,
  }
}

function rangeStart({ headers }: WebAnswer): number {
  return Number(/^bytes (\d+)-/.exec(text(headers['content-range']) ?? '')?.[1] ?? -1)
}

function isPlain({ headers }: WebAnswer): boolean {
  const coding = text(headers['content-encoding'])
  return coding === undefined || coding === 'identity'
}

function text(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value
}

/** The gate's refusal, wherever the connection has put it. */
function refusalIn(error: unknown): WebRefused | undefined {
  for (let at = error; at instanceof Error; at = at.cause) {
    if (at instanceof WebRefused) return at
    if (at instanceof AggregateError) return at.errors.map(refusalIn).find((found) => found !== undefined)
  }
  return undefined
}

function textOf(error: unknown): string {
  const { code, message } = error as Error & { code?: string }
  return message === '' || message === undefined ? String(code) : message
}
