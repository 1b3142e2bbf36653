/** xz by a library that is handed in: xz has no codec in Node or in browsers, and the engine's own decoder takes five times as long as liblzma, and cannot write. */
import { MoraineError, type StreamCodec } from '../core/index.ts'

/** What is needed of a library; `@napi-rs/lzma` has it, in Node and in browsers. */
export interface XzLibrary {
  XzCompressor: new (options?: { preset?: number } | null) => XzTransform
  XzDecompressor: new () => XzTransform
}

/** Takes pieces and gives what can be told by then. */
export interface XzTransform {
  update(chunk: Uint8Array): Uint8Array
  finish(): Promise<Uint8Array>
}

/** Packed bytes for a call: their content comes at once, 7000 times as much at most. */
const packedPiece = 2048
const plainPiece = 256 * 1024
/** How long others may have to wait. */
const mostMilliseconds = 20

/** A codec for xz. `preset` 0 to 9, as of `xz`; the library is loaded when it is first needed.
 *  @throws MoraineError from `unpack`: `corrupt`, in the library's words. */
export function xzStream(load: () => Promise<XzLibrary>, preset = 2): StreamCodec {
  return {
    async *unpack(packed) {
      const { XzDecompressor } = await load()
      try {
        yield* transform(packed, new XzDecompressor(), packedPiece)
      } catch (error) {
        if (error instanceof MoraineError) throw error
        const words = error instanceof Error ? error.message : String(error)
        const early = words === 'failed to fill whole buffer' ? 'it ends early' : words
        throw new MoraineError('corrupt', `the xz stream is damaged: ${early}`, { cause: error })
      }
    },
    async *pack(plain) {
      const { XzCompressor } = await load()
      yield* transform(plain, new XzCompressor({ preset }), plainPiece)
    },
  }
}

async function* transform(
  pieces: AsyncIterable<Uint8Array>,
  by: XzTransform,
  mostBytes: number,
): AsyncGenerator<Uint8Array> {
  let since = performance.now()
  for await (const piece of pieces) {
    for (let at = 0; at < piece.length; at += mostBytes) {
      const made = by.update(piece.subarray(at, at + mostBytes))
      if (made.length > 0) yield made
      // The library works here and now: let others run too.
      if (performance.now() - since < mostMilliseconds) continue
      await new Promise((resolve) => setTimeout(resolve, 0))
      since = performance.now()
    }
  }
  const rest = await by.finish()
  if (rest.length > 0) yield rest
}
