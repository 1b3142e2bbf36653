/** What the parts of the LZFSE decoder share: the header of a block, its tables and literals, and the error for a stream that breaks a rule.
 *  Facts: the format as Apple's reference implementation (lzfse, version 1.0) defines it. */
import { MoraineError } from '../core/index.ts'

/** The four codes of a block in the order of their frequencies in its header: lengths of literal runs, lengths of matches, distances, literals.
 *  `log` is the binary logarithm of the number of states. */
export const lzfseCodes = {
  literalLengths: { symbols: 20, log: 6 },
  matchLengths: { symbols: 20, log: 6 },
  distances: { symbols: 64, log: 8 },
  literals: { symbols: 256, log: 10 },
} as const

/** Frequencies of all four codes together. */
export const lzfseFrequencies = 20 + 20 + 64 + 256

/** Bounds on what a block may hold. */
export const lzfseMost = { literals: 40_000, triplets: 10_000, payloadBytes: (1 << 20) - 1 }

/** The header of an entropy-coded block. */
export interface LzfseHeader {
  /** Bytes that the block decodes to. */
  rawBytes: number
  /** Literals, up to three more than are used: they are coded four at a time. */
  literals: number
  /** Triplets of a literal run, a match and its distance. */
  triplets: number
  /** Bytes of the two bit streams, the first right behind the header, the second behind the first. */
  literalBytes: number
  tripletBytes: number
  /** 0 to −7: how many bits of the last byte of a stream are not part of it, negative. */
  literalBits: number
  tripletBits: number
  /** First states: of the literals four, then of literal lengths, match lengths and distances. */
  states: Uint16Array
  /** Of the codes in the order of `lzfseCodes`. */
  frequencies: Uint16Array
}

/** The tables and literals of one block. An entry is the next state's base << 16, the bits to add to it << 8, and the symbol. */
export interface LzfseWorkspace {
  header: LzfseHeader
  literalLengths: Int32Array
  matchLengths: Int32Array
  distances: Int32Array
  literalTable: Int32Array
  literals: Uint8Array
}

let workspace: LzfseWorkspace | undefined

/** The workspace. Decoding is synchronous, so that one serves every call. */
export function lzfseWorkspace(): LzfseWorkspace {
  workspace ??= {
    header: {
      rawBytes: 0,
      literals: 0,
      triplets: 0,
      literalBytes: 0,
      tripletBytes: 0,
      literalBits: 0,
      tripletBits: 0,
      states: new Uint16Array(7),
      frequencies: new Uint16Array(lzfseFrequencies),
    },
    literalLengths: new Int32Array(1 << lzfseCodes.literalLengths.log),
    matchLengths: new Int32Array(1 << lzfseCodes.matchLengths.log),
    distances: new Int32Array(1 << lzfseCodes.distances.log),
    literalTable: new Int32Array(1 << lzfseCodes.literals.log),
    literals: new Uint8Array(lzfseMost.literals + 4),
  }
  return workspace
}

/** The error for a stream that breaks a rule; `offset` is where in the stream, in bytes. */
export function corruptLzfse(reason: string, offset?: number): MoraineError {
  return new MoraineError('corrupt', reason, { field: 'LZFSE stream', offset })
}
