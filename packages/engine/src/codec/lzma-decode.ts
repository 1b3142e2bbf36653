/** The LZMA decoder under xz: one chunk of LZMA2 after the other, into one buffer that is its own dictionary. Synchronous, pure TypeScript.
 *  Facts: the LZMA specification in the LZMA SDK 19; LZMA2 as xz 5 writes it. */

const states = 12
const lengthStates = 16
const literalProbs = 0x300

/** Probabilities of a length coder: choice, choice2, low and mid by position, high. */
const lengthBytes = 2 + lengthStates * 8 * 2 + 256

const isMatch = 0
const isRep = isMatch + states * 16
const isRepG0 = isRep + states
const isRepG1 = isRepG0 + states
const isRepG2 = isRepG1 + states
const isRep0Long = isRepG2 + states
const slotProbs = isRep0Long + states * 16
const specialProbs = slotProbs + 4 * 64
const alignProbs = specialProbs + 128
const matchLength = alignProbs + 16
const repLength = matchLength + lengthBytes
const literal = repLength + lengthBytes

/** Decodes LZMA chunks into `output`. */
export class LzmaDecoder {
  readonly output: Uint8Array
  /** Bytes written. */
  filled = 0
  /** Where the dictionary begins: matches reach no further back. */
  dictionaryStart = 0
  #probs: Uint16Array = new Uint16Array(0)
  #lc = 0
  #lp = 0
  #pb = 0
  #state = 0
  #reps: [number, number, number, number] = [0, 0, 0, 0]
  #input: Uint8Array = new Uint8Array(0)
  #at = 0
  #range = 0
  #code = 0

  constructor(output: Uint8Array) {
    this.output = output
  }

  /** Sets literal and position bits from their byte. False when it is out of range. */
  setProperties(byte: number): boolean {
    if (byte >= 225) return false
    this.#lc = byte % 9
    this.#lp = Math.floor(byte / 9) % 5
    this.#pb = Math.floor(byte / 45)
    return this.#lc + this.#lp <= 4
  }

