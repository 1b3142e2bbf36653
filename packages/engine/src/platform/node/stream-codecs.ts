/** Whole files, packed and unpacked by Node's own libraries, off the main thread. */
import type { Transform } from 'node:stream'
import { ByteFeed } from '../../bytes/byte-feed.ts'
import { viewOf } from '../../bytes/integers.ts'
import { bzip2Stream } from '../../codec/bzip2-stream.ts'
import { unpackGzip } from '../../codec/gzip-stream.ts'
import { lz4Stream } from '../../codec/lz4-stream.ts'
import { MoraineError, type StreamCodecs } from '../../core/index.ts'
import { zlib } from './builtin.ts'
import { codeOf } from './host-error.ts'

/** Bytes that come at once. */
const pieceBytes = 1024 * 1024

/** A stream of node:zlib that unpacks. */
type Unpacker = Transform & { readonly bytesWritten: number }

/** Pieces that were given to an unpacker, as far as it may not have used them up. */
interface Given {
  pieces: Uint8Array[]
  /** Bytes given before the first of them. */
  start: number
}

/** Unpacks one stream (a deflate stream, a zstd frame) and leaves `feed` behind its end. */
async function* unpackOne(name: string, feed: ByteFeed, unpacker: Unpacker): AsyncGenerator<Uint8Array> {
  const given: Given = { pieces: [], start: 0 }
  const feeding = giveAll(feed, unpacker, given)
  feeding.catch(() => {}) // Looked at below, unless nobody wants to know.
  try {
    for await (const piece of unpacker) yield piece as Uint8Array
    await feeding
  } catch (error) {
    throw await feeding.then(
      () => unpackError(name, error),
      (cause) => cause,
    )
  } finally {
    unpacker.destroy()
  }
  let unused = given.pieces.reduce((sum, { length }) => sum + length, given.start) - unpacker.bytesWritten
  for (const piece of given.pieces.toReversed()) {
    const part = piece.subarray(Math.max(0, piece.length - unused))
    if (unused <= 0) break
    feed.back(part)
    unused -= part.length
  }
}

/** Gives input until there is no more of it, or the unpacker has come to its end. */
async function giveAll(feed: ByteFeed, unpacker: Unpacker, given: Given): Promise<void> {
  let over = false
  const ended = new Promise<void>((resolve) => {
    for (const event of ['end', 'error', 'close']) {
      unpacker.once(event, () => {
        over = true
        resolve()
      })
    }
  })
  while (!over) {
    const piece = await feed.next().catch((error) => {
      unpacker.destroy(new Error('the input failed'))
      throw error
    })
    if (over) {
      if (piece !== undefined) feed.back(piece)
    } else if (piece === undefined) {
      unpacker.end()
      return
    } else {
      given.pieces.push(piece)
      for (let [first] = given.pieces; first !== undefined; [first] = given.pieces) {
        if (given.start + first.length > unpacker.bytesWritten) break
        given.start += first.length
        given.pieces.shift()
      }
      if (!unpacker.write(piece)) {
        await Promise.race([ended, new Promise<void>((resolve) => unpacker.once('drain', () => resolve()))])
      }
    }
  }
}

function unpackError(name: string, error: unknown): MoraineError {
  if (error instanceof MoraineError) return error
  const code = codeOf(error)
  const words = error instanceof Error ? error.message : String(error)
  if (code === 'ZSTD_error_frameParameter_windowTooLarge') {
    return new MoraineError('limit', 'the zstd frame needs a window of more than 128 MiB', { cause: error })
  }
  const early = code === 'Z_BUF_ERROR'
  return new MoraineError('corrupt', `the ${name} stream is damaged: ${early ? 'it ends early' : words}`, {
    cause: error,
  })
}

function inflate(feed: ByteFeed): AsyncIterable<Uint8Array> {
  return unpackOne('deflate', feed, zlib().createInflateRaw({ chunkSize: pieceBytes }))
}

async function* unpackDeflate(packed: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const feed = new ByteFeed(packed)
  try {
    yield* inflate(feed)
    if ((await feed.next()) !== undefined)
      throw new MoraineError('corrupt', 'the deflate stream is damaged: something else follows its end')
  } finally {
    await feed.close()
  }
}

const zstdMagic = 0xfd2fb528
const skippableMagic = 0x184d2a50

async function* unpackZstd(
  packed: AsyncIterable<Uint8Array>,
  ends?: (consumed: number) => void,
): AsyncGenerator<Uint8Array> {
  const feed = new ByteFeed(packed)
  const damaged = (what: string) => new MoraineError('corrupt', `the zstd stream is damaged: ${what}`)
  try {
    for (let first = true; ; first = false) {
      const start = await feed.take(4)
      if (start.length === 0 && !first) {
        ends?.(feed.consumed)
        return
      }
      const magic = start.length < 4 ? 0 : viewOf(start).getUint32(0, true)
      if (magic === zstdMagic) {
        feed.back(start)
        yield* unpackOne('zstd', feed, zlib().createZstdDecompress({ chunkSize: pieceBytes }))
      } else if ((magic & ~15) === skippableMagic) {
        const length = await feed.take(4)
        if (length.length < 4 || !(await feed.skip(viewOf(length).getUint32(0, true)))) throw damaged('it ends early')
      } else if (ends !== undefined && !first) {
        feed.back(start)
        ends(feed.consumed)
        return
      } else throw damaged(first ? 'it has no header' : 'something else follows its end')
    }
  } finally {
    await feed.close()
  }
}

async function* packWith(plain: AsyncIterable<Uint8Array>, packer: Transform): AsyncGenerator<Uint8Array> {
  const closed = new Promise<void>((resolve) => packer.once('close', () => resolve()))
  const feed = async (): Promise<void> => {
    for await (const piece of plain) {
      if (packer.destroyed) return
      if (packer.write(piece)) continue
      await Promise.race([closed, new Promise<void>((resolve) => packer.once('drain', () => resolve()))])
    }
    packer.end()
  }
  const feeding = feed().catch((error) => void packer.destroy(error))
  try {
    for await (const piece of packer) yield piece as Uint8Array
  } finally {
    packer.destroy()
    await feeding
  }
}

/** gzip, deflate and zstd by Node's libraries, which work on threads of their own; bzip2 and LZ4 by the engine's decoders. xz is for the caller to add
 *  (`xzStream`). gzip is packed as `gzip` does it, without a name and a time, zstd with its size and a checksum.
 *  @throws MoraineError from `unpack`: `corrupt`, `unsupported`, `limit`. */
export const nodeStreamCodecs: StreamCodecs = {
  gzip: {
    unpack: (packed, ends) => unpackGzip(packed, inflate, (bytes, before) => zlib().crc32(bytes, before), ends),
    pack: (plain) => packWith(plain, zlib().createGzip({ chunkSize: pieceBytes })),
  },
  deflate: { unpack: unpackDeflate },
  zstd: {
    unpack: unpackZstd,
    pack(plain, size) {
      const { ZSTD_c_checksumFlag, ZSTD_c_contentSizeFlag } = zlib().constants
      return packWith(
        plain,
        zlib().createZstdCompress({
          chunkSize: pieceBytes,
          params: { [ZSTD_c_checksumFlag]: 1, [ZSTD_c_contentSizeFlag]: 1 },
          ...(size === undefined ? {} : { pledgedSrcSize: size }),
        }),
      )
    },
  },
  bzip2: bzip2Stream,
  lz4: lz4Stream,
}
