/** Makes LZFSE streams for tests, with every kind of block and instruction, some of which Apple's encoder never writes. Independent of the engine. */
import type { Random } from '../support/random.ts'

/** What a block is packed as. */
export type LzfseKind = 'plain' | 'lzvn' | 'v1' | 'v2'

/** So many literals, then a match (0: none) from so far back. */
interface Triplet {
  run: number
  match: number
  distance: number
}

const most = { run: 315, match: 2359, distance: 262_139, lzvnDistance: 65_535, literals: 40_000, triplets: 10_000 }

/** Finds matches for `bytes[start, end)` in all that lies before: the last place with the same three bytes. Chance leaves some out and cuts others. */
function findTriplets(bytes: Uint8Array, start: number, end: number, farthest: number, random: Random): Triplet[] {
  const places = new Map<number, number>()
  const key = (at: number): number =>
    (bytes[at] as number) | ((bytes[at + 1] as number) << 8) | ((bytes[at + 2] as number) << 16)
  for (let at = Math.max(0, start - farthest); at < start && at + 3 <= end; at++) places.set(key(at), at)
  const found: Triplet[] = []
  let literals = start
  for (let at = start; at + 3 <= end; ) {
    const place = places.get(key(at))
    places.set(key(at), at)
    if (place === undefined || at - place > farthest || random.bool(0.02)) {
      at++
      continue
    }
    let match = 3
    while (at + match < end && bytes[place + match] === bytes[at + match]) match++
    if (match > 6 && random.bool(0.1)) match = random.int(3, match)
    found.push({ run: at - literals, match, distance: at - place })
    for (let i = at + 1; i < at + match && i + 3 <= end; i++) places.set(key(i), i)
    at += match
    literals = at
  }
  if (literals < end) found.push({ run: end - literals, match: 0, distance: 1 })
  return found
}

/** Packs `bytes` in blocks of random sizes, each as one of `kinds`, with the mark of the end. */
export function lzfseOf(bytes: Uint8Array, random: Random, kinds: readonly LzfseKind[]): Buffer {
  const parts: Uint8Array[] = []
  for (let at = 0; at < bytes.length; ) {
    const end = Math.min(bytes.length, at + random.pick([1, 20, 500, 5000, 100_000, bytes.length]))
    parts.push(lzfseBlocks(bytes, at, end, random.pick(kinds), random))
    at = end
  }
  return Buffer.concat([...parts, Buffer.from('bvx$')])
}

