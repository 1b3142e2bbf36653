/** bzip2 files of any length, block by block, with their checksums: several streams in a row are one file, as parallel packers write them. Pure TypeScript.
 *  Facts: the format as bzip2 1.0.8 writes it. */
import { ByteFeed } from '../bytes/byte-feed.ts'
import { MoraineError, type StreamCodec } from '../core/index.ts'
import { Bits, blockMagic, chainBlock, endMagic, readBlock } from './bzip2-decode.ts'

/** A packed block has at most 900,000 symbols of 20 bits, and tables before them. */
const mostPackedBlock = 2_400_000
const pieceBytes = 1024 * 1024

function damaged(what: string): MoraineError {
  return new MoraineError('corrupt', `the bzip2 stream is damaged: ${what}`)
}

let table: Int32Array | undefined

/** CRC-32 with the most significant bit first, polynomial 0x04C11DB7. */
function makeTable(): Int32Array {
  const made = new Int32Array(256)
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte << 24
    for (let bit = 0; bit < 8; bit++) crc = crc < 0 ? (crc << 1) ^ 0x04c1_1db7 : crc << 1
    made[byte] = crc
  }
  return made
}

/** The packed bytes at hand, with so many that a whole block is among them. */
class Window {
  readonly #feed: ByteFeed
  bytes: Uint8Array = new Uint8Array(0)
  bits = new Bits(this.bytes, 0)

  constructor(feed: ByteFeed) {
    this.#feed = feed
  }

  /** Moves on to where the bits stand. */
  async fill(): Promise<void> {
    const { position } = this.bits
    const start = Math.min(position >> 3, this.bytes.length)
    const left = this.bytes.length - start
    if (left < mostPackedBlock) {
      const more = await this.#feed.take(2 * mostPackedBlock - left)
      const joined = new Uint8Array(left + more.length)
      joined.set(this.bytes.subarray(start))
      joined.set(more, left)
      this.bytes = joined
      this.bits = new Bits(joined, 0)
      this.bits.take(position & 7)
    }
  }

  /** Whether a stream begins where the bits stand, on a whole byte. */
  isAtHeader(): boolean {
    const at = this.bits.position >> 3
    return this.bytes[at] === 66 && this.bytes[at + 1] === 90 && this.bytes[at + 2] === 104
  }

  /** Packed bytes up to where the bits stand. */
  get consumed(): number {
    return this.#feed.consumed - this.bytes.length + Math.min(this.bytes.length, (this.bits.position + 7) >> 3)
  }

  /** Goes on at the next whole byte. False at the end of the file. */
  async align(): Promise<boolean> {
    const rest = this.bits.position & 7
    if (rest > 0) this.bits.take(8 - rest)
    await this.fill()
    return this.bits.position >> 3 < this.bytes.length
  }
}

/** Unpacks bzip2.
 *  @throws MoraineError from `unpack`: `corrupt`; randomised blocks (before version 0.9.5) count as damage. */
export const bzip2Stream: StreamCodec = {
  async *unpack(packed, ends) {
    const feed = new ByteFeed(packed)
    try {
      const window = new Window(feed)
      await window.fill()
      let first = true
      do {
        if (ends !== undefined && !first && !window.isAtHeader()) break
        yield* unpackStream(window, first)
        first = false
      } while (await window.align())
      ends?.(window.consumed)
    } finally {
      await feed.close()
    }
  },
}

async function* unpackStream(window: Window, first: boolean): AsyncGenerator<Uint8Array> {
  const level = readLevel(window.bits)
  if (level === undefined) throw first ? damaged('it has no header') : damaged('something else follows its end')
  const words = new Uint32Array(level * 100_000)
  let combined = 0
  for (;;) {
    await window.fill()
    const { bits } = window
    const magic = bits.take(24) * 2 ** 24 + bits.take(24)
    if (magic === endMagic) {
      const checksum = (bits.take(16) * 0x1_0000 + bits.take(16)) | 0
      if (bits.cut) throw damaged('it ends early')
      if (checksum !== combined) throw damaged('the checksum of the whole is wrong')
      return
    }
    const block = magic === blockMagic ? readBlock(bits, words) : undefined
    if (bits.cut) throw damaged('it ends early')
    if (block === undefined) throw damaged('a block has no sense')
    const checksum = yield* expandBlock(words, block.count, block.origin)
    if (checksum !== (block.checksum | 0)) throw damaged('the checksum of a block is wrong')
    combined = ((combined << 1) | (combined >>> 31)) ^ checksum
  }
}

function readLevel(bits: Bits): number | undefined {
  const magic = bits.take(24)
  const level = bits.take(8) - 48
  return !bits.cut && magic === 0x425a68 && level >= 1 && level <= 9 ? level : undefined
}

/** Gives the bytes of a block in pieces, and returns their checksum. Four bytes alike are followed by how many more of them there are. */
function* expandBlock(words: Uint32Array, count: number, origin: number): Generator<Uint8Array, number> {
  table ??= makeTable()
  chainBlock(words, count)
  let piece = new Uint8Array(pieceBytes)
  let filled = 0
  let crc = -1
  let at = (words[origin] as number) >>> 8
  let repeated = 0
  let before = -1
  for (let i = 0; i < count; i++) {
    if (filled > pieceBytes - 256) {
      yield piece.subarray(0, filled)
      piece = new Uint8Array(pieceBytes)
      filled = 0
    }
    const word = words[at] as number
    const byte = word & 255
    at = word >>> 8
    if (repeated === 4) {
      for (let n = 0; n < byte; n++) {
        crc = (crc << 8) ^ (table[(crc >>> 24) ^ before] as number)
        piece[filled++] = before
      }
      repeated = 0
      before = -1
      continue
    }
    repeated = byte === before ? repeated + 1 : 1
    before = byte
    crc = (crc << 8) ^ (table[(crc >>> 24) ^ byte] as number)
    piece[filled++] = byte
  }
  if (filled > 0) yield piece.subarray(0, filled)
  return ~crc
}
