/** Sends a body whose bytes come from a disk: never more in memory than the socket has taken, and nothing goes on when the client has gone. */
import type { ServerResponse } from 'node:http'
import type { ByteSource, Extent } from '@moraine/engine'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { borrowBuffer, bufferBytes, bufferSizeAmong, giveBackBuffer } from '../../store/buffers.ts'

/** Hands bytes to the connection; they may be overwritten once this resolves. */
export type Put = (bytes: Uint8Array) => Promise<void>

let bodies = 0

/** The client went away: the rest of the body has nobody to go to. */
class Gone extends Error {}

/** Sends status and headers of `reply`, then what `produce` puts. A failure after that can only be shown by ending the connection early.
 *  @param idleSeconds How long the client may take no byte.
 *  @param finish Called when all is over, however it ended. */
export async function sendBytes(
  idleSeconds: number,
  request: FastifyRequest,
  reply: FastifyReply,
  produce: (put: Put, signal: AbortSignal) => Promise<void>,
  finish: () => Promise<void>,
): Promise<FastifyReply> {
  const response = reply.raw
  const gone = new AbortController()
  const onClose = () => gone.abort(new Gone('the client went away'))
  reply.hijack()
  response.on('close', onClose)
  try {
    if (response.destroyed) return reply
    response.writeHead(reply.statusCode, reply.getHeaders() as Record<string, string>)
    const put: Put = async (bytes) => {
      const tooSlow = () => response.destroy()
      const idle = setTimeout(tooSlow, idleSeconds * 1000)
      await write(response, bytes, gone.signal).finally(() => clearTimeout(idle))
    }
    await produce(put, gone.signal)
    response.off('close', onClose)
    response.end()
  } catch (error) {
    if (!gone.signal.aborted) request.log.error({ err: error }, 'the body broke off')
    response.destroy()
  } finally {
    await finish()
  }
  return reply
}

function write(response: ServerResponse, bytes: Uint8Array, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason)
    const onGone = () => reject(signal.reason)
    signal.addEventListener('abort', onGone)
    response.write(bytes, (error) => {
      signal.removeEventListener('abort', onGone)
      if (error) reject(error)
      else resolve()
    })
  })
}

/** Puts the bytes from `start` up to `end`: one buffer is read while the other is sent. */
export async function copyRange(source: ByteSource, start: number, end: number, put: Put): Promise<void> {
  bodies++
  try {
    const size = bufferSizeAmong(bodies)
    if (end - start <= size / 8) return await copyBy([new SharedArrayBuffer(end - start)], source, start, end, put)
    const memory = end - start <= size ? [borrowBuffer(size)] : [borrowBuffer(size), borrowBuffer(size)]
    await copyBy(memory, source, start, end, put)
    // After a failure somebody may still read from them.
    for (const buffer of memory) giveBackBuffer(buffer)
  } finally {
    bodies--
  }
}

async function copyBy(
  memory: readonly SharedArrayBuffer[],
  source: ByteSource,
  start: number,
  end: number,
  put: Put,
): Promise<void> {
  const buffers = memory.map((buffer) => new Uint8Array(buffer))
  const size = buffers[0]?.length ?? 0
  let sending: Promise<void> = Promise.resolve()
  for await (const { offset, length, zero } of runs(source, start, end)) {
    for (let at = offset; at < offset + length; at += size) {
      const count = Math.min(size, offset + length - at)
      // The one that was not sent last.
      const buffer = zero ? undefined : buffers.shift()
      const piece = (buffer ?? zeros).subarray(0, count)
      try {
        if (!zero) await source.read(at, piece)
      } finally {
        await sending
      }
      if (buffer !== undefined) buffers.push(buffer)
      sending = put(piece)
      sending.catch(() => {}) // Looked at in its turn.
    }
  }
  await sending
}

const zeros = Buffer.alloc(bufferBytes)

/** What lies in a range: data, and holes, which need not be read. What a kernel makes up for a hole costs as much as data, and fills its memory with zeros. */
async function* runs(
  source: ByteSource,
  start: number,
  end: number,
): AsyncGenerator<Pick<Extent, 'offset' | 'length' | 'zero'>> {
  if (end - start <= bufferBytes) {
    yield { offset: start, length: end - start, zero: false }
    return
  }
  for await (const batch of source.extents(start, end - start)) yield* batch
}
