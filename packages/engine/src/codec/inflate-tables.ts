/** Decoding tables of deflate's Huffman codes: two levels, indexed by the next bits of the stream.
 *  Facts: RFC 1951, sections 3.2.2 (canonical codes), 3.2.5 (lengths and distances), 3.2.6 (fixed codes). Which code sets are
 *  refused follows zlib: over-subscribed ones, and incomplete ones unless there is just one code, of one bit. */

/* An entry of a table, in 32 bits:
 *   0-3    bits of the whole code
 *   4-7    extra bits that follow (lengths, distances), or the index bits of a second-level table
 *   8-9    what it is, below
 *   16-30  literal byte, base length, base distance, or where the second-level table begins
 *   31     set for everything but literals, so that one comparison with 0 finds those */
/** Set for everything but literals. */
export const entryNotLiteral = 1 << 31
/** What an entry is when it is no literal: 0 for a length or distance, or one of the three below. */
export const entryKindMask = 3 << 8
/** The end of the block. */
export const entryIsEnd = 1 << 8
/** Go on in a second-level table. */
export const entryIsTable = 2 << 8
/** No code begins so, or its symbol means nothing. */
export const entryIsInvalid = 3 << 8

/** First-level index bits of the table of literals and lengths. */
export const literalRootBits = 10
/** First-level index bits of the table of distances. */
export const distanceRootBits = 9
/** Index bits of the table of code lengths, which has one level. */
export const codeLengthRootBits = 7

/* Entries for the worst complete code of 288 (32) symbols and 15 bits at these root sizes, as zlib's `enough` computes them, rounded up. */
const literalTableEntries = 1408
const distanceTableEntries = 640

/** Room for one block's tables. */
export interface BlockTables {
  literals: Int32Array
  distances: Int32Array
}

/** New, empty tables. */
export function newBlockTables(): BlockTables {
  return { literals: new Int32Array(literalTableEntries), distances: new Int32Array(distanceTableEntries) }
}

const invalidEntry = entryNotLiteral | entryIsInvalid

/** For each symbol, its entry without the code's own length. */
const literalSymbols = new Int32Array(288).fill(invalidEntry)
const distanceSymbols = new Int32Array(32).fill(invalidEntry)
const codeLengthSymbols = Int32Array.from({ length: 19 }, (_, symbol) => symbol << 16)

for (let symbol = 0; symbol < 256; symbol++) literalSymbols[symbol] = symbol << 16
literalSymbols[256] = entryNotLiteral | entryIsEnd
let lengthBase = 3
for (let symbol = 257; symbol < 285; symbol++) {
  const extra = symbol < 265 ? 0 : (symbol - 261) >> 2
  literalSymbols[symbol] = entryNotLiteral | (lengthBase << 16) | (extra << 4)
  lengthBase += 1 << extra
}
literalSymbols[285] = entryNotLiteral | (258 << 16)
let distanceBase = 1
for (let symbol = 0; symbol < 30; symbol++) {
  const extra = symbol < 4 ? 0 : (symbol >> 1) - 1
  distanceSymbols[symbol] = entryNotLiteral | (distanceBase << 16) | (extra << 4)
  distanceBase += 1 << extra
}

/** Builds the literal and length table. False when the lengths form no usable code. */
export function buildLiteralTable(table: Int32Array, lengths: Uint8Array): boolean {
  return buildTable(table, lengths, literalSymbols, literalRootBits, false)
}

/** Builds the distance table. False when the lengths form no usable code. */
export function buildDistanceTable(table: Int32Array, lengths: Uint8Array): boolean {
  return buildTable(table, lengths, distanceSymbols, distanceRootBits, false)
}

/** Builds the table of the code in which code lengths are written; it must be complete. Entries give the symbol as a "literal". */
export function buildCodeLengthTable(table: Int32Array, lengths: Uint8Array): boolean {
  return buildTable(table, lengths, codeLengthSymbols, codeLengthRootBits, true)
}

