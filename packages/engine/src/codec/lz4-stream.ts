/** LZ4 files of any length, block by block, with their checksums; several frames in a row, skippable and legacy ones too. Pure TypeScript. Facts: the LZ4
 *  frame format 1.6.4. */
import { ByteFeed } from '../bytes/byte-feed.ts'
import { viewOf } from '../bytes/integers.ts'
import { MoraineError, type StreamCodec } from '../core/index.ts'
import { decodeLz4Block } from './lz4-frame.ts'
import { Xxh32 } from './xxh32.ts'

const frameMagic = 0x184d2204
const legacyMagic = 0x184c2102
const skippableMagic = 0x184d2a50
const historyBytes = 64 * 1024
const legacyBlockBytes = 8 * 1024 * 1024

function damaged(what: string): MoraineError {
  return new MoraineError('corrupt', `the LZ4 stream is damaged: ${what}`)
}

async function exactly(feed: ByteFeed, length: number): Promise<Uint8Array> {
  const bytes = await feed.take(length)
  if (bytes.length < length) throw damaged('it ends early')
  return bytes
}

async function word(feed: ByteFeed): Promise<number> {
  return viewOf(await exactly(feed, 4)).getUint32(0, true)
}

/** Unpacks LZ4 frames.
 *  @throws MoraineError from `unpack`: `corrupt`; `unsupported` for frames that need a dictionary. */
export const lz4Stream: StreamCodec = {
  async *unpack(packed, ends) {
    const feed = new ByteFeed(packed)
    try {
      for (let first = true; ; first = false) {
        const start = await feed.take(4)
        if (start.length === 0) {
          ends?.(feed.consumed)
          return
        }
        const magic = start.length < 4 ? 0 : viewOf(start).getUint32(0, true)
        if (magic === frameMagic) yield* unpackFrame(feed)
        else if (magic === legacyMagic) yield* unpackLegacy(feed, ends !== undefined)
        else if ((magic & ~15) === skippableMagic) {
          if (!(await feed.skip(await word(feed)))) throw damaged('it ends early')
        } else if (ends !== undefined && !first) {
          feed.back(start)
          ends(feed.consumed)
          return
        } else throw damaged('something else follows its end')
      }
    } finally {
      await feed.close()
    }
  },
}

async function* unpackFrame(feed: ByteFeed): AsyncGenerator<Uint8Array> {
  const [flags, descriptor] = (await exactly(feed, 2)) as unknown as [number, number]
  if (flags >> 6 !== 1 || (flags & 2) !== 0 || (descriptor & 0x8f) !== 0 || descriptor >> 4 < 4)
    throw damaged('its header has no sense')
  if ((flags & 1) !== 0) throw new MoraineError('unsupported', 'the LZ4 frame needs a dictionary')
  const extra = await exactly(feed, (flags & 8) === 0 ? 0 : 8)
  const header = new Xxh32().update(Uint8Array.of(flags, descriptor)).update(extra).digest()
  if ((await exactly(feed, 1))[0] !== ((header >>> 8) & 255)) throw damaged('the checksum of its header is wrong')
  const said = extra.length === 0 ? undefined : Number(viewOf(extra).getBigUint64(0, true))
  const blockBytes = 2 ** (8 + 2 * (descriptor >> 4))
  const content = (flags & 4) === 0 ? undefined : new Xxh32()
  const decoder = new BlockDecoder(blockBytes, (flags & 32) === 0)
  let total = 0
  for (;;) {
    const field = await word(feed)
    if (field === 0) break
    const size = field & 0x7fff_ffff
    if (size > blockBytes) throw damaged('a block is longer than blocks may be')
    const block = await exactly(feed, size)
    if ((flags & 16) !== 0 && (await word(feed)) !== new Xxh32().update(block).digest())
      throw damaged('the checksum of a block is wrong')
    const plain = decoder.decode(block, field >= 0x8000_0000)
    content?.update(plain)
    total += plain.length
    yield plain
  }
  if (content !== undefined && (await word(feed)) !== content.digest())
    throw damaged('the checksum of its content is wrong')
  if (said !== undefined && said !== total) throw damaged(`it holds ${total} bytes and says ${said}`)
}

/** Blocks alone, up to the end of the file or another frame. */
async function* unpackLegacy(feed: ByteFeed, lenient: boolean): AsyncGenerator<Uint8Array> {
  const decoder = new BlockDecoder(legacyBlockBytes, false)
  for (;;) {
    const start = await feed.take(4)
    if (start.length === 0) return
    if (start.length < 4) throw damaged('it ends early')
    const size = viewOf(start).getUint32(0, true)
    // Zeros behind the end, as archives are filled up with, are no block; who wants all of the file takes them for empty ones.
    if ((lenient && size === 0) || size > legacyBlockBytes + legacyBlockBytes / 255 + 16) {
      feed.back(start)
      return
    }
    yield decoder.decode(await exactly(feed, size), false)
  }
}

/** Decodes blocks, which may look back at the 64 KiB before them where they are linked. */
class BlockDecoder {
  readonly #room: Uint8Array
  readonly #linked: boolean
  readonly #blockBytes: number
  #history = 0

  constructor(blockBytes: number, linked: boolean) {
    this.#room = new Uint8Array(historyBytes + blockBytes + 1)
    this.#blockBytes = blockBytes
    this.#linked = linked
  }

  /** The content of a block, in an array of its own. */
  decode(block: Uint8Array, stored: boolean): Uint8Array {
    const room = this.#room
    const start = this.#history
    let end = start + block.length
    if (stored) room.set(block, start)
    else {
      // One byte more than a block may fill.
      const { next, sound } = decodeLz4Block(block, room.subarray(0, start + this.#blockBytes + 1), start)
      if (!sound || next - start > this.#blockBytes) throw damaged('a block has no sense')
      end = next
    }
    const plain = room.slice(start, end)
    if (this.#linked) {
      const kept = Math.min(end, historyBytes)
      room.copyWithin(0, end - kept, end)
      this.#history = kept
    }
    return plain
  }
}
