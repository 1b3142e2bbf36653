/** Codecs are plain values handed in the context, like formats: Node has fast native ones, browsers use the engine's own. */
import type { PackedCodec } from './extent.ts'

/** Decodes exactly one unit: fills `output`, ignores whatever follows the stream (padding, the next unit).
 *  @throws MoraineError `corrupt` when the stream is damaged, ends early or would give more than `output` holds is fine:
 *  decoding stops once `output` is full. */
export type Unpack = (input: Uint8Array, output: Uint8Array) => void

/** Packs one unit. Returns undefined when the result would not be smaller than `limit` bytes. */
export type Pack = (input: Uint8Array, limit: number) => Uint8Array | undefined

/** Codecs that few formats use (chunks of DMG): an image that needs one opens, and what is packed so is refused by name where it was not handed in. */
export type RareCodec = 'adc' | 'bzip2' | 'lzfse' | 'xz'

/** The codecs at hand. `pack` is missing where the platform cannot write that codec. */
export type Codecs = Partial<Record<PackedCodec, { unpack: Unpack; pack?: Pack }>> &
  Partial<Record<RareCodec, { unpack: Unpack }>>

/** What a whole file may be packed with. `deflate` is what members of a zip are packed with. */
export type Wrapping = 'gzip' | 'xz' | 'bzip2' | 'zstd' | 'lz4' | 'deflate'

/** Packs and unpacks whole files, front to back, in bounded memory. */
export interface StreamCodec {
  /** What a file decodes to, all members, frames and streams of it; ends when the file is at its end and every checksum was right. Pieces are of at most a
   *  few MiB, whatever they are packed in.
   *  With `ends`, what follows the end is left alone, and `ends` is told how many of the packed bytes belong to the stream; a codec that cannot know that never calls it, and calls what
   *  follows damage.
   *  @throws MoraineError `corrupt` when it is damaged, cut, or followed by something else; `unsupported`; `limit` when it would take too much memory. */
  unpack(packed: AsyncIterable<Uint8Array>, ends?: (consumed: number) => void): AsyncIterable<Uint8Array>
  /** Packs; `size` is how many bytes will come, where that is known. */
  pack?(plain: AsyncIterable<Uint8Array>, size: number | undefined): AsyncIterable<Uint8Array>
}

/** The codecs for whole files at hand; a file that needs one that is not is refused by name. */
export type StreamCodecs = Partial<Record<Wrapping, StreamCodec>>
