/** The sequences section of a zstd block: decodes and carries out "copy literals, copy a match".
 *  Facts: RFC 8878, sections 3.1.1.3.2, 3.1.1.4 (execution) and 3.1.1.5 (repeat offsets). */
import { copyMatch } from './copy-match.ts'
import {
  literalLengthBase,
  literalLengthBits,
  matchLengthBase,
  matchLengthBits,
  readSequenceTable,
} from './zstd-sequence-tables.ts'
import { backwardStart, corruptZstd, type ZstdWorkspace } from './zstd-workspace.ts'

/** Where the decoder writes. */
export interface ZstdOutput {
  bytes: Uint8Array
  view: DataView
  /** Where the frame began: matches do not reach before it. */
  frameStart: number
  filled: number
}

/** Reads the section in `block[at, end)` and writes what it and the block's `literalCount` literals mean, as far as the output goes.
 *  Returns false when the output was too small for all of it. @throws MoraineError `corrupt`. */
export function decodeSequences(
  workspace: ZstdWorkspace,
  literalCount: number,
  at: number,
  end: number,
  output: ZstdOutput,
): boolean {
  const { block } = workspace
  if (at >= end) throw corruptZstd('a block without sequences')
  const first = block[at] as number
  let count = first
  let next = at + 1
  if (first === 255) {
    count = (block[at + 1] as number) + ((block[at + 2] as number) << 8) + 0x7f00
    next = at + 3
  } else if (first >= 128) {
    count = ((first - 128) << 8) + (block[at + 1] as number)
    next = at + 2
  }
  if (count === 0) {
    if (next !== end) throw corruptZstd('a block has bytes left')
    return copyLiterals(workspace, 0, literalCount, output)
  }
  const modes = block[next++] as number
  if (next > end) throw corruptZstd('the sequences are cut')
  if ((modes & 3) !== 0) throw corruptZstd('the sequences have an unknown mode')
  next = readSequenceTable(workspace, 'literalLengths', modes >> 6, next, end)
  next = readSequenceTable(workspace, 'offsets', (modes >> 4) & 3, next, end)
  next = readSequenceTable(workspace, 'matchLengths', (modes >> 2) & 3, next, end)
  const used = runSequences(workspace, count, literalCount, next, end, output)
  return used >= 0 && copyLiterals(workspace, used, literalCount, output)
}

/** Writes `literals[from, to)`; false when the output was too small. */
function copyLiterals({ literals }: ZstdWorkspace, from: number, to: number, output: ZstdOutput): boolean {
  const fits = Math.min(to - from, output.bytes.length - output.filled)
  output.bytes.set(literals.subarray(from, from + fits), output.filled)
  output.filled += fits
  return fits === to - from
}

/** The hot loop. Bits are counted from the start of the block; each read is one load, without state in between.
 *  Returns the literals used, or −1 when the output was too small. */
function runSequences(
  workspace: ZstdWorkspace,
  count: number,
  literalCount: number,
  start: number,
  end: number,
  output: ZstdOutput,
): number {
  const { block, view, literalView, tables } = workspace
  const literalTable = tables.literalLengths.entries
  const offsetTable = tables.offsets.entries
  const matchTable = tables.matchLengths.entries
  const { bytes: target, view: targetView, frameStart } = output
  const targetEnd = target.length
  const startBit = start * 8
  let [repeat1, repeat2, repeat3] = workspace.repeats
  let { filled } = output
  let used = 0

  let bit = backwardStart(block, start, end)
  bit -= tables.literalLengths.log
  let literalState = bitsAt(view, bit, tables.literalLengths.log)
  bit -= tables.offsets.log
  let offsetState = bitsAt(view, bit, tables.offsets.log)
  bit -= tables.matchLengths.log
  let matchState = bitsAt(view, bit, tables.matchLengths.log)
  for (let left = count; ; ) {
    const literalEntry = literalTable[literalState] as number
    const offsetEntry = offsetTable[offsetState] as number
    const matchEntry = matchTable[matchState] as number

    const offsetCode = offsetEntry & 255
    let value: number
    if (offsetCode <= 24) {
      bit -= offsetCode
      value = (1 << offsetCode) + bitsAt(view, bit, offsetCode)
    } else {
      // More bits than one load is sure to have.
      bit -= offsetCode
      value = 2 ** offsetCode + bitsAt(view, bit + 16, offsetCode - 16) * 65536 + bitsAt(view, bit, 16)
    }
    const matchBits = matchLengthBits[matchEntry & 255] as number
    bit -= matchBits
    const matchLength = (matchLengthBase[matchEntry & 255] as number) + bitsAt(view, bit, matchBits)
    const lengthBits = literalLengthBits[literalEntry & 255] as number
    bit -= lengthBits
    const literalLength = (literalLengthBase[literalEntry & 255] as number) + bitsAt(view, bit, lengthBits)

    let distance: number
    if (value > 3) {
      distance = value - 3
      repeat3 = repeat2
      repeat2 = repeat1
      repeat1 = distance
    } else {
      // Without literals before it, the last offset cannot be meant: the numbers move by one.
      const which = literalLength === 0 ? value + 1 : value
      if (which === 1) distance = repeat1
      else {
        distance = which === 2 ? repeat2 : which === 3 ? repeat3 : repeat1 - 1
        if (which !== 2) repeat3 = repeat2
        repeat2 = repeat1
        repeat1 = distance
      }
    }

    left--
    if (left > 0) {
      const literalStep = (literalEntry >> 8) & 255
      bit -= literalStep
      literalState = (literalEntry >> 16) + bitsAt(view, bit, literalStep)
      const matchStep = (matchEntry >> 8) & 255
      bit -= matchStep
      matchState = (matchEntry >> 16) + bitsAt(view, bit, matchStep)
      const offsetStep = (offsetEntry >> 8) & 255
      bit -= offsetStep
      offsetState = (offsetEntry >> 16) + bitsAt(view, bit, offsetStep)
    }
    if (bit < startBit) throw corruptZstd('the sequences are cut')

    if (used + literalLength > literalCount) throw corruptZstd('the sequences want more literals than there are')
    const literalEnd = filled + literalLength
    if (literalLength > 32 || literalEnd + 8 > targetEnd) {
      output.filled = filled
      if (!copyLiterals(workspace, used, used + literalLength, output)) return -1
    } else {
      // In whole words: what is written behind the literals is yet to be decoded, and they have room to read on.
      for (let i = 0; i < literalLength; i += 8) {
        targetView.setInt32(filled + i, literalView.getInt32(used + i, true), true)
        targetView.setInt32(filled + i + 4, literalView.getInt32(used + i + 4, true), true)
      }
    }
    used += literalLength
    filled = literalEnd

    if (distance > filled - frameStart || distance < 1) throw corruptZstd('a match reaches before the beginning')
    const matchEnd = Math.min(filled + matchLength, targetEnd)
    copyMatch(target, targetView, filled, distance, matchEnd)
    if (matchEnd < filled + matchLength) {
      output.filled = matchEnd
      return -1
    }
    filled = matchEnd
    if (left === 0) break
  }
  if (bit !== startBit) throw corruptZstd('the sequences have bits left')
  workspace.repeats = [repeat1, repeat2, repeat3]
  output.filled = filled
  return used
}

/** The `count` (0 to 24) bits from `bit` of the block on. */
function bitsAt(view: DataView, bit: number, count: number): number {
  return (view.getInt32(bit >> 3, true) >>> (bit & 7)) & ((1 << count) - 1)
}
