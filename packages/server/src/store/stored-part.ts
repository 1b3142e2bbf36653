/** Going on with data of which a part is stored: that part passes by once more, for digests and looks, and is not written again. */
import type { StoreUpload } from './store.ts'

const readBytes = 1024 * 1024

/** The same upload, to be given everything from the first byte: what is stored already is passed over. @param received Bytes that are stored. */
export function passingOver(store: StoreUpload, received: number): StoreUpload {
  let passed = 0
  return {
    async write(bytes) {
      const skip = Math.min(bytes.length, received - passed)
      passed += skip
      if (skip < bytes.length) await store.write(bytes.subarray(skip))
    },
    read: () => store.read(),
    commit: () => store.commit(),
    abort: () => store.abort(),
  }
}

/** What is stored of an upload, then the rest. */
export async function* wholeBody(
  store: StoreUpload,
  received: number,
  rest: AsyncIterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  if (received > 0) {
    const source = await store.read()
    try {
      for (let at = 0; at < received; at += readBytes) {
        const piece = Buffer.allocUnsafe(Math.min(readBytes, received - at))
        await source.read(at, piece)
        yield piece
      }
    } finally {
      await source.close()
    }
  }
  yield* rest
}
