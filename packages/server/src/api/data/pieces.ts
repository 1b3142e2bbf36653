/** The pieces of a request's body, whose memory is given back at once when the next one is asked for. They come in 64 KiB, and the collector lets tens of MiB of them lie: it only
 *  sees the small objects that stand for them. */
import type { IncomingMessage } from 'node:http'

/** Smaller pieces may be parts of memory that others use. */
const ownBytes = 16 * 1024

/** The message is not destroyed when somebody stops asking. A piece must not be touched after the next one is asked for. */
export async function* piecesOf(message: IncomingMessage): AsyncGenerator<Uint8Array> {
  for await (const piece of message.iterator({ destroyOnReturn: false }) as AsyncIterable<Uint8Array>) {
    yield piece
    const { buffer, byteLength } = piece
    if (byteLength >= ownBytes && byteLength === buffer.byteLength && buffer instanceof ArrayBuffer) buffer.transfer(0)
  }
}
