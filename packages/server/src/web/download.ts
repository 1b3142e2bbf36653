/** Downloads that go on where they were cut off. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { WebAnswer, WebClient } from './client.ts'
import { WebRefused } from './gate.ts'

/** A download that failed for good; the text says why. */
export class DownloadError extends Error {}

export interface DownloadOptions {
  client: Pick<WebClient, 'get'>
  url: string
  headers?: Record<string, string>
  /** How often in a row it is tried again without a byte in between. */
  retries: number
  /** Of the first pause; each next one is twice as long. */
  pauseMilliseconds?: number
  signal: AbortSignal
  /** Told the whole size, as soon as the server has said it. May throw to refuse. */
  onSize?(size: number): void
  /** Told of each time that it is tried again. */
  onRetry?(reason: string, at: number): void
}

/** What tells that the file is still the same one. */
interface Version {
  etag: string | undefined
  modified: string | undefined
  size: number | undefined
}

const passing = new Set([408, 425, 429, 500, 502, 503, 504])
const longestPause = 30_000

/** The bytes at an address. When the connection breaks or ends early, the rest is asked for, as long as the server says that the file is the same.
 *  @throws WebRefused, DownloadError; the signal's reason. */
export async function* download(options: DownloadOptions): AsyncGenerator<Uint8Array> {
  const { signal, retries, pauseMilliseconds = 500 } = options
  let at = 0
  let failures = 0
  let version: Version | undefined
  for (;;) {
    let reason: string
    const before = at
    try {
      const answer = await ask(options, at, version)
      const seen = versionOf(answer)
      if (version === undefined) {
        version = seen
        if (seen.size !== undefined) options.onSize?.(seen.size)
      } else check(version, seen)
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
      if (error instanceof WebRefused || error instanceof DownloadError) throw error
      const cause = refusalIn(error)
      if (cause !== undefined) throw cause
      reason = error instanceof TryAgain ? error.message : `the connection failed: ${textOf(error)}`
      if (at > 0 && version !== undefined && version.size === undefined) {
        throw new DownloadError(`${reason}, and the server did not say how long the file is`)
      }
    }
    failures = at > before ? 1 : failures + 1
    if (failures > retries) throw new DownloadError(`${reason}; tried ${failures} times`)
    options.onRetry?.(reason, at)
    await sleep(Math.min(pauseMilliseconds * 2 ** (failures - 1), longestPause), undefined, { signal }).catch(() => {
      throw signal.reason
    })
  }
}

class TryAgain extends Error {}

async function ask(
  { client, url, headers = {}, signal }: DownloadOptions,
  at: number,
  version: Version | undefined,
): Promise<WebAnswer> {
  const condition = version?.etag ?? version?.modified
  const range: Record<string, string> =
    at === 0 ? {} : { range: `bytes=${at}-`, ...(condition === undefined ? {} : { 'if-range': condition }) }
  const answer = await client.get(url, { ...headers, ...range }, signal)
  const { status } = answer
  const isRange = status === 206 && at > 0 && rangeStart(answer) === at
  if ((status === 200 || isRange) && isPlain(answer)) return answer
  answer.body.on('error', () => {}).destroy()
  if (passing.has(status)) throw new TryAgain(`the server answered ${status}`)
  if (!isPlain(answer))
    throw new DownloadError(`the server sends it in a coding of its own: ${String(answer.headers['content-encoding'])}`)
  if (status === 206) throw new DownloadError('the server sent another range than the one asked for')
  throw new DownloadError(`the server answered ${status}`)
}

function check(first: Version, now: Version): void {
  const isSame =
    first.size === now.size &&
    (first.etag === undefined || first.etag === now.etag) &&
    (first.modified === undefined || first.modified === now.modified)
  if (!isSame) throw new DownloadError('the file changed while it was downloaded')
}

function versionOf({ status, headers }: WebAnswer): Version {
  const total =
    status === 206 ? /\/(\d+)$/.exec(text(headers['content-range']) ?? '')?.[1] : text(headers['content-length'])
  const size = total === undefined ? undefined : Number(total)
  const etag = text(headers.etag)
  return {
    // A weak one does not say that the bytes are the same.
    etag: etag?.startsWith('"') ? etag : undefined,
    modified: text(headers['last-modified']),
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
