/** Node's zlib as the engine's codecs: synchronous, for one unit at a time, in the main thread or a worker.
 *
 *  Measured on Node 24.21, 64 KiB clusters of programs and texts, one core: unpacking deflate 320 MB/s (the portable decoder 198), zstd 665 MB/s
 *  (196). The public one-shot functions: 314 and 615, and see `zlib-stream.ts`. */
import type { ZlibOptions, ZstdOptions } from 'node:zlib'
import { portableCodecs } from '../../codec/portable.ts'
import type { Codecs, Pack, PackedCodec, Unpack } from '../../core/index.ts'
import { zlib } from './builtin.ts'
import { deflateOneShot, unpackOneShot, zlibOneShot, zstdOneShot } from './one-shot.ts'
import { ReusedStream, type ZlibStream, type ZlibWrite } from './zlib-stream.ts'

/** QEMU inflates with a window of 2^12 bytes and fails on a stream that needs more.
 *
 *  The level, against `qemu-img convert -c` of the same data (level 6 of a zlib without the patches of Node's; 26 MB/s on one core), files of programs and texts
 *  and an ext4 of 600 MB: level 3 gives 6 % larger files at 89 MB/s, 4: 3 to 4 % at 82 MB/s, 5: 2 to 3 % at 67 MB/s, 6: 2 % at 57 MB/s. */
const deflateOptions: ZlibOptions = { level: 4, windowBits: 12, memLevel: 9 }

/** For the grains of streamed VMDKs: readers take any window. At level 4 the files are as much larger than QEMU's as those of `deflateOptions`. */
const zlibOptions: ZlibOptions = { level: 4, windowBits: 15, memLevel: 9 }

/** Against `qemu-img convert -c` (level 3, 160 MB/s): level 1 gives 4 % larger files at 303 MB/s, 2: 1 to 2 % at 282 MB/s, 3: as large at 236 MB/s. As QEMU writes
 *  frames: with the content size, without a checksum. */
function zstdOptions(): ZstdOptions {
  const { ZSTD_c_compressionLevel, ZSTD_c_contentSizeFlag, ZSTD_c_checksumFlag } = zlib().constants
  return { params: { [ZSTD_c_compressionLevel]: 2, [ZSTD_c_contentSizeFlag]: 1, [ZSTD_c_checksumFlag]: 0 } }
}

const sample = new TextEncoder().encode('one stream for all units, '.repeat(40))
const sampleOutput = new Uint8Array(2 * sample.length)

/** Whether a reused decoder gives the sample back, again, and after an output that was full before the stream's end. */
function unpacksSample(stream: ZlibStream, packed: Uint8Array): boolean {
  const good = (): boolean => {
    const output = sampleOutput.fill(0).subarray(0, sample.length)
    return fill(stream, packed, output) === true && Buffer.compare(output, sample) === 0
  }
  return good() && good() && fill(stream, packed, sampleOutput.subarray(0, 100)) === true && good()
}

/** Whether a reused compressor packs the sample, and again, so that it comes back. */
function packsSample(codec: PackedCodec, packInto: () => number | undefined): boolean {
  for (let turn = 0; turn < 2; turn++) {
    const length = packInto()
    if (length === undefined || length >= sample.length) return false
    const back = new Uint8Array(sample.length)
    portableCodecs[codec]?.unpack(sampleOutput.slice(0, length), back)
    if (Buffer.compare(back, sample) !== 0) return false
  }
  return true
}

/** Whether the stream filled the output; undefined after an error. */
function fill(stream: ZlibStream, input: Uint8Array, output: Uint8Array): boolean | undefined {
  stream.reset()
  // Not "finish", with which a stream that has more to give is an error. (zstd's decoder does not look at it.)
  const result = stream.write(zlib().constants.Z_SYNC_FLUSH, input, output)
  return result === undefined ? undefined : result.written === output.length
}

/** The reused decoders. For tests, otherwise used here alone. */
export const decoders: Record<PackedCodec, ReusedStream> = {
  deflate: new ReusedStream(
    () => zlib().createInflateRaw(),
    (stream) => unpacksSample(stream, zlib().deflateRawSync(sample)),
  ),
  zlib: new ReusedStream(
    () => zlib().createInflate(),
    (stream) => unpacksSample(stream, zlib().deflateSync(sample)),
  ),
  zstd: new ReusedStream(
    () => zlib().createZstdDecompress(),
    (stream) => unpacksSample(stream, zlib().zstdCompressSync(sample)),
  ),
}

