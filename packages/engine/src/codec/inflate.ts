/** Inflate in pure TypeScript, synchronous: decodes one raw deflate or zlib stream into a buffer of known size, and stops at the end of
 *  the stream, whatever follows it. The platforms' own streams reject trailing bytes, which disk images always have (padding, the next unit).
 *  Facts: RFC 1951 (deflate), RFC 1950 (zlib). */
import { MoraineError } from '../core/index.ts'
import { adler32 } from './adler32.ts'
import { copyMatch } from './copy-match.ts'
import {
  type BlockTables,
  buildCodeLengthTable,
  buildDistanceTable,
  buildLiteralTable,
  codeLengthRootBits,
  distanceRootBits,
  entryIsEnd,
  entryIsInvalid,
  entryIsTable,
  entryKindMask,
  fixedTables,
  literalRootBits,
  newBlockTables,
} from './inflate-tables.ts'

/** Decodes a raw deflate stream at the beginning of `input` until `output` is full or the stream ends. Returns the bytes of input consumed;
 *  what follows them is not looked at. Distances of up to 32 KiB are accepted. What `output` held is lost even when this fails.
 *  @throws MoraineError `corrupt` when the stream is damaged or cut, or ends before `output` is full. */
export function inflateRaw(input: Uint8Array, output: Uint8Array): number {
  return inflate(input, 0, output).consumed
}

/** Decodes a zlib stream (RFC 1950), otherwise like `inflateRaw`. The checksum is verified when the stream ends where `output` does.
 *  @throws MoraineError `corrupt` likewise, and for a wrong header or checksum; `unsupported` for a preset dictionary. */
export function inflateZlib(input: Uint8Array, output: Uint8Array): number {
  const [method = 0, flags = 0] = input
  if (input.length < 2 || (method & 15) !== 8 || method >> 4 > 7 || ((method << 8) | flags) % 31 !== 0) {
    throw corrupt('incorrect zlib header', 0)
  }
  if (flags & 0x20) throw new MoraineError('unsupported', 'the zlib stream needs a preset dictionary')
  const { consumed, ended } = inflate(input, 2, output)
  if (!ended) return consumed
  if (consumed + 4 > input.length) throw corrupt('the zlib stream ends early', consumed)
  const stored = new DataView(input.buffer, input.byteOffset + consumed, 4).getUint32(0)
  if (stored !== adler32(output)) throw corrupt('the checksum of the zlib stream is wrong', consumed)
  return consumed + 4
}

/** Decodes the beginning of a raw deflate stream of unknown length. Returns the bytes written, and whether the stream ended with them (`consumed` bytes of
 *  input then belong to it); undefined when it is damaged, or cut before `output` was full. */
export function inflatePart(
  input: Uint8Array,
  output: Uint8Array,
): { filled: number; consumed: number; ended: boolean } | undefined {
  const { status, state } = runBlocks(input, 0, output)
  const consumed = bytesRead(state)
  if (status === ended && consumed <= input.length) return { filled: state.filled, consumed, ended: true }
  if (state.fullAt === undefined || state.fullAt > input.length) return undefined
  return { filled: output.length, consumed: state.fullAt, ended: false }
}

function corrupt(reason: string, offset: number): MoraineError {
  return new MoraineError('corrupt', reason, { field: 'deflate stream', offset })
}

/* How the decoding of a block or the stream ended. */
const more = 0 // end of a block, another follows
const ended = 1 // end of the last block
const full = 2 // output is full and more would come
const damaged = 3 // `state.reason` says why

/** Where a decoder stands between two symbols. */
interface State {
  input: Uint8Array
  /** Next byte of input. It may run past the end, reading zeros. */
  at: number
  /** The next `bits` bits of input, the first lowest; the rest is zero. */
  hold: number
  bits: number
  output: Uint8Array
  filled: number
  /** Bytes of input that the full output needed, once it is full. */
  fullAt: number | undefined
  reason: string
}

function runBlocks(input: Uint8Array, start: number, output: Uint8Array): { status: number; state: State } {
  const state: State = { input, at: start, hold: 0, bits: 0, output, filled: 0, fullAt: undefined, reason: '' }
  let status = more
  while (status === more) status = inflateBlock(state)
  return { status, state }
}

function inflate(input: Uint8Array, start: number, output: Uint8Array): { consumed: number; ended: boolean } {
  const { status, state } = runBlocks(input, start, output)
  const consumed = bytesRead(state)
  if (state.fullAt !== undefined && state.fullAt <= input.length) {
    // Damage and a missing end behind the last byte that was asked for are none of the caller's business.
    return status === ended && consumed <= input.length
      ? { consumed, ended: true }
      : { consumed: state.fullAt, ended: false }
  }
  if (consumed > input.length) throw corrupt('the deflate stream is cut', input.length)
  if (status === damaged) throw corrupt(state.reason, consumed)
  throw corrupt(`the deflate stream ends after ${state.filled} of ${output.length} bytes`, consumed)
}

