/** bzip2, decoded as far as input and output go. Synchronous, pure TypeScript. Facts: the format as bzip2 1.0.8 writes it. Block checksums are not verified, as a
 *  beginning alone is decoded; randomised blocks (before version 0.9.5) are refused. */

/** What a block begins with, 48 bits. */
export const blockMagic = 0x314159265359
/** What the end of a stream begins with, 48 bits. */
export const endMagic = 0x177245385090
const mostCodeBits = 20

/** Bits, most significant first. Past the end they are zeros, and `cut` says so. */
export class Bits {
  readonly #input: Uint8Array
  #at: number
  #hold = 0
  #count = 0

  constructor(input: Uint8Array, at: number) {
    this.#input = input
    this.#at = at
  }

  /** Where the next bit stands, in bits from the beginning of the input. */
  get position(): number {
    return this.#at * 8 - this.#count
  }

  /** Whether more bits were taken than there are. */
  get cut(): boolean {
    return this.#at - (this.#count >> 3) > this.#input.length
  }

  /** Takes 0 to 24 bits. */
  take(bits: number): number {
    while (this.#count < bits) {
      this.#hold = ((this.#hold << 8) | (this.#input[this.#at++] ?? 0)) & 0xffff_ffff
      this.#count += 8
    }
    this.#count -= bits
    return (this.#hold >>> this.#count) & ((1 << bits) - 1)
  }
}

/** Decodes a bzip2 stream from the beginning of `input`, block by block, until `output` is full, the input is used up, or something is wrong. Returns the bytes
 *  written, and whether the stream came to its end. */
export function bzip2DecodePart(input: Uint8Array, output: Uint8Array): { filled: number; ended: boolean } {
  const level = (input[3] ?? 0) - 48
  if (input[0] !== 66 || input[1] !== 90 || input[2] !== 104 || level < 1 || level > 9)
    return { filled: 0, ended: false }
  const bits = new Bits(input, 4)
  const words = new Uint32Array(level * 100_000)
  let filled = 0
  while (filled < output.length) {
    const magic = bits.take(24) * 2 ** 24 + bits.take(24)
    if (bits.cut) break
    if (magic === endMagic) return { filled, ended: true }
    if (magic !== blockMagic) break
    const block = readBlock(bits, words)
    if (block === undefined || bits.cut) break
    filled = expand(words, block.count, block.origin, output, filled)
  }
  return { filled, ended: false }
}

interface Code {
  /** Least code and index of its symbol, for each length. */
  limits: Int32Array
  bases: Int32Array
  symbols: Uint16Array
}

/** Reads one block's symbols, after its magic, and undoes move-to-front; bytes land in `words`. Undefined when it is damaged. */
export function readBlock(
  bits: Bits,
  words: Uint32Array,
): { count: number; origin: number; checksum: number } | undefined {
  const checksum = bits.take(16) * 0x1_0000 + bits.take(16)
  if (bits.take(1) !== 0) return undefined
  const origin = bits.take(24)
  const used: number[] = []
  const groups = bits.take(16)
  for (let group = 0; group < 16; group++) {
    if ((groups & (0x8000 >> group)) === 0) continue
    const flags = bits.take(16)
    for (let bit = 0; bit < 16; bit++) if ((flags & (0x8000 >> bit)) !== 0) used.push(group * 16 + bit)
  }
  const tables = bits.take(3)
  const selectorCount = bits.take(15)
  if (used.length === 0 || tables < 2 || tables > 6 || selectorCount === 0) return undefined
  const order = [0, 1, 2, 3, 4, 5]
  const selectors = new Uint8Array(selectorCount)
  for (let index = 0; index < selectorCount; index++) {
    let place = 0
    while (bits.take(1) === 1) if (++place >= tables) return undefined
    const [table] = order.splice(place, 1) as [number]
    order.unshift(table)
    selectors[index] = table
    if (bits.cut) return undefined
  }
  const alphabet = used.length + 2
  const codes: Code[] = []
  for (let table = 0; table < tables; table++) {
    const lengths = new Uint8Array(alphabet)
    let length = bits.take(5)
    for (let symbol = 0; symbol < alphabet; symbol++) {
      while (bits.take(1) === 1) {
        length += bits.take(1) === 0 ? 1 : -1
        if (bits.cut) return undefined
      }
      if (length < 1 || length > mostCodeBits) return undefined
      lengths[symbol] = length
    }
    codes.push(makeCode(lengths))
  }
  const count = readSymbols(bits, words, selectors, codes, used)
  return count === undefined || origin >= count ? undefined : { count, origin, checksum }
}

function makeCode(lengths: Uint8Array): Code {
  const counts = new Int32Array(mostCodeBits + 2)
  for (const length of lengths) counts[length] = (counts[length] as number) + 1
  const limits = new Int32Array(mostCodeBits + 1)
  const bases = new Int32Array(mostCodeBits + 1)
  let code = 0
  let index = 0
  for (let length = 1; length <= mostCodeBits; length++) {
    bases[length] = index - code
    code += counts[length] as number
    index += counts[length] as number
    limits[length] = code
    code <<= 1
  }
  const symbols = new Uint16Array(lengths.length)
  let at = 0
  for (let length = 1; length <= mostCodeBits; length++) {
    for (const [symbol, own] of lengths.entries()) if (own === length) symbols[at++] = symbol
  }
  return { limits, bases, symbols }
}

function readSymbol(bits: Bits, { limits, bases, symbols }: Code): number {
  let code = 0
  for (let length = 1; length <= mostCodeBits; length++) {
    code = (code << 1) | bits.take(1)
    if (code < (limits[length] as number)) return symbols[code + (bases[length] as number)] ?? -1
  }
  return -1
}

function readSymbols(
  bits: Bits,
  words: Uint32Array,
  selectors: Uint8Array,
  codes: readonly Code[],
  used: readonly number[],
): number | undefined {
  const front = [...used]
  const last = used.length + 1
  let count = 0
  let run = 0
  let runBit = 1
  for (let group = 0; ; group++) {
    const code = codes[selectors[group] ?? -1]
    if (code === undefined || bits.cut) return undefined
    for (let index = 0; index < 50; index++) {
      const symbol = readSymbol(bits, code)
      if (symbol < 0) return undefined
      if (symbol <= 1) {
        run += runBit << symbol
        runBit *= 2
        if (run > words.length) return undefined
        continue
      }
      if (run > 0) {
        if (count + run > words.length) return undefined
        words.fill(front[0] as number, count, count + run)
        count += run
        run = 0
        runBit = 1
      }
      if (symbol === last) return count
      if (count >= words.length) return undefined
      const [byte] = front.splice(symbol - 1, 1) as [number]
      front.unshift(byte)
      words[count++] = byte
    }
  }
}

/** Makes of the first `count` words a chain in the order before the block sort: byte in the low 8 bits, place of the next in the others. */
export function chainBlock(words: Uint32Array, count: number): void {
  const starts = new Uint32Array(257)
  for (let i = 0; i < count; i++) {
    const next = ((words[i] as number) & 255) + 1
    starts[next] = (starts[next] as number) + 1
  }
  for (let byte = 0; byte < 256; byte++) starts[byte + 1] = (starts[byte + 1] as number) + (starts[byte] as number)
  for (let i = 0; i < count; i++) {
    const byte = (words[i] as number) & 255
    const place = starts[byte] as number
    starts[byte] = place + 1
    words[place] = ((words[place] as number) & 255) | (i << 8)
  }
}

/** Undoes the block sort and the first run-length code. */
function expand(words: Uint32Array, count: number, origin: number, output: Uint8Array, start: number): number {
  chainBlock(words, count)
  let filled = start
  let at = (words[origin] as number) >>> 8
  let repeated = 0
  let before = -1
  for (let i = 0; i < count && filled < output.length; i++) {
    const word = words[at] as number
    const byte = word & 255
    at = word >>> 8
    if (repeated === 4) {
      const end = Math.min(filled + byte, output.length)
      output.fill(before, filled, end)
      filled = end
      repeated = 0
      before = -1
      continue
    }
    repeated = byte === before ? repeated + 1 : 1
    before = byte
    output[filled++] = byte
  }
  return filled
}