const maxBits = 15
const countByLength = new Int32Array(maxBits + 1)
const placeByLength = new Int32Array(maxBits + 2)
const sorted = new Uint16Array(288)

function buildTable(
  table: Int32Array,
  lengths: Uint8Array,
  symbols: Int32Array,
  rootBits: number,
  mustBeComplete: boolean,
): boolean {
  countByLength.fill(0)
  for (let symbol = 0; symbol < lengths.length; symbol++) add(countByLength, lengths[symbol] as number, 1)
  let longest = maxBits
  while (longest > 0 && countByLength[longest] === 0) longest--
  let left = 1
  for (let bits = 1; bits <= maxBits; bits++) {
    left = left * 2 - (countByLength[bits] as number)
    if (left < 0) return false
  }
  if (left > 0) {
    if (mustBeComplete || longest > 1) return false
    table.fill(invalidEntry | 1, 0, 1 << rootBits)
  }

  // Symbols in the order of their codes: by length, then by number.
  placeByLength[1] = 0
  for (let bits = 1; bits <= maxBits; bits++) {
    placeByLength[bits + 1] = (placeByLength[bits] as number) + (countByLength[bits] as number)
  }
  const used = placeByLength[maxBits + 1] as number
  for (let symbol = 0; symbol < lengths.length; symbol++) {
    const bits = lengths[symbol] as number
    if (bits !== 0) sorted[add(placeByLength, bits, 1)] = symbol
  }

  const rootSize = 1 << rootBits
  let code = 0 // as the stream has it: first bit of the code lowest
  let next = rootSize // where the next second-level table goes
  let prefix = -1
  let tableStart = 0
  let tableBits = rootBits
  for (let i = 0; i < used; i++) {
    const symbol = sorted[i] as number
    const bits = lengths[symbol] as number
    let above = 0
    if (bits > rootBits) {
      above = rootBits
      if ((code & (rootSize - 1)) !== prefix) {
        prefix = code & (rootSize - 1)
        tableBits = secondLevelBits(bits, rootBits, longest)
        tableStart = next
        next += 1 << tableBits
        table[prefix] = entryNotLiteral | entryIsTable | (tableStart << 16) | (tableBits << 4)
      }
    }
    const entry = (symbols[symbol] as number) | bits
    const step = 1 << (bits - above)
    const end = tableStart + (1 << tableBits)
    for (let at = tableStart + (code >>> above); at < end; at += step) table[at] = entry
    add(countByLength, bits, -1)
    code = nextCode(code, bits)
  }
  return true
}

/** Adds to one count and returns what it was. */
function add(counts: Int32Array, at: number, amount: number): number {
  const before = counts[at] as number
  counts[at] = before + amount
  return before
}

/** How many more bits a second-level table needs that begins with a code of `bits` bits: until the codes left at each length fill it. */
function secondLevelBits(bits: number, rootBits: number, longest: number): number {
  let index = bits - rootBits
  let free = 1 << index
  while (index + rootBits < longest) {
    free -= countByLength[index + rootBits] as number
    if (free <= 0) break
    index++
    free <<= 1
  }
  return index
}

/** The canonical code after `code`, both with their first bit lowest: adds one at bit `bits - 1`, carrying downwards. */
function nextCode(code: number, bits: number): number {
  let bit = 1 << (bits - 1)
  while (code & bit) bit >>>= 1
  return bit === 0 ? 0 : (code & (bit - 1)) | bit
}

let fixed: BlockTables | undefined

/** The tables of blocks with fixed codes. */
export function fixedTables(): BlockTables {
  if (fixed === undefined) {
    fixed = newBlockTables()
    const lengths = new Uint8Array(288).fill(8).fill(9, 144, 256).fill(7, 256, 280)
    buildLiteralTable(fixed.literals, lengths)
    buildDistanceTable(fixed.distances, new Uint8Array(32).fill(5))
  }
  return fixed
}
