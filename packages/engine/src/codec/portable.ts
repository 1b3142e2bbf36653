/** The engine's own codecs, for platforms that have none. */
import type { Codecs } from '../core/index.ts'
import { inflateRaw, inflateZlib } from './inflate.ts'
import { zstdDecode } from './zstd-decode.ts'

/** Unpacks deflate, zlib and zstd in pure TypeScript, at some 200 MB/s; it packs nothing.
 *  @throws MoraineError from `unpack`: `corrupt`; `unsupported` for streams that need a dictionary. */
export const portableCodecs: Codecs = {
  deflate: { unpack: (input, output) => void inflateRaw(input, output) },
  zlib: { unpack: (input, output) => void inflateZlib(input, output) },
  zstd: { unpack: (input, output) => void zstdDecode(input, output) },
}
