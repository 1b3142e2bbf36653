/** Codecs and workers of a browser. */
import { bzip2Stream } from '../../codec/bzip2-stream.ts'
import { lz4Stream } from '../../codec/lz4-stream.ts'
import { portableCodecs } from '../../codec/portable.ts'
import { type Codecs, MoraineError, type StreamCodecs } from '../../core/index.ts'
import type { WorkerPool } from '../worker-pool.ts'

/** What a browser unpacks with: the engine's own decoders (its `DecompressionStream` is asynchronous, refuses what follows a stream, and knows no zstd). */
export const defaultCodecs: Codecs = portableCodecs

async function* transformed(
  pieces: AsyncIterable<Uint8Array>,
  by: DecompressionStream | CompressionStream,
): AsyncGenerator<Uint8Array> {
  const writer = by.writable.getWriter()
  const writing = (async () => {
    for await (const piece of pieces) await writer.write(piece as Uint8Array<ArrayBuffer>)
    await writer.close()
  })()
  writing.catch((error) => writer.abort(error).catch(() => {}))
  const reader = by.readable.getReader()
  try {
    for (;;) {
      const { value, done } = await reader.read()
      if (done) break
      yield value
    }
    await writing
  } catch (error) {
    if (error instanceof MoraineError) throw error
    const words = error instanceof Error ? error.message : String(error)
    throw new MoraineError('corrupt', `the stream is damaged: ${words}`, { cause: error })
  } finally {
    await reader.cancel().catch(() => {})
  }
}

/** gzip (of one member: browsers take no more) and deflate by the browser, bzip2 and LZ4 by the engine. Pages that want zstd or xz hand in a library's. */
export const defaultStreamCodecs: StreamCodecs = {
  gzip: {
    unpack: (packed) => transformed(packed, new DecompressionStream('gzip')),
    pack: (plain) => transformed(plain, new CompressionStream('gzip')),
  },
  deflate: { unpack: (packed) => transformed(packed, new DecompressionStream('deflate-raw')) },
  bzip2: bzip2Stream,
  lz4: lz4Stream,
}

/** No pool of workers in a browser: work runs where it is asked for. */
export function workers(): WorkerPool | undefined {
  return undefined
}
