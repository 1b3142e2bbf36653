/** A server of one resource for tests, with the manners of servers in the wild. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'

/** How the server behaves; may be changed between requests. */
export interface Manners {
  content: Uint8Array
  /** Answers HEAD with this status instead. */
  headStatus?: number
  /** HEAD tells no length. */
  headWithoutLength?: boolean
  /** Ranges are ignored: always 200 with everything. */
  noRanges?: boolean
  /** It even says so. */
  saysNoRanges?: boolean
  etag?: string
  modified?: string
  /** Answers 206 with the range moved by this many bytes. */
  shift?: number
  /** The next answers to GET break off after this many bytes of body, each one once. */
  breakAfter?: number[]
  /** The next answers to GET are these statuses, each one once. */
  statuses?: number[]
  /** Answers to GET hang before the body. */
  hang?: boolean
  /** Compresses in name only: says `Content-Encoding: gzip` on HEAD. */
  headSaysGzip?: boolean
}

/** A request that came. */
export interface Seen {
  method: string
  range: string | undefined
  authorization: string | undefined
}

/** A running server. */
export interface TestServer {
  url: string
  manners: Manners
  seen: Seen[]
  /** Bytes of bodies handed to the sockets. */
  sent: () => number
  close(): Promise<void>
}

/** Starts a server on a free port of the loopback. */
export async function serve(manners: Manners): Promise<TestServer> {
  const seen: Seen[] = []
  const state = { manners, seen, sent: 0 }
  const server: Server = createServer((request, response) => answer(request, response, state))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/disk.img`,
    manners,
    seen,
    sent: () => state.sent,
    close: () =>
      new Promise((resolve) => {
        server.closeAllConnections()
        server.close(() => resolve())
      }),
  }
}

function answer(
  request: IncomingMessage,
  response: ServerResponse,
  state: { manners: Manners; seen: Seen[]; sent: number },
): void {
  const { manners } = state
  const method = request.method ?? ''
  state.seen.push({ method, range: request.headers.range, authorization: request.headers.authorization })
  if (manners.etag !== undefined) response.setHeader('etag', manners.etag)
  if (manners.modified !== undefined) response.setHeader('last-modified', manners.modified)
  if (manners.saysNoRanges === true) response.setHeader('accept-ranges', 'none')
  if (method === 'HEAD') {
    if (manners.headSaysGzip === true) response.setHeader('content-encoding', 'gzip')
    if (manners.headWithoutLength !== true) {
      response.setHeader('content-length', manners.headSaysGzip === true ? 123 : manners.content.length)
    }
    response.writeHead(manners.headStatus ?? 200).end()
    return
  }
  const status = manners.statuses?.shift()
  if (status !== undefined) {
    response.writeHead(status).end('no')
    return
  }
  const match = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '')
  let body = manners.content
  if (match !== null && manners.noRanges !== true) {
    const start = Number(match[1])
    if (start >= body.length) {
      response.writeHead(416, { 'content-range': `bytes */${body.length}` }).end()
      return
    }
    const stop = Math.min(body.length, Number(match[2]) + 1)
    const shift = manners.shift ?? 0
    response.setHeader('content-range', `bytes ${start + shift}-${stop - 1 + shift}/${body.length}`)
    body = body.subarray(start, stop)
    response.writeHead(206, { 'content-length': body.length })
  } else response.writeHead(200, { 'content-length': body.length })
  if (manners.hang === true) {
    response.flushHeaders()
    return
  }
  const breakAfter = manners.breakAfter?.shift()
  if (breakAfter !== undefined) {
    response.write(body.subarray(0, breakAfter), () => setTimeout(() => response.destroy(), 20))
    return
  }
  let at = 0
  const more = () => {
    while (at < body.length) {
      const chunk = body.subarray(at, at + 65536)
      at += chunk.length
      state.sent += chunk.length
      if (!response.write(chunk)) {
        response.once('drain', more)
        return
      }
    }
    response.end()
  }
  more()
}