/** Whole bytes of input that the bits taken so far belong to; more than the input has when it was cut. */
function bytesRead(state: State): number {
  return state.at - (state.bits >> 3)
}

function noteIfFull(state: State): void {
  if (state.fullAt === undefined && state.filled === state.output.length) state.fullAt = bytesRead(state)
}

function fail(state: State, reason: string): number {
  state.reason = reason
  return damaged
}

/** Takes `count` (0 to 16) bits. Past the end they are zeros. */
function takeBits(state: State, count: number): number {
  while (state.bits < count) {
    state.hold |= (state.input[state.at++] ?? 0) << state.bits
    state.bits += 8
  }
  const value = state.hold & ((1 << count) - 1)
  state.hold >>>= count
  state.bits -= count
  return value
}

function inflateBlock(state: State): number {
  noteIfFull(state)
  if (bytesRead(state) > state.input.length) return fail(state, '')
  const last = takeBits(state, 1)
  const type = takeBits(state, 2)
  let status: number
  if (type === 0) status = copyStored(state)
  else if (type === 1) status = inflateSymbols(state, fixedTables())
  else if (type === 2) {
    const tables = readTables(state)
    status = tables === undefined ? damaged : inflateSymbols(state, tables)
  } else status = fail(state, 'a deflate block of unknown type')
  return status === more && last === 1 ? ended : status
}

/** RFC 1951, section 3.2.4. */
function copyStored(state: State): number {
  // Whole bytes may wait in `hold`; the rest of a begun byte is padding.
  state.at = bytesRead(state)
  state.hold = 0
  state.bits = 0
  const { input, output, at } = state
  if (at + 4 > input.length) {
    state.at = input.length + 1
    return damaged
  }
  const length = (input[at] as number) | ((input[at + 1] as number) << 8)
  const check = (input[at + 2] as number) | ((input[at + 3] as number) << 8)
  if ((length ^ check) !== 0xffff) return fail(state, 'the length of a stored deflate block fails its check')
  const wanted = Math.min(length, output.length - state.filled)
  const copied = Math.min(wanted, input.length - at - 4)
  output.set(input.subarray(at + 4, at + 4 + copied), state.filled)
  state.filled += copied
  state.at = at + 4 + copied
  noteIfFull(state)
  if (copied === length) return more
  if (copied === wanted) return full
  state.at = input.length + 1
  return damaged
}

const codeLengthOrder = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]
/* Decoding is synchronous, so that one set of tables serves every call. */
const codeLengths = new Uint8Array(19)
const codeLengthTable = new Int32Array(1 << codeLengthRootBits)
const symbolLengths = new Uint8Array(286 + 30)
let dynamicTables: BlockTables | undefined

/** Reads the codes of a dynamic block: RFC 1951, section 3.2.7. */
function readTables(state: State): BlockTables | undefined {
  const literals = takeBits(state, 5) + 257
  const distances = takeBits(state, 5) + 1
  const written = takeBits(state, 4) + 4
  if (literals > 286 || distances > 30) return wrongTables(state, 'too many codes in a deflate block')
  codeLengths.fill(0)
  for (let i = 0; i < written; i++) codeLengths[codeLengthOrder[i] as number] = takeBits(state, 3)
  if (!buildCodeLengthTable(codeLengthTable, codeLengths)) {
    return wrongTables(state, 'the code lengths of a deflate block form no code')
  }

  const count = literals + distances
  for (let i = 0; i < count; ) {
    while (state.bits < codeLengthRootBits) {
      state.hold |= (state.input[state.at++] ?? 0) << state.bits
      state.bits += 8
    }
    const entry = codeLengthTable[state.hold & ((1 << codeLengthRootBits) - 1)] as number
    state.hold >>>= entry & 15
    state.bits -= entry & 15
    const symbol = entry >> 16
    if (symbol < 16) {
      symbolLengths[i++] = symbol
      continue
    }
    if (symbol === 16 && i === 0) return wrongTables(state, 'a deflate block repeats a code length before the first')
    const value = symbol === 16 ? (symbolLengths[i - 1] as number) : 0
    const times =
      symbol === 16 ? 3 + takeBits(state, 2) : symbol === 17 ? 3 + takeBits(state, 3) : 11 + takeBits(state, 7)
    if (i + times > count) return wrongTables(state, 'a deflate block has too many code lengths')
    symbolLengths.fill(value, i, i + times)
    i += times
  }
  if (symbolLengths[256] === 0) return wrongTables(state, 'a deflate block has no code for its end')

  dynamicTables ??= newBlockTables()
  if (!buildLiteralTable(dynamicTables.literals, symbolLengths.subarray(0, literals))) {
    return wrongTables(state, 'the literals and lengths of a deflate block form no code')
  }
  if (!buildDistanceTable(dynamicTables.distances, symbolLengths.subarray(literals, count))) {
    return wrongTables(state, 'the distances of a deflate block form no code')
  }
  return dynamicTables
}