  /** Forgets what was learnt. */
  resetState(): void {
    const size = literal + (literalProbs << (this.#lc + this.#lp))
    if (this.#probs.length !== size) this.#probs = new Uint16Array(size)
    this.#probs.fill(1024)
    this.#state = 0
    this.#reps = [0, 0, 0, 0]
  }

  /** Decodes one chunk that gives `size` bytes, as far as `output` has room. Input that is cut reads as zeros; `consumed` past its length shows it.
   *  @returns false when the chunk is damaged. */
  decode(input: Uint8Array, start: number, size: number): { sound: boolean; consumed: number } {
    if (this.#probs.length === 0) return { sound: false, consumed: 0 }
    this.#input = input
    this.#at = start + 1
    this.#range = 0xffff_ffff
    this.#code = 0
    for (let i = 0; i < 4; i++) this.#code = ((this.#code << 8) | this.#next()) >>> 0
    const sound = this.#run(Math.min(this.filled + size, this.output.length))
    return { sound, consumed: this.#at - start }
  }

  #next(): number {
    return this.#input[this.#at++] ?? 0
  }

  #bit(index: number): number {
    const probs = this.#probs
    const prob = probs[index] as number
    const bound = (this.#range >>> 11) * prob
    let bit: number
    if (this.#code < bound) {
      this.#range = bound
      probs[index] = prob + ((2048 - prob) >> 5)
      bit = 0
    } else {
      this.#range -= bound
      this.#code -= bound
      probs[index] = prob - (prob >> 5)
      bit = 1
    }
    if (this.#range < 0x100_0000) {
      this.#range = (this.#range << 8) >>> 0
      this.#code = ((this.#code << 8) | this.#next()) >>> 0
    }
    return bit
  }

  #direct(bits: number): number {
    let value = 0
    for (let i = 0; i < bits; i++) {
      this.#range = this.#range >>> 1
      const bit = this.#code >= this.#range ? 1 : 0
      if (bit === 1) this.#code -= this.#range
      if (this.#range < 0x100_0000) {
        this.#range = (this.#range << 8) >>> 0
        this.#code = ((this.#code << 8) | this.#next()) >>> 0
      }
      value = value * 2 + bit
    }
    return value
  }

  #tree(base: number, bits: number): number {
    let node = 1
    for (let i = 0; i < bits; i++) node = (node << 1) | this.#bit(base + node)
    return node - (1 << bits)
  }

  #reverseTree(base: number, bits: number): number {
    let node = 1
    let value = 0
    for (let i = 0; i < bits; i++) {
      const bit = this.#bit(base + node)
      node = (node << 1) | bit
      value |= bit << i
    }
    return value
  }

  #length(base: number, place: number): number {
    if (this.#bit(base) === 0) return 2 + this.#tree(base + 2 + place * 8, 3)
    if (this.#bit(base + 1) === 0) return 10 + this.#tree(base + 2 + lengthStates * 8 + place * 8, 3)
    return 18 + this.#tree(base + 2 + lengthStates * 16, 8)
  }

  #distance(length: number): number {
    const slot = this.#tree(slotProbs + Math.min(length - 2, 3) * 64, 6)
    if (slot < 4) return slot
    const bits = (slot >> 1) - 1
    const base = (2 | (slot & 1)) * 2 ** bits
    if (slot < 14) return base + this.#reverseTree(specialProbs + base - slot, bits)
    return base + this.#direct(bits - 4) * 16 + this.#reverseTree(alignProbs, 4)
  }

  #run(end: number): boolean {
    const { output } = this
    const mask = (1 << this.#pb) - 1
    while (this.filled < end) {
      if (this.#at > this.#input.length + 8) return false
      const position = this.filled - this.dictionaryStart
      const place = position & mask
      if (this.#bit(isMatch + this.#state * 16 + place) === 0) {
        this.#literal(position)
        continue
      }
      const length = this.#match(place)
      if (length === undefined) return false
      const distance = this.#reps[0] + 1
      if (distance > position) return false
      for (const stop = Math.min(this.filled + length, end); this.filled < stop; this.filled++) {
        output[this.filled] = output[this.filled - distance] as number
      }
    }
    return true
  }

  #literal(position: number): void {
    const before = position > 0 ? (this.output[this.filled - 1] as number) : 0
    const context = ((position & ((1 << this.#lp) - 1)) << this.#lc) + (before >> (8 - this.#lc))
    const base = literal + literalProbs * context
    let symbol = 1
    if (this.#state >= 7 && this.#reps[0] < position) {
      let match = this.output[this.filled - this.#reps[0] - 1] as number
      while (symbol < 0x100) {
        const expected = (match >> 7) & 1
        match = (match << 1) & 255
        const bit = this.#bit(base + ((1 + expected) << 8) + symbol)
        symbol = (symbol << 1) | bit
        if (bit !== expected) break
      }
    }
    while (symbol < 0x100) symbol = (symbol << 1) | this.#bit(base + symbol)
    this.output[this.filled++] = symbol & 255
    this.#state = this.#state < 4 ? 0 : this.#state < 10 ? this.#state - 3 : this.#state - 6
  }

  /** The length of the match whose distance is `#reps[0]` then; undefined for an end marker, which LZMA2 has none of. */
  #match(place: number): number | undefined {
    const state = this.#state
    const reps = this.#reps
    if (this.#bit(isRep + state) === 0) {
      this.#state = state < 7 ? 7 : 10
      const length = this.#length(matchLength, place)
      const distance = this.#distance(length)
      if (distance >= 0xffff_ffff) return undefined
      this.#reps = [distance, reps[0], reps[1], reps[2]]
      return length
    }
    if (this.#bit(isRepG0 + state) === 0) {
      if (this.#bit(isRep0Long + state * 16 + place) === 0) {
        this.#state = state < 7 ? 9 : 11
        return 1
      }
    } else if (this.#bit(isRepG1 + state) === 0) this.#reps = [reps[1], reps[0], reps[2], reps[3]]
    else if (this.#bit(isRepG2 + state) === 0) this.#reps = [reps[2], reps[0], reps[1], reps[3]]
    else this.#reps = [reps[3], reps[0], reps[1], reps[2]]
    this.#state = state < 7 ? 8 : 11
    return this.#length(repLength, place)
  }
}
