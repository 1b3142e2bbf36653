/** Units through Node's public one-shot functions: what `codecs.ts` falls back to. */
import type { ZlibOptions, ZstdOptions } from 'node:zlib'
import { zstdFrameLength } from '../../codec/zstd-frame.ts'
import type { PackedCodec } from '../../core/index.ts'
import { zlib } from './builtin.ts'

/* A result is asked for in one piece, with some room: zlib begins another piece when one is exactly full. */
const spareBytes = 64
const largestPiece = 4 * 1024 * 1024

/** Decodes the stream at the beginning of `input`. False, with any content in `output`, unless it gives exactly as much as `output` holds. */
export function unpackOneShot(codec: PackedCodec, input: Uint8Array, output: Uint8Array): boolean {
  const options = { chunkSize: Math.min(output.length + spareBytes, largestPiece), maxOutputLength: output.length }
  try {
    const bytes = decode(codec, input, options)
    if (bytes?.length !== output.length) return false
    output.set(bytes)
    return true
  } catch {
    return false
  }
}

function decode(codec: PackedCodec, input: Uint8Array, options: ZlibOptions): Uint8Array | undefined {
  if (codec === 'deflate') return zlib().inflateRawSync(input, options)
  if (codec === 'zlib') return zlib().inflateSync(input, options)
  // Node refuses what follows the frame: it gets exactly that.
  const length = zstdFrameLength(input)
  return length === undefined ? undefined : zlib().zstdDecompressSync(input.subarray(0, length), options as ZstdOptions)
}

/** Packs as raw deflate. */
export function deflateOneShot(input: Uint8Array, options: ZlibOptions): Uint8Array {
  return zlib().deflateRawSync(input, { ...options, chunkSize: pieceFor(input) })
}

/** Packs as a zlib stream. */
export function zlibOneShot(input: Uint8Array, options: ZlibOptions): Uint8Array {
  return zlib().deflateSync(input, { ...options, chunkSize: pieceFor(input) })
}

/** Packs as one zstd frame. */
export function zstdOneShot(input: Uint8Array, options: ZstdOptions): Uint8Array {
  return zlib().zstdCompressSync(input, {
    ...options,
    chunkSize: pieceFor(input),
    finishFlush: zlib().constants.ZSTD_e_end,
  })
}

function pieceFor(input: Uint8Array): number {
  return Math.min(input.length + 16 * spareBytes, largestPiece)
}
