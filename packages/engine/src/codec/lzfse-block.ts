/** The entropy-coded blocks of LZFSE: two bit streams of finite state entropy that are read backwards, first the literals, then triplets of a literal run, a match
 *  and its distance. Facts: the format as Apple's reference implementation (lzfse, version 1.0) defines it. */
import { copyMatch } from './copy-match.ts'
import { corruptLzfse, type LzfseWorkspace, lzfseCodes } from './lzfse-workspace.ts'

/** Bits behind the symbol of each value: a value is its symbol's base and what they add to it. Of distances there are four symbols with each number of bits. */
const literalLengthBits = Uint8Array.of(...new Array<number>(16).fill(0), 2, 3, 5, 8)
const matchLengthBits = Uint8Array.of(...new Array<number>(16).fill(0), 3, 5, 8, 11)
const distanceBits = Uint8Array.from({ length: 64 }, (_, symbol) => symbol >> 2)

/** The lowest values of symbols, each where the values of the symbol before end. */
function bases(bits: Uint8Array): Int32Array {
  const values = new Int32Array(bits.length)
  for (let symbol = 1; symbol < bits.length; symbol++) {
    values[symbol] = (values[symbol - 1] as number) + (1 << (bits[symbol - 1] as number))
  }
  return values
}

const literalLengthBase = bases(literalLengthBits)
const matchLengthBase = bases(matchLengthBits)
const distanceBase = bases(distanceBits)

/** A bit stream that is read from its end. Positions are counted in bits from its first byte. */
class BackwardBits {
  readonly #view: DataView
  readonly #start: number
  #bit: number

  /** The stream in bytes [start, end) of `view`, of which the last `-unused` bits are not part; at least three bytes must follow it. */
  constructor(view: DataView, start: number, end: number, unused: number) {
    this.#view = view
    this.#start = start
    this.#bit = (end - start) * 8 + unused
    if (this.#bit < 0 || (unused < 0 && view.getUint8(end - 1) >> (8 + unused) !== 0)) {
      throw corruptLzfse('a bit stream of a block does not end where it should', end)
    }
  }

