/** xz by a library that is handed in: xz has no codec in Node or in browsers, and the engine's own decoder takes five times as long as liblzma, and cannot write. */
import { MoraineError, type StreamCodec } from '../core/index.ts'

/** What is needed of a library; `@napi-rs/lzma` has it, in Node and in browsers. Its streams wait for whoever reads them; its other ways to unpack do not, and gather
 *  all in memory. */
export interface XzLibrary {
  xz: {
    compressStream(plain: ReadableStream<Uint8Array>, options?: { preset?: number } | null): ReadableStream<Uint8Array>
    decompressStream(packed: ReadableStream<Uint8Array>): ReadableStream<Uint8Array>
  }
}

/** A codec for xz. `preset` 0 to 9, as of `xz`; the library is loaded when it is first needed.
 *  @throws MoraineError from `unpack`: `corrupt`, in the library's words. */
export function xzStream(load: () => Promise<XzLibrary>, preset = 2): StreamCodec {
  return {
    async *unpack(packed) {
      const { xz } = await load()
      const input = streamOf(packed)
      try {
        yield* xz.decompressStream(input.stream)
      } catch (error) {
        if (input.failed !== undefined) throw input.failed.error
        const words = error instanceof Error ? error.message : String(error)
        const early = words.includes('failed to fill whole buffer') ? 'it ends early' : words
        throw new MoraineError('corrupt', `the xz stream is damaged: ${early}`, { cause: error })
      }
    },
    async *pack(plain) {
      const { xz } = await load()
      const input = streamOf(plain)
      try {
        yield* xz.compressStream(input.stream, { preset })
      } catch (error) {
        throw input.failed === undefined ? error : input.failed.error
      }
    },
  }
}

/** The pieces as a stream that asks for one when it is wanted, and what went wrong with them. */
function streamOf(pieces: AsyncIterable<Uint8Array>): {
  stream: ReadableStream<Uint8Array>
  failed: { error: unknown } | undefined
} {
  const iterator = pieces[Symbol.asyncIterator]()
  const input: ReturnType<typeof streamOf> = {
    failed: undefined,
    stream: new ReadableStream<Uint8Array>(
      {
        async pull(controller) {
          try {
            const { value, done } = await iterator.next()
            if (done === true) controller.close()
            else controller.enqueue(value)
          } catch (error) {
            input.failed = { error }
            controller.error(error)
          }
        },
        async cancel() {
          await iterator.return?.()
        },
      },
      { highWaterMark: 0 },
    ),
  }
  return input
}
