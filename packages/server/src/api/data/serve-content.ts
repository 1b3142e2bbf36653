/** Answers with content that is there as a whole: ranges, conditions and HEAD, as RFC 9110 has them. */
import type { ByteSource } from '@moraine/engine'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { HttpError } from '../http-error.ts'
import { readRange } from './range.ts'
import { copyRange, type Put, sendBytes } from './send-bytes.ts'

export interface Content {
  /** Bytes. */
  readonly size: number
  /** A strong validator, without quotes: the same tag means the same bytes. */
  readonly tag: string | undefined
  /** What else is said of it; errors do not say it. */
  readonly headers: Readonly<Record<string, string>>
  /** How long the client may take no byte. */
  readonly idleSeconds: number
  /** Opens it. The source is closed when all is sent. */
  open(): Promise<ByteSource>
  /** Gets what is sent, when all of it is; `end` is told whether it was all. */
  copy?(): Promise<{ write: Put; end(isWhole: boolean): Promise<void> } | undefined>
}

/** Sends the content, or as much of it as was asked for.
 *  @throws HttpError 400, 412 or 416. */
export async function serveContent(
  request: FastifyRequest,
  reply: FastifyReply,
  content: Content,
): Promise<FastifyReply> {
  const { headers } = request
  const { size, tag } = content
  const { 'if-match': ifMatch, 'if-none-match': ifNone, 'if-range': ifRange } = headers
  if (ifMatch !== undefined && !matches(ifMatch, tag, false)) throw new HttpError(412)
  if (tag !== undefined) reply.header('etag', `"${tag}"`)
  if (ifNone !== undefined && matches(ifNone, tag, true)) return reply.code(304).send()
  // A range of what it was before is of no use: then all of it comes.
  const isSame = ifRange === undefined || matches(String(ifRange), tag, false)
  const range = isSame ? readRange(headers, size) : undefined
  const { start, end } = range ?? { start: 0, end: size }
  reply.headers({ ...content.headers, 'accept-ranges': 'bytes', 'content-length': end - start })
  if (range !== undefined) reply.code(206).header('content-range', `bytes ${start}-${end - 1}/${size}`)
  if (request.method === 'HEAD') return reply.send()
  const source = await content.open()
  const copy = range === undefined ? await content.copy?.() : undefined
  let isWhole = false
  const send = async (put: Put) => {
    await copyRange(source, start, end, copy === undefined ? put : (bytes) => both(put, copy.write, bytes))
    isWhole = true
  }
  return sendBytes(content.idleSeconds, request, reply, send, async () => {
    await source.close()
    await copy?.end(isWhole)
  })
}

async function both(put: Put, copy: Put, bytes: Uint8Array): Promise<void> {
  const copying = copy(bytes)
  try {
    await put(bytes)
  } finally {
    await copying
  }
}

/** Whether a list of validators names this one. @param weak `W/"x"` counts as `"x"`. */
function matches(list: string, tag: string | undefined, weak: boolean): boolean {
  if (list.trim() === '*') return true
  return list.split(',').some((written) => {
    const one = written.trim()
    return one === `"${tag}"` || (weak && one === `W/"${tag}"`)
  })
}
