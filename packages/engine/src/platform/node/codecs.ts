/** Node's zlib as the engine's codecs: synchronous, for one unit at a time, in the main thread or a worker.
 *
 *  Measured on Node 24.21, 64 KiB clusters of programs and texts, one core: unpacking deflate 314 MB/s (the portable decoder 198), zstd 615 MB/s
 *  (196). Reusing one native stream through its undocumented handle gives 324 and 665: not worth leaving the public interface for. */
import { constants, deflateRawSync, inflateRawSync, inflateSync, zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { inflateRaw, inflateZlib } from '../../codec/inflate.ts'
import { zstdDecode } from '../../codec/zstd-decode.ts'
import { zstdFrameLength } from '../../codec/zstd-frame.ts'
import type { Codecs, Pack, Unpack } from '../../core/index.ts'

/** QEMU inflates with a window of 2^12 bytes and fails on a stream that needs more. */
const deflateWindowBits = 12

/** The level of deflate. Files of a `qemu-img convert -c` of the same data (zlib's level 6 without the patches of Node's zlib, 26 MB/s) against ours, and
 *  our speed on one core: level 3: 6 % larger, 89 MB/s; 4: 3 to 4 %, 82 MB/s; 5: 2 to 3 %, 67 MB/s; 6: 2 %, 57 MB/s. */
const deflateLevel = 4

/** The level of zstd. Against `qemu-img convert -c` (level 3, 160 MB/s): level 1: 4 % larger, 303 MB/s; 2: 1 %, 282 MB/s; 3: 0.5 % smaller, 236 MB/s. */
const zstdLevel = 2

/** A result is asked for in one piece, with some room: zlib begins another piece when one is exactly full. */
const spareBytes = 64
const largestPiece = 4 * 1024 * 1024

type NativeUnpack = (input: Uint8Array, options: { chunkSize: number; maxOutputLength: number }) => Uint8Array

/** Tries the native decoder. Whatever it refuses, or gives too little or too much of, is for the portable decoder to judge, so that both give the same
 *  bytes and the same errors: a stream is good as long as it fills the output. */
function tryNative(unpack: NativeUnpack, input: Uint8Array, output: Uint8Array): boolean {
  try {
    const bytes = unpack(input, {
      chunkSize: Math.min(output.length + spareBytes, largestPiece),
      maxOutputLength: output.length,
    })
    if (bytes.length !== output.length) return false
    output.set(bytes)
    return true
  } catch {
    return false
  }
}

const unpackDeflate: Unpack = (input, output) => {
  if (!tryNative(inflateRawSync, input, output)) inflateRaw(input, output)
}

const unpackZlib: Unpack = (input, output) => {
  if (!tryNative(inflateSync, input, output)) inflateZlib(input, output)
}

const unpackZstd: Unpack = (input, output) => {
  // Node refuses what follows the frame: it gets exactly that. Several frames for one unit are the portable decoder's.
  const length = zstdFrameLength(input)
  if (length !== undefined && tryNative(zstdDecompressSync, input.subarray(0, length), output)) return
  zstdDecode(input, output)
}

const packDeflate: Pack = (input, limit) => {
  const packed = deflateRawSync(input, {
    level: deflateLevel,
    windowBits: deflateWindowBits,
    memLevel: 9,
    chunkSize: Math.min(input.length + 16 * spareBytes, largestPiece),
  })
  return packed.length < limit ? packed : undefined
}

const packZstd: Pack = (input, limit) => {
  const packed = zstdCompressSync(input, {
    params: {
      [constants.ZSTD_c_compressionLevel]: zstdLevel,
      [constants.ZSTD_c_contentSizeFlag]: 1,
      [constants.ZSTD_c_checksumFlag]: 0,
    },
    chunkSize: Math.min(input.length + 16 * spareBytes, largestPiece),
  })
  return packed.length < limit ? packed : undefined
}

/** Deflate, zlib and zstd by Node's own libraries. `unpack` fills `output` and ignores what follows the stream; `pack` writes what QEMU reads (deflate in
 *  a 4 KiB window; zstd with the content size, without a checksum). zlib is only unpacked.
 *  @throws MoraineError from `unpack`: `corrupt`; `unsupported` for streams that need a dictionary. */
export const nodeCodecs: Codecs = {
  deflate: { unpack: unpackDeflate, pack: packDeflate },
  zlib: { unpack: unpackZlib },
  zstd: { unpack: unpackZstd, pack: packZstd },
}