/** Whatever the native decoder refuses, or gives too little of, is for the portable one to judge, so that errors are the same everywhere and a stream is good as
 *  long as it fills the output. */
function unpacker(codec: PackedCodec, decoder: ReusedStream | undefined): Unpack {
  return (input, output) => {
    const stream = input.length === 0 || output.length === 0 ? undefined : decoder?.get()
    const done = stream === undefined ? unpackOneShot(codec, input, output) : fill(stream, input, output)
    if (done === true) return
    if (done === undefined) decoder?.drop()
    portableCodecs[codec]?.unpack(input, output)
  }
}

/** Packs a unit into `output`, which has room for what does not shrink. Returns the bytes; undefined when the stream is to be given up. */
function deflateInto(stream: ZlibStream, input: Uint8Array, output: Uint8Array): number | undefined {
  stream.reset()
  return whole(stream.write(zlib().constants.Z_FINISH, input, output), output)
}

function zstdInto(stream: ZlibStream, input: Uint8Array, output: Uint8Array): number | undefined {
  // No reset, which would forget the level: a frame that has ended leaves nothing behind.
  return whole(stream.write(zlib().constants.ZSTD_e_end, input, output), output)
}

function whole(result: ZlibWrite | undefined, output: Uint8Array): number | undefined {
  return result?.left === 0 && result.written < output.length ? result.written : undefined
}

const compressors = {
  deflate: new ReusedStream(
    () => zlib().createDeflateRaw(deflateOptions),
    (stream) => packsSample('deflate', () => deflateInto(stream, sample, sampleOutput)),
  ),
  zlib: new ReusedStream(
    () => zlib().createDeflate(zlibOptions),
    (stream) => packsSample('zlib', () => deflateInto(stream, sample, sampleOutput)),
  ),
  zstd: new ReusedStream(
    () => zlib().createZstdCompress(zstdOptions()),
    (stream) => packsSample('zstd', () => zstdInto(stream, sample, sampleOutput)),
  ),
}

let room = new Uint8Array(0)

/** The bytes of a packed unit, valid until the next call. `reuse: false` is for tests. */
export function packView(codec: PackedCodec, input: Uint8Array, reuse = true): Uint8Array {
  const stream = reuse && input.length > 0 ? compressors[codec].get() : undefined
  // Neither library makes anything longer by more than 1/128 and a header.
  const most = input.length + (input.length >> 7) + 1024
  if (stream !== undefined) {
    if (room.length < most) room = new Uint8Array(most)
    const length = (codec === 'zstd' ? zstdInto : deflateInto)(stream, input, room)
    if (length !== undefined) return room.subarray(0, length)
    compressors[codec].drop()
  }
  if (codec === 'zstd') return zstdOneShot(input, zstdOptions())
  return codec === 'zlib' ? zlibOneShot(input, zlibOptions) : deflateOneShot(input, deflateOptions)
}

function packer(codec: PackedCodec, reuse: boolean): Pack {
  return (input, limit) => {
    const packed = packView(codec, input, reuse)
    return packed.length < limit ? packed.slice() : undefined
  }
}

/** Deflate, zlib and zstd by Node's own libraries. `unpack` fills `output` and ignores what follows the stream; `pack` writes what QEMU reads (deflate in
 *  a 4 KiB window, zlib in one of 32 KiB; zstd with the content size, without a checksum).
 *  @throws MoraineError from `unpack`: `corrupt`; `unsupported` for streams that need a dictionary. */
export const nodeCodecs: Codecs = {
  deflate: { unpack: unpacker('deflate', decoders.deflate), pack: packer('deflate', true) },
  zlib: { unpack: unpacker('zlib', decoders.zlib), pack: packer('zlib', true) },
  zstd: { unpack: unpacker('zstd', decoders.zstd), pack: packer('zstd', true) },
}

/** The same by public functions only: what `nodeCodecs` becomes on a Node that is made differently. For tests. */
export const oneShotCodecs: Codecs = {
  deflate: { unpack: unpacker('deflate', undefined), pack: packer('deflate', false) },
  zlib: { unpack: unpacker('zlib', undefined), pack: packer('zlib', false) },
  zstd: { unpack: unpacker('zstd', undefined), pack: packer('zstd', false) },
}
