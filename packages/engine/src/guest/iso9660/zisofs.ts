/** Files that zisofs packed: blocks of zlib behind a table. Facts: libisofs' `doc/zisofs_format.txt`, version 1; mkzftree. */
import { defaultCodecs } from '#platform'
import { viewOf } from '../../bytes/integers.ts'
import { type ByteSource, type Codecs, type Extent, MoraineError } from '../../core/index.ts'
import { allData, checkRange } from '../../source/range.ts'

const magic = [0x37, 0xe4, 0x53, 0x96, 0xc9, 0xdb, 0xd6, 0x07]
const headBytes = 16
const pageEntries = 8192

/** What a packed file holds. The file as it is stored is borrowed.
 *  @throws MoraineError `corrupt` where it is not what its directory record says; `unsupported` for other algorithms; `io`. */
export async function openZisofs(
  stored: ByteSource,
  packed: { algorithm: string; blockBits: number; size: number },
  codecs: Codecs = defaultCodecs,
): Promise<ByteSource> {
  const place = { path: stored.name, format: 'iso' }
  if (packed.algorithm !== 'pz') {
    throw new MoraineError('unsupported', 'the file is packed with an algorithm that is not read', {
      ...place,
      field: 'ZF algorithm',
      value: packed.algorithm,
      rule: 'pz',
    })
  }
  const wrong = (field: string, value: number, rule: string): MoraineError =>
    new MoraineError('corrupt', 'the head of a file packed with zisofs makes no sense', {
      ...place,
      field,
      value,
      rule,
    })
  if (stored.size < headBytes) throw wrong('size', stored.size, `at least ${headBytes}`)
  const head = new Uint8Array(headBytes)
  await stored.read(0, head)
  if (magic.some((byte, at) => head[at] !== byte)) throw wrong('magic', head[0] ?? 0, '37 e4 53 96 c9 db d6 07')
  const size = viewOf(head).getUint32(8, true)
  const tableStart = (head[12] ?? 0) * 4
  const bits = head[13] ?? 0
  if (size !== packed.size) throw wrong('uncompressed size', size, `${packed.size}, as in the directory record`)
  if (bits < 15 || bits > 20) throw wrong('block size', bits, 'a logarithm from 15 to 20')
  if (tableStart < headBytes) throw wrong('header size', tableStart, `at least ${headBytes}`)
  const blocks = Math.ceil(size / 2 ** bits)
  if (tableStart + (blocks + 1) * 4 > stored.size) throw wrong('header size', tableStart, 'a table within the file')
  return new ZisofsSource(stored, { size, tableStart, blockBytes: 2 ** bits, blocks }, codecs)
}

class ZisofsSource implements ByteSource {
  readonly name: string
  readonly size: number
  readonly #stored: ByteSource
  readonly #layout: { tableStart: number; blockBytes: number; blocks: number }
  readonly #codecs: Codecs
  #page: { number: number; bytes: Uint8Array } | undefined
  #block: { index: number; bytes: Uint8Array } | undefined

  constructor(
    stored: ByteSource,
    layout: { size: number; tableStart: number; blockBytes: number; blocks: number },
    codecs: Codecs,
  ) {
    this.name = stored.name
    this.size = layout.size
    this.#stored = stored
    this.#layout = layout
    this.#codecs = codecs
  }

  async read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    checkRange(this.name, this.size, offset, into.length, signal)
    const { blockBytes } = this.#layout
    for (let done = 0; done < into.length; ) {
      const index = Math.floor((offset + done) / blockBytes)
      const bytes = await this.#read(index, signal)
      const skip = offset + done - index * blockBytes
      const part = bytes.subarray(skip, skip + into.length - done)
      into.set(part, done)
      done += part.length
    }
  }

  extents(offset: number, length: number, signal?: AbortSignal): AsyncIterable<Extent[]> {
    return allData(this, offset, length, signal)
  }

  async close(): Promise<void> {}

  async #read(index: number, signal: AbortSignal | undefined): Promise<Uint8Array> {
    if (this.#block?.index === index) return this.#block.bytes
    const { blockBytes } = this.#layout
    const start = await this.#offset(index, signal)
    const end = await this.#offset(index + 1, signal)
    if (end < start || end > this.#stored.size || end - start > 2 * blockBytes) {
      throw new MoraineError('corrupt', 'a block of a file packed with zisofs lies outside it', {
        path: this.name,
        format: 'iso',
        field: 'block pointer',
        value: end,
        rule: `from ${start} to ${this.#stored.size}`,
      })
    }
    const bytes = new Uint8Array(Math.min(blockBytes, this.size - index * blockBytes))
    // A block of no length is zeros.
    if (end > start) {
      const packed = new Uint8Array(end - start)
      await this.#stored.read(start, packed, signal)
      const codec = this.#codecs.zlib
      if (codec === undefined)
        throw new MoraineError('unsupported', 'there is no codec for zlib here', { path: this.name })
      codec.unpack(packed, bytes)
    }
    this.#block = { index, bytes }
    return bytes
  }

  async #offset(index: number, signal: AbortSignal | undefined): Promise<number> {
    const number = Math.floor(index / pageEntries)
    if (this.#page?.number !== number) {
      const { tableStart, blocks } = this.#layout
      const first = number * pageEntries
      const bytes = new Uint8Array(Math.min(pageEntries, blocks + 1 - first) * 4)
      await this.#stored.read(tableStart + first * 4, bytes, signal)
      this.#page = { number, bytes }
    }
    return viewOf(this.#page.bytes).getUint32((index - number * pageEntries) * 4, true)
  }
}