  /** The next bits, 0 to 23. */
  pull(count: number): number {
    const bit = this.#bit - count
    this.#bit = bit
    if (bit < 0) throw corruptLzfse('a bit stream of a block ends early', this.#start)
    return (this.#view.getInt32(this.#start + (bit >> 3), true) >>> (bit & 7)) & ((1 << count) - 1)
  }

  /** Nothing may be left but the zeros that writers put in front. */
  finish(): void {
    const view = this.#view
    const last = this.#start + (this.#bit >> 3)
    let left = this.#bit & 7 ? view.getUint8(last) & ((1 << (this.#bit & 7)) - 1) : 0
    for (let at = this.#start; at < last; at++) left |= view.getUint8(at)
    if (left !== 0) throw corruptLzfse('a bit stream of a block is not used up', this.#start)
  }
}

/** Builds the decoding table of `frequencies[from, from + symbols)`: each symbol has as many states as it is frequent, in the order of the symbols. */
function buildTable(entries: Int32Array, frequencies: Uint16Array, from: number, symbols: number, log: number): void {
  const size = 1 << log
  let state = 0
  for (let symbol = 0; symbol < symbols; symbol++) {
    const frequency = frequencies[from + symbol] as number
    if (state + frequency > size) throw corruptLzfse('the frequencies of a block are too many')
    for (let next = frequency; next < 2 * frequency; next++) {
      const bits = log - (31 - Math.clz32(next))
      entries[state++] = (((next << bits) - size) << 16) | (bits << 8) | symbol
    }
  }
  if (state !== size) throw corruptLzfse('the frequencies of a block are too few')
}

/** Decodes the block whose header lies in the workspace and whose streams begin at `at` of `view`, to `output[to]` and on, as far as it goes; at least three
 *  bytes must follow the streams. Matches may reach back over everything before `to`. Returns where the output ends. @throws MoraineError `corrupt`. */
export function decodeLzfseBlock(
  workspace: LzfseWorkspace,
  view: DataView,
  at: number,
  output: Uint8Array,
  outputView: DataView,
  to: number,
): number {
  const { header } = workspace
  if (header.rawBytes === 0) return to
  const middle = at + header.literalBytes
  const literals = new BackwardBits(view, at, middle, header.literalBits)
  const triplets = new BackwardBits(view, middle, middle + header.tripletBytes, header.tripletBits)
  if (header.literals > 0) decodeLiterals(workspace, literals)
  return runTriplets(workspace, triplets, output, outputView, to)
}

/** Four states take turns. */
function decodeLiterals({ header, literalTable, literals }: LzfseWorkspace, stream: BackwardBits): void {
  const { symbols, log } = lzfseCodes.literals
  const { states, frequencies } = header
  buildTable(literalTable, frequencies, frequencies.length - symbols, symbols, log)
  let a = states[0] as number
  let b = states[1] as number
  let c = states[2] as number
  let d = states[3] as number
  for (let i = 0; i < header.literals; i += 4) {
    const entryA = literalTable[a] as number
    const entryB = literalTable[b] as number
    const entryC = literalTable[c] as number
    const entryD = literalTable[d] as number
    a = (entryA >> 16) + stream.pull((entryA >> 8) & 0xff)
    b = (entryB >> 16) + stream.pull((entryB >> 8) & 0xff)
    c = (entryC >> 16) + stream.pull((entryC >> 8) & 0xff)
    d = (entryD >> 16) + stream.pull((entryD >> 8) & 0xff)
    literals[i] = entryA
    literals[i + 1] = entryB
    literals[i + 2] = entryC
    literals[i + 3] = entryD
  }
  stream.finish()
}

function runTriplets(
  workspace: LzfseWorkspace,
  stream: BackwardBits,
  output: Uint8Array,
  outputView: DataView,
  start: number,
): number {
  const { header, literalLengths, matchLengths, distances, literals } = workspace
  const { frequencies, states } = header
  buildTable(literalLengths, frequencies, 0, 20, lzfseCodes.literalLengths.log)
  buildTable(matchLengths, frequencies, 20, 20, lzfseCodes.matchLengths.log)
  buildTable(distances, frequencies, 40, 64, lzfseCodes.distances.log)
  let literalState = states[4] as number
  let matchState = states[5] as number
  let distanceState = states[6] as number
  const stop = start + header.rawBytes
  let used = 0
  let distance = 0
  let to = start
  for (let n = header.triplets; n > 0; n--) {
    if (to === output.length && to < stop) return to
    let entry = literalLengths[literalState] as number
    let extra = literalLengthBits[entry & 0xff] as number
    let bits = stream.pull(((entry >> 8) & 0xff) + extra)
    literalState = (entry >> 16) + (bits >> extra)
    const run = (literalLengthBase[entry & 0xff] as number) + (bits & ((1 << extra) - 1))

    entry = matchLengths[matchState] as number
    extra = matchLengthBits[entry & 0xff] as number
    bits = stream.pull(((entry >> 8) & 0xff) + extra)
    matchState = (entry >> 16) + (bits >> extra)
    const match = (matchLengthBase[entry & 0xff] as number) + (bits & ((1 << extra) - 1))

    entry = distances[distanceState] as number
    extra = distanceBits[entry & 0xff] as number
    bits = stream.pull(((entry >> 8) & 0xff) + extra)
    distanceState = (entry >> 16) + (bits >> extra)
    // 0 is the distance of the match before.
    distance = (distanceBase[entry & 0xff] as number) + (bits & ((1 << extra) - 1)) || distance

    if (to + run + match > stop) throw corruptLzfse('a block holds more bytes than it says')
    if (used + run > header.literals) throw corruptLzfse('a block uses more literals than it has')
    const literalEnd = Math.min(to + run, output.length)
    if (run > 32) output.set(literals.subarray(used, used + literalEnd - to), to)
    else for (let from = used, i = to; i < literalEnd; i++) output[i] = literals[from++] as number
    if (literalEnd < to + run) return literalEnd
    used += run
    to = literalEnd
    if (distance === 0 || distance > to) throw corruptLzfse('a match points before the beginning')
    const end = Math.min(to + match, output.length)
    copyMatch(output, outputView, to, distance, end)
    if (end < to + match) return end
    to = end
  }
  stream.finish()
  if (to < stop) throw corruptLzfse('a block holds fewer bytes than it says')
  return to
}
