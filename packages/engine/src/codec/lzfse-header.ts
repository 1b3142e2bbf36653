/** The headers of LZFSE's entropy-coded blocks: `bvx1` with plain fields and frequencies, `bvx2` with packed ones; all numbers little-endian.
 *  Facts: the format as Apple's reference implementation (lzfse, version 1.0) defines it. */
import { corruptLzfse, type LzfseHeader, lzfseCodes, lzfseFrequencies, lzfseMost } from './lzfse-workspace.ts'

/** 50 bytes of fields, 720 of frequencies, 2 that fill up. */
const v1Bytes = 772
const v1Fields = 50
/** The fields of `bvx2`, before its frequencies. */
const v2Fields = 32

/** Reads the header of a `bvx1` block at `at` of `view` into `header`. Returns where it ends. @throws MoraineError `corrupt`. */
export function readLzfseHeader1(view: DataView, at: number, header: LzfseHeader): number {
  if (at + v1Bytes > view.byteLength) throw corruptLzfse('the header of a block is cut', at)
  header.rawBytes = view.getUint32(at + 4, true)
  header.literals = view.getUint32(at + 12, true)
  header.triplets = view.getUint32(at + 16, true)
  header.literalBytes = view.getUint32(at + 20, true)
  header.tripletBytes = view.getUint32(at + 24, true)
  header.literalBits = view.getInt32(at + 28, true)
  header.tripletBits = view.getInt32(at + 40, true)
  for (let i = 0; i < 4; i++) header.states[i] = view.getUint16(at + 32 + 2 * i, true)
  for (let i = 0; i < 3; i++) header.states[4 + i] = view.getUint16(at + 44 + 2 * i, true)
  for (let i = 0; i < lzfseFrequencies; i++) header.frequencies[i] = view.getUint16(at + v1Fields + 2 * i, true)
  checkHeader(header, at)
  return at + v1Bytes
}

/** Reads the header of a `bvx2` block at `at` of `view` into `header`. Returns where it ends. @throws MoraineError `corrupt`. */
export function readLzfseHeader2(view: DataView, at: number, header: LzfseHeader): number {
  if (at + v2Fields > view.byteLength) throw corruptLzfse('the header of a block is cut', at)
  header.rawBytes = view.getUint32(at + 4, true)
  // Fields of 20 and 10 bits in three words of 64.
  const field = (word: number, bit: number, count: number): number => {
    const byte = Math.min(bit >> 3, 4)
    return (view.getUint32(at + 8 + 8 * word + byte, true) >>> (bit - 8 * byte)) & ((1 << count) - 1)
  }
  header.literals = field(0, 0, 20)
  header.literalBytes = field(0, 20, 20)
  header.triplets = field(0, 40, 20)
  header.literalBits = field(0, 60, 3) - 7
  for (let i = 0; i < 4; i++) header.states[i] = field(1, 10 * i, 10)
  header.tripletBytes = field(1, 40, 20)
  header.tripletBits = field(1, 60, 3) - 7
  const end = at + view.getUint32(at + 24, true)
  for (let i = 0; i < 3; i++) header.states[4 + i] = field(2, 32 + 10 * i, 10)
  if (end < at + v2Fields || end > view.byteLength) throw corruptLzfse('the header of a block is cut', at)
  readFrequencies(view, at + v2Fields, end, header.frequencies)
  checkHeader(header, at)
  return end
}

/** Reads the frequencies in bytes [at, end), in a code of 2 to 14 bits each, the lowest bits first; none when there are no bytes. */
function readFrequencies(view: DataView, at: number, end: number, frequencies: Uint16Array): void {
  if (at === end) {
    frequencies.fill(0)
    return
  }
  let next = at
  let bits = 0
  let count = 0
  for (let i = 0; i < lzfseFrequencies; i++) {
    while (count < 14 && next < end) {
      bits |= view.getUint8(next++) << count
      count += 8
    }
    const { value, length } = frequency(bits)
    if (length > count) throw corruptLzfse('the frequencies of a block are cut', at)
    frequencies[i] = value
    bits >>>= length
    count -= length
  }
  if (next !== end || count >= 8) throw corruptLzfse('the frequencies of a block do not fill its header', at)
}

const found = { value: 0, length: 0 }

/** The frequency that `bits` begin with, valid until the next call: 0 and 1 take two bits, 2 and 3 three, 4 to 7 five, 8 to 23 eight, more fourteen. */
function frequency(bits: number): { value: number; length: number } {
  if ((bits & 1) === 0) {
    found.length = 2
    found.value = (bits >> 1) & 1
  } else if ((bits & 2) === 0) {
    found.length = 3
    found.value = 2 + ((bits >> 2) & 1)
  } else if ((bits & 4) === 0) {
    found.length = 5
    found.value = 4 + ((bits >> 3) & 3)
  } else if ((bits & 8) === 0) {
    found.length = 8
    found.value = 8 + ((bits >> 4) & 15)
  } else {
    found.length = 14
    found.value = 24 + ((bits >> 4) & 1023)
  }
  return found
}

/** Beyond what the format demands, a block may not hold more literals and triplets than it has bytes: so no stream costs more work than it gives. */
function checkHeader(header: LzfseHeader, at: number): void {
  const { rawBytes, literals, triplets, literalBytes, tripletBytes, literalBits, tripletBits, states } = header
  if (literals > lzfseMost.literals || literals > rawBytes + 3) throw corruptLzfse('a block has too many literals', at)
  if (triplets > lzfseMost.triplets || triplets > rawBytes) throw corruptLzfse('a block has too many matches', at)
  if (literalBytes > lzfseMost.payloadBytes || tripletBytes > lzfseMost.payloadBytes) {
    throw corruptLzfse('a bit stream of a block is too long', at)
  }
  if (literalBits > 0 || literalBits < -7 || tripletBits > 0 || tripletBits < -7) {
    throw corruptLzfse('a bit stream of a block ends outside its last byte', at)
  }
  const { literalLengths, matchLengths, distances, literals: bytes } = lzfseCodes
  const logs = [bytes.log, bytes.log, bytes.log, bytes.log, literalLengths.log, matchLengths.log, distances.log]
  for (const [i, log] of logs.entries()) {
    if ((states[i] as number) >> log !== 0) throw corruptLzfse('a first state of a block is none of its code', at)
  }
}
