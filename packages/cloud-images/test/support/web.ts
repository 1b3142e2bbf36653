/** A web server over a folder, as good or as bad as the test wants it: ranges, ETags and lists of folders, and on request redirects, cut connections, wrong lengths, errors and slowness. */

import { readdir, readFile, stat } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { join, normalize } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Get } from '../../src/mirror.ts'

/** What happens to requests of one path. */
export interface Fault {
  /** How many requests it happens to; default: all. */
  times?: number
  /** Answered instead. */
  status?: number
  /** Where to, with the status (default 302). */
  location?: string
  /** Bytes of the body after which the connection is cut. */
  cutAfter?: number
  /** Added to the length that is announced. */
  lengthOff?: number
  /** Bytes that are sent in place of the file's. */
  data?: Uint8Array
  /** Ranges are not known. */
  whole?: boolean
  etag?: string
  /** Pause between pieces. */
  milliseconds?: number
  /** The body comes when this is fulfilled. */
  until?: Promise<void>
}

export interface Web {
  /** Without `/` at its end. */
  readonly url: string
  readonly faults: Map<string, Fault>
  /** Each as `GET /path`, with the range that was asked for. */
  readonly requests: string[]
  close(): Promise<void>
}

/** Serves a folder on a free port of loopback. */
export async function serveFolder(folder: string): Promise<Web> {
  const faults = new Map<string, Fault>()
  const requests: string[] = []
  const server = createServer((request, response) => {
    answer(folder, faults, requests, request, response).catch(() => response.destroy())
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  const port = typeof address === 'object' ? address?.port : ''
  return {
    url: `http://127.0.0.1:${port}`,
    faults,
    requests,
    async close() {
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

function faultOf(faults: Map<string, Fault>, path: string): Fault {
  const fault = faults.get(path)
  if (fault === undefined) return {}
  if (fault.times === undefined) return fault
  if (fault.times <= 0) return {}
  faults.set(path, { ...fault, times: fault.times - 1 })
  return fault
}

async function answer(
  folder: string,
  faults: Map<string, Fault>,
  requests: string[],
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const path = decodeURIComponent(new URL(request.url ?? '/', 'http://localhost').pathname)
  const { range } = request.headers
  requests.push(`${request.method} ${path}${range === undefined ? '' : ` ${range}`}`)
  const fault = faultOf(faults, path)
  if (fault.location !== undefined) {
    response.writeHead(fault.status ?? 302, { location: fault.location }).end()
    return
  }
  if (fault.status !== undefined) {
    response.writeHead(fault.status).end('no\n')
    return
  }
  const file = join(folder, normalize(path))
  const found = await stat(file).catch(() => undefined)
  if (found?.isDirectory()) return listFolder(file, response)
  if (found === undefined && fault.data === undefined) {
    response.writeHead(404).end('not here\n')
    return
  }
  const data = fault.data ?? (await readFile(file))
  const etag = fault.etag ?? `"${data.length}-${Math.floor(found?.mtimeMs ?? 0)}"`
  await send(request, response, data, etag, fault)
}

async function listFolder(folder: string, response: ServerResponse): Promise<void> {
  const entries = await readdir(folder, { withFileTypes: true })
  const links = entries.map((entry) => {
    const name = `${entry.name}${entry.isDirectory() ? '/' : ''}`
    return `<tr><td><a href="${encodeURIComponent(entry.name)}${entry.isDirectory() ? '/' : ''}">${name}</a></td></tr>`
  })
  response.writeHead(200, { 'content-type': 'text/html;charset=UTF-8' })
  response.end(
    `<html><body><table><a href="?C=N;O=D">Name</a><a href="/">Parent Directory</a>${links.join('\n')}</table></body></html>`,
  )
}

async function send(
  request: IncomingMessage,
  response: ServerResponse,
  data: Uint8Array,
  etag: string,
  { whole = false, cutAfter = Infinity, lengthOff = 0, milliseconds = 0, until }: Fault,
): Promise<void> {
  const [, first] = /^bytes=(\d+)-$/.exec(request.headers.range ?? '') ?? []
  const condition = request.headers['if-range']
  const isPart = first !== undefined && !whole && (condition === undefined || condition === etag)
  const start = isPart ? Number(first) : 0
  if (start >= data.length && isPart) {
    response.writeHead(416, { 'content-range': `bytes */${data.length}` }).end()
    return
  }
  response.writeHead(isPart ? 206 : 200, {
    etag,
    'content-length': data.length - start + lengthOff,
    ...(isPart ? { 'content-range': `bytes ${start}-${data.length - 1}/${data.length}` } : {}),
  })
  response.flushHeaders()
  await until
  for (let at = start; at < data.length; ) {
    const end = Math.min(at + 16_384, data.length, start + cutAfter)
    await new Promise((resolve) => response.write(data.subarray(at, end), resolve))
    at = end
    if (at - start >= cutAfter && at < data.length) {
      response.destroy()
      return
    }
    if (milliseconds > 0) await sleep(milliseconds)
  }
  if (lengthOff > 0) response.destroy()
  else response.end()
}

/** GET by fetch, for tests that do not look at how the command or the service send requests. */
export const fetchGet: Get = async (url, headers, signal) => {
  const response = await fetch(url, { headers, ...(signal === undefined ? {} : { signal }) })
  return {
    status: response.status,
    headers: Object.fromEntries(response.headers),
    body: (response.body ?? new ReadableStream()) as unknown as AsyncIterable<Uint8Array>,
    discard: async () => {
      await response.body?.cancel()
    },
  }
}
