/** How much a packed file says that it holds, found without unpacking it. Facts: the .xz file format 1.2.1 (index and footer), RFC 8878 (frame and block headers). */
import { viewOf } from '../../bytes/integers.ts'
import { readZstdBlockHeader, readZstdFrameHeader, zstdBlockHeaderBytes } from '../../codec/zstd-frame.ts'
import { type ByteSource, isMoraineError, type Limits, MoraineError, readPadded } from '../../core/index.ts'
import type { WrapperName } from './detect.ts'

/** Largest dictionary that an xz block may ask for: `xz -9` takes 64 MiB. */
const mostDictionary = 256 * 1024 * 1024
/** Blocks whose headers are looked at. */
const mostBlocks = 65_536

/** Bytes that the file holds by what it says itself; undefined where it does not say, or where finding out is as much work as unpacking. It is a claim that unpacking
 *  proves or refutes.
 *  @throws MoraineError `corrupt`, `limit`. */
export async function statedSize(
  source: ByteSource,
  wrapper: WrapperName,
  limits: Limits,
  signal?: AbortSignal,
): Promise<number | undefined> {
  if (wrapper === 'xz') return xzSize(source, limits, signal)
  if (wrapper === 'zstd') return zstdSize(source, signal)
  return undefined
}

function damagedXz(source: ByteSource, what: string, offset: number): MoraineError {
  return new MoraineError('corrupt', `the xz stream is damaged: ${what}`, { path: source.name, offset })
}

/** The sum of all streams, from the last to the first; each ends in an index of its blocks. */
async function xzSize(source: ByteSource, limits: Limits, signal?: AbortSignal): Promise<number> {
  let end = source.size
  let size = 0
  const blocks = { left: mostBlocks }
  while (end > 0) {
    const footer = new Uint8Array(12)
    // Streams are padded with groups of four zeros.
    for (;;) {
      if (end < 24) throw damagedXz(source, 'it ends early, or something else follows its end', end)
      await source.read(end - 12, footer, signal)
      if (viewOf(footer).getUint32(8, true) !== 0) break
      end -= 4
    }
    if (footer[10] !== 0x59 || footer[11] !== 0x5a)
      throw damagedXz(source, 'it ends early, or something else follows its end', end - 12)
    const indexBytes = (viewOf(footer).getUint32(4, true) + 1) * 4
    if (indexBytes > end - 24) throw damagedXz(source, 'its index has no room', end - 12)
    if (indexBytes > limits.tableBytes) {
      throw new MoraineError('limit', 'the index of the xz stream is too large', {
        path: source.name,
        field: 'index size',
        value: indexBytes,
        rule: `at most ${limits.tableBytes} bytes`,
      })
    }
    const index = new Uint8Array(indexBytes)
    await source.read(end - 12 - indexBytes, index, signal)
    const records = readIndex(source, index, end - 12 - indexBytes)
    const packed = records.reduce((sum, { stored }) => sum + Math.ceil(stored / 4) * 4, 0)
    const start = end - 24 - indexBytes - packed
    if (start < 0) throw damagedXz(source, 'its index tells of more than there is', end - 12 - indexBytes)
    await judgeBlocks(source, records, start + 12, blocks, signal)
    size += records.reduce((sum, record) => sum + record.size, 0)
    end = start
  }
  return size
}

interface XzRecord {
  /** Bytes of the block without its padding. */
  stored: number
  /** Bytes it unpacks to. */
  size: number
}

function readIndex(source: ByteSource, index: Uint8Array, offset: number): XzRecord[] {
  let at = 1
  const number = (): number => {
    let value = 0
    for (let unit = 1; at < index.length - 4; unit *= 128) {
      const byte = index[at++] as number
      value += (byte & 127) * unit
      if (byte < 128) break
    }
    return value
  }
  if (index[0] !== 0) throw damagedXz(source, 'it has no index', offset)
  const count = number()
  const records: XzRecord[] = []
  // A record takes two bytes at least.
  if (count > index.length / 2) throw damagedXz(source, 'its index has no sense', offset)
  for (let i = 0; i < count; i++) records.push({ stored: number(), size: number() })
  return records
}

/** Refuses blocks that want a dictionary of gigabytes, which a decoder would fill. */
async function judgeBlocks(
  source: ByteSource,
  records: readonly XzRecord[],
  start: number,
  blocks: { left: number },
  signal: AbortSignal | undefined,
): Promise<void> {
  let at = start
  for (const { stored, size } of records) {
    // A dictionary never holds more than the block.
    if (size > mostDictionary && blocks.left-- > 0) {
      const header = new Uint8Array(64)
      await readPadded(source, at, header, signal)
      const bytes = dictionaryBytes(header)
      if (bytes > mostDictionary) {
        throw new MoraineError('limit', 'the xz stream needs too large a dictionary', {
          path: source.name,
          offset: at,
          field: 'dictionary size',
          value: bytes,
          rule: `at most ${mostDictionary} bytes`,
        })
      }
    }
    at += Math.ceil(stored / 4) * 4
  }
}

/** The dictionary of a block with LZMA2 as its last filter; 0 where that is not so. */
function dictionaryBytes(header: Uint8Array): number {
  const flags = header[1] as number
  let at = 2
  const number = (): number => {
    let value = 0
    for (let unit = 1; at < header.length; unit *= 128) {
      const byte = header[at++] as number
      value += (byte & 127) * unit
      if (byte < 128) break
    }
    return value
  }
  if ((flags & 0x40) !== 0) number()
  if ((flags & 0x80) !== 0) number()
  for (let filter = 0; filter <= (flags & 3); filter++) {
    const id = number()
    const length = number()
    const property = header[at] ?? 0
    if (id === 0x21) return property > 39 ? 2 ** 32 - 1 : (2 | (property & 1)) * 2 ** ((property >> 1) + 11)
    at += length
  }
  return 0
}

/** Headers looked at for a zstd file: those of 8 GiB in whole blocks. */
const mostZstdBlocks = 65_536

/** The sum of all frames, where each says what it holds. Block headers are followed, so that another frame behind the first is seen. */
async function zstdSize(source: ByteSource, signal?: AbortSignal): Promise<number | undefined> {
  const window = new Uint8Array(4096)
  let start = Number.NEGATIVE_INFINITY
  const look = async (at: number): Promise<number> => {
    if (at < start || at + 32 > start + window.length) {
      start = at
      await readPadded(source, at, window, signal)
    }
    return at - start
  }
  let size = 0
  let blocks = 0
  try {
    for (let at = 0; at < source.size; ) {
      const frame = readZstdFrameHeader(window, await look(at))
      if (frame.skip !== undefined) {
        at += frame.skip
        continue
      }
      if (frame.contentSize === undefined) return undefined
      size += frame.contentSize
      at += frame.length
      for (let last = false; !last; blocks++) {
        if (blocks >= mostZstdBlocks || at >= source.size) return undefined
        const block = readZstdBlockHeader(window, await look(at))
        at += zstdBlockHeaderBytes + block.stored
        last = block.last
      }
      if (frame.hasChecksum) at += 4
    }
  } catch (error) {
    // Unpacking tells what is wrong.
    if (isMoraineError(error, 'corrupt') || isMoraineError(error, 'unsupported')) return undefined
    throw error
  }
  return size
}
