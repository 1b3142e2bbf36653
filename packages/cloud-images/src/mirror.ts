/** Where a catalogue is read from: a publisher's server, a mirror of it, or a copy in a folder. How requests are made is the caller's affair (proxies, certificates, which hosts may be asked). */
import { open, readdir, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { isMoraineError, MoraineError } from '@moraine/engine'

/** What a server answered, redirects followed. The body must be read or discarded. */
export interface Answer {
  readonly status: number
  /** Names in lower case. */
  readonly headers: Readonly<Record<string, string | undefined>>
  readonly body: AsyncIterable<Uint8Array>
  discard(): Promise<void>
}

/** Sends a GET and follows redirects as far as the caller allows. What it throws and is no MoraineError counts as a fault that may pass. */
export type Get = (url: string, headers: Readonly<Record<string, string>>, signal?: AbortSignal) => Promise<Answer>

/** A copy of a catalogue. Paths are relative to its base and were checked. */
export interface Mirror {
  /** URL or folder, with `/` at its end. */
  readonly base: string
  /** How to fetch from it; undefined for a folder. */
  readonly get: Get | undefined
  /** A file of at most `most` bytes; undefined when there is none.
   *  @throws MoraineError `limit`, `io`, `denied`, `cancelled` */
  read(path: string, most: number, signal?: AbortSignal): Promise<Uint8Array | undefined>
  /** Names in a folder, without `/` at their ends, in no order; none when it is not there or cannot be listed. */
  list(path: string, signal?: AbortSignal): Promise<string[]>
  /** Address or path of a file. */
  place(path: string): string
}

/** How often and how long a request is tried that fails in passing. */
export interface Patience {
  /** Attempts in a row that bring nothing. */
  readonly attempts: number
  /** Of the first pause; each next one is twice as long. */
  readonly pauseMilliseconds: number
}

/** Six attempts in a bit more than six seconds. */
export const usualPatience: Patience = { attempts: 6, pauseMilliseconds: 200 }

/** Statuses that may be others a moment later. */
export const passing: ReadonlySet<number> = new Set([408, 425, 429, 500, 502, 503, 504])

/** Most pages of a folder's list that anybody serves. */
const mostListBytes = 8 * 1024 * 1024

/** The mirror at a URL or in a folder.
 *  @throws MoraineError `invalid` for an address of another kind */
export function openMirror(place: string, get: Get, patience = usualPatience): Mirror {
  if (/^https?:\/\//i.test(place)) return webMirror(place, get, patience)
  if (/^file:\/\//i.test(place)) return folderMirror(fileURLToPath(place))
  if (/^[a-z][a-z0-9+.-]*:\/\//i.test(place)) {
    throw new MoraineError('invalid', 'a mirror is a folder, or an address of http or https', { path: place })
  }
  return folderMirror(place)
}

function webMirror(place: string, get: Get, patience: Patience): Mirror {
  const url = URL.parse(place)
  if (url === null) throw new MoraineError('invalid', 'this is no address', { path: place })
  if (!url.pathname.endsWith('/')) url.pathname += '/'
  const base = url.href
  const read: Mirror['read'] = (path, most, signal) => readUrl(get, new URL(path, base).href, most, patience, signal)
  return {
    base,
    get,
    read,
    async list(path, signal) {
      const page = await read(path, mostListBytes, signal)
      return page === undefined ? [] : namesIn(new TextDecoder().decode(page))
    },
    place: (path) => new URL(path, base).href,
  }
}

/** What the lists that web servers make link to: Apache's, nginx's and others' are all links to the name itself. */
function namesIn(page: string): string[] {
  const names = [...page.matchAll(/<a\s[^<>]*?href\s*=\s*["']?([^"'\s>?#]+)/gi)].map(([, href = '']) => {
    try {
      return decodeURIComponent(href.replace(/^\.\//, '').replace(/\/$/, ''))
    } catch {
      return ''
    }
  })
  return [...new Set(names.filter((name) => /^[\w.+~:-]+$/.test(name) && !/^\.+$/.test(name)))]
}

async function readUrl(
  get: Get,
  url: string,
  most: number,
  patience: Patience,
  signal: AbortSignal | undefined,
): Promise<Uint8Array | undefined> {
  for (let failures = 0; ; ) {
    try {
      const answer = await get(url, { accept: '*/*' }, signal)
      const { status } = answer
      if (status === 200) return await readBody(answer, url, most)
      await answer.discard()
      if (status === 404 || status === 410) return undefined
      const failure = new MoraineError('io', `the server answers ${status}`, { path: url })
      if (!passing.has(status) || ++failures >= patience.attempts) throw failure
    } catch (error) {
      failures = passFault(error, url, ++failures, patience, signal)
    }
    await pause(patience.pauseMilliseconds * 2 ** (failures - 1), signal)
  }
}

/** What may pass, as long as there is patience; anything else is thrown. */
function passFault(
  error: unknown,
  url: string,
  failures: number,
  patience: Patience,
  signal: AbortSignal | undefined,
): number {
  if (signal?.aborted === true) throw cancelled(signal)
  if (isMoraineError(error)) throw error
  if (failures < patience.attempts) return failures
  throw new MoraineError('io', `it cannot be fetched: ${faultText(error)}`, { path: url, cause: error })
}

/** The text of a fault, which some runtimes leave to the code or the cause. */
export function faultText(error: unknown): string {
  const { message, code, cause } = error as { message?: string; code?: string; cause?: unknown }
  if (message !== undefined && message !== '') return message
  return code ?? (cause === undefined ? String(error) : faultText(cause))
}

async function readBody(answer: Answer, url: string, most: number): Promise<Uint8Array> {
  const tooLarge = () => new MoraineError('limit', `it is larger than ${most} bytes`, { path: url })
  const announced = Number(answer.headers['content-length'] ?? Number.NaN)
  if (announced > most) {
    await answer.discard()
    throw tooLarge()
  }
  const pieces: Uint8Array[] = []
  let length = 0
  for await (const piece of answer.body) {
    length += piece.length
    if (length > most) throw tooLarge()
    pieces.push(Uint8Array.from(piece))
  }
  const coding = answer.headers['content-encoding'] ?? 'identity'
  if (coding !== 'identity') throw new MoraineError('io', `the server sends it in the coding ${coding}`, { path: url })
  if (length < announced) throw new Error(`it ended after ${length} of ${announced} bytes`)
  return Buffer.concat(pieces)
}

/** @throws MoraineError `cancelled` */
export async function pause(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  await sleep(Math.min(milliseconds, 30_000), undefined, signal === undefined ? {} : { signal }).catch(() => {
    throw cancelled(signal)
  })
}

/** What a caller's signal makes of an operation. */
export function cancelled(signal: AbortSignal | undefined): MoraineError {
  return new MoraineError('cancelled', 'the operation was cancelled', { cause: signal?.reason })
}

function folderMirror(folder: string): Mirror {
  const base = `${resolve(folder)}/`.replace(/\/\/$/, '/')
  const place = (path: string) => join(base, path)
  return {
    base,
    get: undefined,
    place,
    async read(path, most) {
      const file = place(path)
      try {
        const handle = await open(file, 'r')
        try {
          const { size } = await handle.stat()
          if (size > most) throw new MoraineError('limit', `it is larger than ${most} bytes`, { path: file })
          return await handle.readFile()
        } finally {
          await handle.close()
        }
      } catch (error) {
        if (isAbsent(error)) {
          if ((await stat(base).catch(() => undefined))?.isDirectory() === true) return undefined
          throw new MoraineError('missing', 'there is no such folder', { path: folder, cause: error })
        }
        if (isMoraineError(error)) throw error
        throw new MoraineError('io', `it cannot be read: ${faultText(error)}`, { path: file, cause: error })
      }
    },
    async list(path) {
      return await readdir(place(path)).catch((error: unknown) => {
        if (isAbsent(error)) return []
        throw new MoraineError('io', `it cannot be listed: ${faultText(error)}`, { path: place(path), cause: error })
      })
    },
  }
}

function isAbsent(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException
  return code === 'ENOENT' || code === 'ENOTDIR' || code === 'EISDIR'
}
