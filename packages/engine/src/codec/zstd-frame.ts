/** The outside of a zstd stream: frame and block headers. Facts: RFC 8878, sections 3.1.1.1, 3.1.1.2 and 3.1.2. */
import { MoraineError } from '../core/index.ts'
import { corruptZstd } from './zstd-workspace.ts'

const frameMagic = 0xfd2fb528
const skippableMagic = 0x184d2a50

/** A frame's header. */
export interface ZstdFrameHeader {
  /** Bytes to pass over, header included, when the frame holds nothing to decode. */
  skip?: number | undefined
  /** Bytes of the header. */
  length: number
  /** Bytes that the frame decodes to, where it says so. */
  contentSize?: number | undefined
  hasChecksum: boolean
}

/** Reads the frame header at byte `at` of `input`. A content size past 2^53 comes rounded.
 *  @throws MoraineError `corrupt` when it is none, or cut; `unsupported` when the frame needs a dictionary. */
export function readZstdFrameHeader(input: Uint8Array, at: number): ZstdFrameHeader {
  const magic = little(input, at, 4)
  if (magic >= skippableMagic && magic < skippableMagic + 16) {
    return { skip: 8 + little(input, at + 4, 4), length: 8, hasChecksum: false }
  }
  if (magic !== frameMagic) throw corruptZstd('no zstd frame', at)
  const descriptor = little(input, at + 4, 1)
  if (descriptor & 8) throw corruptZstd('a reserved bit of a frame header is set', at + 4)
  const singleSegment = (descriptor & 0x20) !== 0
  const dictionaryBytes = [0, 1, 2, 4][descriptor & 3] as number
  const sizeBytes = [singleSegment ? 1 : 0, 2, 4, 8][descriptor >> 6] as number
  let next = at + (singleSegment ? 5 : 6)
  if (little(input, next, dictionaryBytes) !== 0) {
    throw new MoraineError('unsupported', 'the zstd frame needs a dictionary', { field: 'zstd stream', offset: next })
  }
  next += dictionaryBytes
  const size = little(input, next, sizeBytes)
  next += sizeBytes
  return {
    length: next - at,
    contentSize: sizeBytes === 0 ? undefined : sizeBytes === 2 ? size + 256 : size,
    hasChecksum: (descriptor & 4) !== 0,
  }
}

/** A block's header. */
export interface ZstdBlockHeader {
  last: boolean
  /** 0 raw, 1 one byte repeated, 2 compressed. */
  type: number
  /** Bytes the block decodes to when raw or repeated, bytes it takes when compressed. */
  size: number
  /** Bytes of input behind the header. */
  stored: number
}

/** Bytes of a block's header. */
export const zstdBlockHeaderBytes = 3

/** Reads the block header at byte `at`.
 *  @throws MoraineError `corrupt`. */
export function readZstdBlockHeader(input: Uint8Array, at: number): ZstdBlockHeader {
  const header = little(input, at, zstdBlockHeaderBytes)
  const type = (header >> 1) & 3
  const size = header >> 3
  if (type === 3) throw corruptZstd('a block of unknown type', at)
  return { last: (header & 1) !== 0, type, size, stored: type === 1 ? 1 : size }
}

/** Length in bytes of the zstd frame (or skippable frame) that `input` begins with, checksum included, found by its headers alone; undefined when
 *  it begins with none or is cut. Decoders that refuse what follows a frame can be given exactly that much. */
export function zstdFrameLength(input: Uint8Array): number | undefined {
  try {
    const frame = readZstdFrameHeader(input, 0)
    let at = frame.skip ?? frame.length
    for (let last = frame.skip !== undefined; !last; ) {
      const block = readZstdBlockHeader(input, at)
      at += zstdBlockHeaderBytes + block.stored
      last = block.last
    }
    if (frame.hasChecksum) at += 4
    return at <= input.length ? at : undefined
  } catch (error) {
    if (error instanceof MoraineError) return undefined
    throw error
  }
}

function little(input: Uint8Array, at: number, bytes: number): number {
  if (at + bytes > input.length) throw corruptZstd('the zstd stream is cut', input.length)
  let value = 0
  for (let i = bytes - 1; i >= 0; i--) value = value * 256 + (input[at + i] as number)
  return value
}
