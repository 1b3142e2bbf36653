/** What the parts of the zstd decoder share: the block at hand in a padded buffer, and the tables that later blocks of a frame may repeat. */
import { MoraineError } from '../core/index.ts'

/** Largest block, packed or not, in bytes. Fact: RFC 8878, section 3.1.1.2.4. */
export const maxBlockBytes = 128 * 1024

/* Bit readers go backwards and load whole words, so a damaged stream makes them look a little before and behind the block. */
const blockPadding = 32

/** A decoding table of finite state entropy. An entry is the next state's base << 16, the bits to add to it << 8, and the symbol. */
export interface FseTable {
  entries: Int32Array
  /** Bits of the first state; −1 while there is no table to repeat. */
  log: number
}

/** Which of the three codes of a sequence a table is for. */
export type SequenceCode = 'literalLengths' | 'offsets' | 'matchLengths'

/** The buffers and tables of one decoder. */
export interface ZstdWorkspace {
  /** The packed block from `blockStart` on, with padding on both sides. */
  block: Uint8Array
  view: DataView
  /** Decoded literals, with room to read and write whole words at the end. */
  literals: Uint8Array
  literalView: DataView
  /** Huffman table: bits << 8 | symbol, for each `huffmanBits` next bits. */
  huffman: Uint16Array
  /** Longest code in bits; 0 while there is no table to repeat. */
  huffmanBits: number
  tables: Record<SequenceCode, FseTable>
  /** The three offsets that can be repeated, the last used first. */
  repeats: [number, number, number]
}

/** Where the packed block begins in `ZstdWorkspace.block`. */
export const blockStart = blockPadding

let workspace: ZstdWorkspace | undefined

/** The workspace, ready for a new frame. Decoding is synchronous, so that one serves every call. */
export function workspaceForFrame(): ZstdWorkspace {
  if (workspace === undefined) {
    const block = new Uint8Array(maxBlockBytes + 2 * blockPadding)
    const literals = new Uint8Array(maxBlockBytes + blockPadding)
    workspace = {
      block,
      view: new DataView(block.buffer),
      literals,
      literalView: new DataView(literals.buffer),
      huffman: new Uint16Array(1 << 11),
      huffmanBits: 0,
      tables: {
        literalLengths: { entries: new Int32Array(1 << 9), log: -1 },
        offsets: { entries: new Int32Array(1 << 8), log: -1 },
        matchLengths: { entries: new Int32Array(1 << 9), log: -1 },
      },
      repeats: [1, 4, 8],
    }
  }
  workspace.huffmanBits = 0
  workspace.tables.literalLengths.log = -1
  workspace.tables.offsets.log = -1
  workspace.tables.matchLengths.log = -1
  workspace.repeats = [1, 4, 8]
  return workspace
}

/** The error for a stream that breaks a rule; the frame decoder adds where. */
export function corruptZstd(reason: string, offset?: number): MoraineError {
  return new MoraineError('corrupt', reason, { field: 'zstd stream', offset })
}

/** Index of the highest bit that is set in `value` (1 or more). */
export function highestBit(value: number): number {
  return 31 - Math.clz32(value)
}

/** Where a stream that is read backwards begins, as a bit position in the block: just below the highest bit of its last byte.
 *  Fact: RFC 8878, section 4.1. */
export function backwardStart(block: Uint8Array, start: number, end: number): number {
  const last = end > start ? (block[end - 1] as number) : 0
  if (last === 0) throw corruptZstd('a bit stream without its final bit')
  return (end - 1) * 8 + highestBit(last)
}
