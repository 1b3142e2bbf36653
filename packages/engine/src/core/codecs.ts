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
