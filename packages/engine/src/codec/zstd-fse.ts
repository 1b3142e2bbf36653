/** Finite state entropy, the arithmetic-like code of zstd. Facts: RFC 8878, section 4.1. */
import { corruptZstd, type FseTable, highestBit } from './zstd-workspace.ts'

/** Probabilities as written: −1 is "less than one". */
export interface Distribution {
  counts: Int16Array
  /** Symbols that have an entry in `counts`. */
  symbols: number
  /** The counts add up to 1 << log. */
  log: number
}

const written: Distribution = { counts: new Int16Array(256), symbols: 0, log: 0 }

/** Reads a distribution from `block[at, end)`. Returns where it ends; the distribution lies in `result.distribution` until the next call.
 *  Fact: RFC 8878, section 4.1.1. @throws MoraineError `corrupt`. */
export function readDistribution(
  block: Uint8Array,
  at: number,
  end: number,
  maxLog: number,
  maxSymbol: number,
): { distribution: Distribution; next: number } {
  let bit = at * 8
  const peek = (count: number): number => {
    const byte = bit >> 3
    const word = (block[byte] as number) | ((block[byte + 1] as number) << 8) | ((block[byte + 2] as number) << 16)
    return (word >> (bit & 7)) & ((1 << count) - 1)
  }
  const log = peek(4) + 5
  bit += 4
  if (log > maxLog) throw corruptZstd('a table of probabilities is too fine')

  let left = 1 << log
  let symbol = 0
  while (left > 0) {
    if (symbol > maxSymbol || bit > end * 8) throw corruptZstd('a table of probabilities does not end')
    // Values from 0 to left + 1; the smaller ones take a bit less.
    const bits = highestBit(left + 1) + 1
    const short = (1 << bits) - 2 - left
    let value = peek(bits)
    const low = value & ((1 << (bits - 1)) - 1)
    if (low < short) {
      value = low
      bit += bits - 1
    } else {
      if (value !== low) value -= short
      bit += bits
    }
    const count = value - 1
    written.counts[symbol++] = count
    left -= Math.abs(count)
    if (count === 0) {
      let repeat = 3
      while (repeat === 3) {
        repeat = peek(2)
        bit += 2
        if (symbol + repeat > maxSymbol + 1 || bit > end * 8) {
          throw corruptZstd('a table of probabilities has too many symbols')
        }
        written.counts.fill(0, symbol, symbol + repeat)
        symbol += repeat
      }
    }
  }
  const next = (bit + 7) >> 3
  if (left < 0 || next > end) throw corruptZstd('a table of probabilities is wrong')
  written.symbols = symbol
  written.log = log
  return { distribution: written, next }
}

const nextState = new Uint16Array(256)

/** Builds the decoding table of a distribution. Fact: RFC 8878, section 4.1.1, "from normalized distribution to decoding tables". */
export function buildFseTable(table: FseTable, { counts, symbols, log }: Distribution): void {
  const size = 1 << log
  const mask = size - 1
  const { entries } = table
  let high = size
  for (let symbol = 0; symbol < symbols; symbol++) {
    const count = counts[symbol] as number
    nextState[symbol] = Math.abs(count)
    if (count === -1) entries[--high] = symbol
  }
  const step = (size >> 1) + (size >> 3) + 3
  let place = 0
  for (let symbol = 0; symbol < symbols; symbol++) {
    for (let i = counts[symbol] as number; i > 0; i--) {
      entries[place] = symbol
      do place = (place + step) & mask
      while (place >= high)
    }
  }
  for (let state = 0; state < size; state++) {
    const symbol = entries[state] as number
    const next = nextState[symbol] as number
    nextState[symbol] = next + 1
    const bits = log - highestBit(next)
    entries[state] = (((next << bits) - size) << 16) | (bits << 8) | symbol
  }
  table.log = log
}

/** Makes the table that always gives `symbol`. */
export function buildSingleSymbolTable(table: FseTable, symbol: number): void {
  table.entries[0] = symbol
  table.log = 0
}
