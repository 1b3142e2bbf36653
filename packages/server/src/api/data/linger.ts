/** Refusing an upload that is still on its way. Most clients send all of it before they read the answer, and lose the answer when the connection is
 *  closed under them. So the answer goes out at once, and a bounded part of the rest is read and dropped before the connection ends. */
import type { FastifyReply, FastifyRequest } from 'fastify'
import { type HttpError, renderError } from '../http-error.ts'

const mostMilliseconds = 30_000

/** Requests whose client waits for "100 Continue" before it sends the body. */
const waiting = new WeakSet<object>()

/** Notes that a client waits for permission. */
export function markWaiting(message: object): void {
  waiting.add(message)
}

/** Lets a waiting client send its body; nothing happens for others. */
export function letContinue(request: FastifyRequest, reply: FastifyReply): void {
  if (!waiting.delete(request.raw)) return
  reply.raw.writeContinue()
}

/** Sends the error and ends the connection. @param drainBytes Most bytes of the body that are still read. */
export async function answerAndDrain(
  request: FastifyRequest,
  reply: FastifyReply,
  error: HttpError,
  drainBytes: number,
): Promise<void> {
  const { type, body } = renderError(error, request.headers.accept)
  const message = request.raw
  const answer = reply.raw
  reply.hijack()
  if (answer.destroyed) return
  answer.writeHead(error.status, {
    ...(reply.getHeaders() as Record<string, string>),
    ...error.headers,
    'content-type': type,
    'content-length': Buffer.byteLength(body),
    connection: 'close',
  })
  answer.write(body)
  if (!waiting.has(message)) await drain(message, drainBytes)
  answer.end()
}

function drain(message: FastifyRequest['raw'], most: number): Promise<void> {
  return new Promise((resolve) => {
    let read = 0
    const onData = (chunk: Buffer) => {
      read += chunk.length
      if (read > most) done()
    }
    const done = () => {
      clearTimeout(timer)
      message.off('data', onData).off('end', done).off('close', done)
      message.pause()
      resolve()
    }
    const timer = setTimeout(done, mostMilliseconds)
    if (message.complete || message.destroyed) return done()
    message
      .on('data', onData)
      .on('end', done)
      .on('close', done)
      .on('error', () => {})
    message.resume()
  })
}