/** Packs `bytes[start, end)`, with matches in all that lies before: in one block, or more where one cannot hold it. */
export function lzfseBlocks(bytes: Uint8Array, start: number, end: number, kind: LzfseKind, random: Random): Buffer {
  if (kind === 'v1' || kind === 'v2') return Buffer.concat([...entropyBlocks(bytes, start, end, kind, random)])
  if (kind === 'plain') return Buffer.concat([Buffer.from('bvx-'), u32(end - start), bytes.subarray(start, end)])
  const code = lzvnOf(bytes, start, end, random)
  return Buffer.concat([Buffer.from('bvxn'), u32(end - start), u32(code.length), code])
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

function lzvnOf(bytes: Uint8Array, start: number, end: number, random: Random): Uint8Array {
  const code: number[] = []
  let at = start
  let last = 0
  const take = (count: number): void => {
    for (let i = 0; i < count; i++) code.push(bytes[at++] as number)
  }
  for (const { run, match, distance } of findTriplets(bytes, start, end, most.lzvnDistance, random)) {
    if (random.bool(0.05)) code.push(random.pick([0x0e, 0x16]))
    const kept = match === 0 ? 0 : Math.min(run, random.int(0, 3))
    for (let left = run - kept; left > 0; ) {
      const count = Math.min(left, random.bool(0.8) ? 271 : 15)
      if (count < 16) code.push(0xe0 | count)
      else code.push(0xe0, count - 16)
      take(count)
      left -= count
    }
    if (match === 0) continue
    // Lengths that fit beside so many literals; other codes mean something else.
    const short = Math.min(match, [10, 8, 6, 4][kept] as number)
    const medium = Math.min(match, 34)
    const head = (kept << 6) | ((short - 3) << 3)
    const ways: { length: number; code: number[] }[] = [
      { length: short, code: [head | 7, distance & 255, distance >> 8] },
    ]
    if (distance < 1536) ways.push({ length: short, code: [head | (distance >> 8), distance & 255] })
    if (distance < 16_384) {
      const bits = medium - 3
      const bytes = [0xa0 | (kept << 3) | (bits >> 2), ((distance & 63) << 2) | (bits & 3), distance >> 6]
      ways.push({ length: medium, code: bytes })
    }
    if (distance === last) ways.push(kept > 0 ? { length: short, code: [head | 6] } : { length: 0, code: [] })
    const way = random.pick(ways)
    code.push(...way.code)
    let left = match - way.length
    take(kept)
    while (left > 0) {
      const count = Math.min(left, random.bool(0.8) ? 271 : 15)
      if (count < 16) code.push(0xf0 | count)
      else code.push(0xf0, count - 16)
      left -= count
    }
    at += match
    last = distance
  }
  return Uint8Array.from([...code, 6, 0, 0, 0, 0, 0, 0, 0])
}

const runBits = [...new Array<number>(16).fill(0), 2, 3, 5, 8]
const matchBits = [...new Array<number>(16).fill(0), 3, 5, 8, 11]
const farBits = Array.from({ length: 64 }, (_, i) => Math.floor(i / 4))

/** The symbol of a value, and what is added to the symbol's lowest value. */
function symbolOf(value: number, extra: readonly number[]): { symbol: number; rest: number } {
  let base = 0
  for (const [symbol, bits] of extra.entries()) {
    if (value < base + 2 ** bits) return { symbol, rest: value - base }
    base += 2 ** bits
  }
  throw new Error(`${value} has no symbol`)
}

/** Bits from the lowest of the first byte on. */
class BitWriter {
  readonly #bytes: number[]
  #held = 0
  #count = 0

  constructor(bytes: number[] = []) {
    this.#bytes = bytes
  }

  push(value: number, count: number): void {
    this.#held += value * 2 ** this.#count
    this.#count += count
    while (this.#count >= 8) {
      this.#bytes.push(this.#held % 256)
      this.#held = Math.floor(this.#held / 256)
      this.#count -= 8
    }
  }

  /** The bytes, and minus the bits of the last that are not used. */
  end(): { bytes: Uint8Array; bits: number } {
    const bits = this.#count === 0 ? 0 : this.#count - 8
    if (bits < 0) this.#bytes.push(this.#held)
    return { bytes: Uint8Array.from(this.#bytes), bits }
  }
}

/** A code of finite state entropy, by the published formula. */
class Code {
  readonly frequencies: number[]
  readonly #size: number
  readonly #starts: number[] = []
  readonly #places: (Int32Array | undefined)[] = []
  state = 0

  /** Frequencies after how often the symbols occur, each at least once; chance bends them. */
  constructor(occurrences: readonly number[], size: number, random: Random) {
    this.#size = size
    const bend = random.pick([0, 0, 0.5, 3])
    const weights = occurrences.map((count) => (count === 0 ? 0 : count * (1 + random.next() * bend)))
    const sum = weights.reduce((a, b) => a + b, 0)
    this.frequencies = weights.map((weight) => (weight === 0 ? 0 : Math.max(1, Math.floor((weight / sum) * size))))
    const largest = (): number => this.frequencies.indexOf(Math.max(...this.frequencies))
    let left = size - this.frequencies.reduce((a, b) => a + b, 0)
    if (sum === 0) this.frequencies[0] = size
    else if (left > 0) this.frequencies[largest()] = (this.frequencies[largest()] as number) + left
    for (; left < 0; left++) this.frequencies[largest()] = (this.frequencies[largest()] as number) - 1
    let start = 0
    for (const frequency of this.frequencies) {
      this.#starts.push(start)
      start += frequency
    }
  }

  /** For each state that follows a symbol: the state that gives the symbol and leads there, and the bits to write: state | bits << 10 | value << 14. */
  #placesOf(symbol: number): Int32Array {
    const places = new Int32Array(this.#size)
    const frequency = this.frequencies[symbol] as number
    const start = this.#starts[symbol] as number
    const k = Math.clz32(frequency) - Math.clz32(this.#size)
    const longer = ((2 * this.#size) >> k) - frequency
    for (let j = 0; j < frequency; j++) {
      const bits = j < longer ? k : k - 1
      const base = j < longer ? ((frequency + j) << k) - this.#size : (j - longer) << (k - 1)
      for (let value = 0; value < 2 ** bits; value++) places[base + value] = (start + j) | (bits << 10) | (value << 14)
    }
    return places
  }

  /** Goes from the state that is to follow to the one that gives `symbol`, and writes the bits, with `rest` in the `extra` bits below them. */
  encode(writer: BitWriter, symbol: number, rest = 0, extra = 0): void {
    this.#places[symbol] ??= this.#placesOf(symbol)
    const place = this.#places[symbol]?.[this.state] as number
    writer.push((place >> 14) * 2 ** extra + rest, ((place >> 10) & 15) + extra)
    this.state = place & 1023
  }
}

function countOf(symbols: readonly number[], count: number): number[] {
  const counts = new Array<number>(count).fill(0)
  for (const symbol of symbols) counts[symbol] = (counts[symbol] as number) + 1
  return counts
}

/** As many blocks as the bounds of a block ask for. */
function* entropyBlocks(
  bytes: Uint8Array,
  start: number,
  end: number,
  kind: 'v1' | 'v2',
  random: Random,
): Iterable<Uint8Array> {
  let triplets: Triplet[] = []
  let literals: number[] = []
  let size = 0
  let at = start
  const add = function* (run: number, match: number, distance: number): Iterable<Uint8Array> {
    if (triplets.length === most.triplets || literals.length + run > most.literals) {
      yield entropyBlock(triplets, literals, size, kind, random)
      triplets = []
      literals = []
      size = 0
    }
    triplets.push({ run, match, distance })
    for (let i = 0; i < run; i++) literals.push(bytes[at + i] as number)
    at += run + match
    size += run + match
  }
  for (let { run, match, distance } of findTriplets(bytes, start, end, most.distance, random)) {
    for (; run > most.run; run -= most.run) yield* add(most.run, 0, 1)
    for (; match > most.match; match -= most.match) {
      yield* add(run, most.match, distance)
      run = 0
    }
    yield* add(run, match, distance)
  }
  yield entropyBlock(triplets, literals, size, kind, random)
}

function entropyBlock(
  triplets: readonly Triplet[],
  literals: readonly number[],
  size: number,
  kind: 'v1' | 'v2',
  random: Random,
): Uint8Array {
  const padded = [...literals, ...new Array<number>((4 - (literals.length % 4)) % 4).fill(literals[0] ?? 0)]
  const literalCode = new Code(countOf(padded, 256), 1024, random)
  const literalWriter = new BitWriter()
  const literalStates = [0, 0, 0, 0]
  for (let i = padded.length - 1; i >= 0; i--) {
    literalCode.state = literalStates[i & 3] as number
    literalCode.encode(literalWriter, padded[i] as number)
    literalStates[i & 3] = literalCode.state
  }
  let last = 0
  const coded = triplets.map(({ run, match, distance }) => {
    const repeated = distance === last && random.bool(0.9)
    last = distance
    return {
      run: symbolOf(run, runBits),
      match: symbolOf(match, matchBits),
      distance: symbolOf(repeated ? 0 : distance, farBits),
    }
  })
  const counts = (name: 'run' | 'match' | 'distance', symbols: number): number[] =>
    countOf(
      coded.map((triplet) => triplet[name].symbol),
      symbols,
    )
  const runCode = new Code(counts('run', 20), 64, random)
  const matchCode = new Code(counts('match', 20), 64, random)
  const distanceCode = new Code(counts('distance', 64), 256, random)
  // Apple's reader wants eight bytes before the triplets.
  const tripletWriter = new BitWriter(new Array<number>(8).fill(0))
  for (const { run, match, distance } of coded.toReversed()) {
    distanceCode.encode(tripletWriter, distance.symbol, distance.rest, farBits[distance.symbol] as number)
    matchCode.encode(tripletWriter, match.symbol, match.rest, matchBits[match.symbol] as number)
    runCode.encode(tripletWriter, run.symbol, run.rest, runBits[run.symbol] as number)
  }
  const literalStream = literalWriter.end()
  const tripletStream = tripletWriter.end()
  const fields = {
    size,
    literals: padded.length,
    triplets: triplets.length,
    literalBytes: literalStream.bytes.length,
    tripletBytes: tripletStream.bytes.length,
    literalBits: literalStream.bits,
    tripletBits: tripletStream.bits,
    literalStates,
    states: [runCode.state, matchCode.state, distanceCode.state],
    frequencies: [runCode, matchCode, distanceCode, literalCode].flatMap((code) => code.frequencies),
  }
  const header = kind === 'v1' ? header1(fields) : header2(fields)
  return Buffer.concat([header, literalStream.bytes, tripletStream.bytes])
}

interface Fields {
  size: number
  literals: number
  triplets: number
  literalBytes: number
  tripletBytes: number
  literalBits: number
  tripletBits: number
  literalStates: number[]
  states: number[]
  frequencies: number[]
}

function header1(fields: Fields): Buffer {
  const header = Buffer.alloc(772)
  header.write('bvx1')
  const { size, literals, triplets, literalBytes, tripletBytes, literalBits, tripletBits } = fields
  for (const [i, value] of [
    size,
    literalBytes + tripletBytes,
    literals,
    triplets,
    literalBytes,
    tripletBytes,
    literalBits,
  ].entries()) {
    header.writeInt32LE(value, 4 + 4 * i)
  }
  for (const [i, state] of fields.literalStates.entries()) header.writeUInt16LE(state, 32 + 2 * i)
  header.writeInt32LE(tripletBits, 40)
  for (const [i, value] of [...fields.states, ...fields.frequencies].entries()) header.writeUInt16LE(value, 44 + 2 * i)
  return header
}

function header2(fields: Fields): Buffer {
  const writer = new BitWriter()
  if (!fields.frequencies.every((frequency) => frequency === 0)) {
    for (const value of fields.frequencies) writeFrequency(writer, value)
  }
  const frequencies = writer.end().bytes
  const head = new BitWriter([...Buffer.from('bvx2'), ...u32(fields.size)])
  head.push(fields.literals, 20)
  head.push(fields.literalBytes, 20)
  head.push(fields.triplets, 20)
  head.push(fields.literalBits + 7, 4)
  for (const state of fields.literalStates) head.push(state, 10)
  head.push(fields.tripletBytes, 20)
  head.push(fields.tripletBits + 7, 4)
  head.push(32 + frequencies.length, 32)
  for (const state of fields.states) head.push(state, 10)
  head.push(0, 2)
  return Buffer.concat([head.end().bytes, frequencies])
}

/** The published code for frequencies, lowest bits first. */
function writeFrequency(writer: BitWriter, value: number): void {
  if (value < 4) writer.push([0b00, 0b10, 0b001, 0b101][value] as number, value < 2 ? 2 : 3)
  else if (value < 8) writer.push(0b011 | ((value - 4) << 3), 5)
  else if (value < 24) writer.push(0b0111 | ((value - 8) << 4), 8)
  else writer.push(0b1111 | ((value - 24) << 4), 14)
}