function wrongTables(state: State, reason: string): undefined {
  state.reason = reason
  return undefined
}

const literalMask = (1 << literalRootBits) - 1
const distanceMask = (1 << distanceRootBits) - 1

/** The hot loop. It keeps the state in locals and puts it back when it ends.
 *
 *  A refill loads 32 bits over those that are left and counts the whole bytes that fitted: 24 to 31 bits afterwards, without a branch that
 *  the processor would guess wrong. (What `hold` has above `bits` are the right bits, too, only not counted.) That is enough for a length
 *  code with its extra bits (20), and for a distance code (15), after which the extra bits (13) may need another refill. */
function inflateSymbols(state: State, tables: BlockTables): number {
  const { input, output } = state
  const { literals, distances } = tables
  const outputEnd = output.length
  const source = new DataView(input.buffer, input.byteOffset, input.byteLength)
  const target = new DataView(output.buffer, output.byteOffset, output.byteLength)
  let { at, hold, bits, filled } = state
  const wordEnd = input.length - 4
  const overrun = input.length + 8
  let status = more
  for (;;) {
    if (at > overrun) {
      status = damaged
      break
    }
    hold |= (at <= wordEnd ? source.getInt32(at, true) : lastWordAt(source, at)) << bits
    at += (31 - bits) >> 3
    bits |= 24

    let entry = literals[hold & literalMask] as number
    if (entry >= 0 && filled + 2 <= outputEnd) {
      // Literals come in runs: take two for one refill.
      hold >>>= entry & 15
      bits -= entry & 15
      output[filled++] = entry >> 16
      entry = literals[hold & literalMask] as number
      if (entry >= 0) {
        hold >>>= entry & 15
        bits -= entry & 15
        output[filled++] = entry >> 16
      }
      continue
    }
    if ((entry & entryKindMask) === entryIsTable) {
      entry = literals[baseOf(entry) + ((hold >>> literalRootBits) & ((1 << extraBits(entry)) - 1))] as number
    }
    if ((entry & entryKindMask) === entryIsEnd) {
      // What was written needed only the bits before this code.
      state.at = at
      state.bits = bits
      state.filled = filled
      noteIfFull(state)
      hold >>>= entry & 15
      bits -= entry & 15
      break
    }
    if (filled === outputEnd) {
      status = full
      break
    }
    hold >>>= entry & 15
    bits -= entry & 15
    if (entry >= 0) {
      output[filled++] = entry >> 16
      continue
    }
    if ((entry & entryKindMask) === entryIsInvalid) {
      status = fail(state, 'an unknown code for a literal or length in a deflate block')
      break
    }
    let extra = extraBits(entry)
    const length = baseOf(entry) + (hold & ((1 << extra) - 1))
    hold >>>= extra
    bits -= extra

    hold |= (at <= wordEnd ? source.getInt32(at, true) : lastWordAt(source, at)) << bits
    at += (31 - bits) >> 3
    bits |= 24
    entry = distances[hold & distanceMask] as number
    if ((entry & entryKindMask) === entryIsTable) {
      entry = distances[baseOf(entry) + ((hold >>> distanceRootBits) & ((1 << extraBits(entry)) - 1))] as number
    }
    if ((entry & entryKindMask) === entryIsInvalid) {
      status = fail(state, 'an unknown code for a distance in a deflate block')
      break
    }
    hold >>>= entry & 15
    bits -= entry & 15
    extra = extraBits(entry)
    if (bits < extra) {
      hold |= (at <= wordEnd ? source.getInt32(at, true) : lastWordAt(source, at)) << bits
      at += (31 - bits) >> 3
      bits |= 24
    }
    const distance = baseOf(entry) + (hold & ((1 << extra) - 1))
    hold >>>= extra
    bits -= extra
    if (distance > filled) {
      status = fail(state, 'a distance in a deflate block reaches before the beginning')
      break
    }
    const end = filled + length
    if (end > outputEnd) {
      copyMatch(output, target, filled, distance, outputEnd)
      filled = outputEnd
      status = full
      break
    }
    copyMatch(output, target, filled, distance, end)
    filled = end
  }
  state.at = at
  state.bits = bits
  state.hold = hold & ((1 << bits) - 1)
  state.filled = filled
  noteIfFull(state)
  return status
}

/** The last bytes of input as a word, the first lowest, zeros behind them. */
function lastWordAt(source: DataView, at: number): number {
  let word = 0
  for (let i = 0; at + i < source.byteLength; i++) word |= source.getUint8(at + i) << (8 * i)
  return word
}

function baseOf(entry: number): number {
  return (entry >> 16) & 0x7fff
}

function extraBits(entry: number): number {
  return (entry >> 4) & 15
}
