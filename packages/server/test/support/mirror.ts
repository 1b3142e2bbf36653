/** A web server for tests, as good or as bad as the test wants it. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll } from 'vitest'

export interface MirrorFile {
  data: Uint8Array
  etag?: string
  /** When it was changed last, as HTTP writes it. */
  modified?: string
  /** Bytes after which the connection is cut, each time. */
  cutAfter?: number
  /** Ranges are not known. */
  whole?: boolean
  /** Pause between pieces. */
  milliseconds?: number
  /** Instead of all this. */
  answer?(request: IncomingMessage, response: ServerResponse): void
}

export interface Mirror {
  url: string
  files: Map<string, MirrorFile>
  /** Each as `GET /path`, with the range that was asked for. */
  requests: string[]
}

/** Starts a mirror; it ends with the tests of the file. */
export async function startMirror(): Promise<Mirror> {
  const mirror: Mirror = { url: '', files: new Map(), requests: [] }
  const server = createServer(
    (request, response) => void answer(mirror, request, response).catch(() => response.destroy()),
  )
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  mirror.url = `http://127.0.0.1:${typeof address === 'object' ? address?.port : ''}`
  afterAll(() => {
    server.closeAllConnections()
    server.close()
  })
  return mirror
}

async function answer({ files, requests }: Mirror, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const { range } = request.headers
  requests.push(`${request.method} ${request.url}${range === undefined ? '' : ` ${range}`}`)
  const file = files.get(request.url ?? '')
  if (file?.answer !== undefined) return file.answer(request, response)
  if (file === undefined) {
    response.writeHead(404).end()
    return
  }
  const { data, etag, modified, cutAfter = Infinity, whole = false, milliseconds = 0 } = file
  const [, first = 0, last] = /^bytes=(\d+)-(\d*)$/.exec(range ?? '') ?? []
  const condition = request.headers['if-range']
  const isSame = condition === undefined || condition === etag || condition === modified
  const isPart = range !== undefined && !whole && isSame
  const start = isPart ? Number(first) : 0
  const stop = isPart && last ? Math.min(Number(last) + 1, data.length) : data.length
  if (etag !== undefined) response.setHeader('etag', etag)
  if (modified !== undefined) response.setHeader('last-modified', modified)
  response.setHeader('content-length', stop - start)
  if (isPart) response.setHeader('content-range', `bytes ${start}-${stop - 1}/${data.length}`)
  response.writeHead(isPart ? 206 : 200)
  if (request.method === 'HEAD') {
    response.end()
    return
  }
  for (let at = start; at < stop; ) {
    const end = Math.min(at + 65_536, stop, start + cutAfter)
    await new Promise((resolve) => response.write(data.subarray(at, end), resolve))
    at = end
    if (at - start >= cutAfter && at < stop) {
      response.destroy()
      return
    }
    if (milliseconds > 0) await sleep(milliseconds)
  }
  response.end()
}
