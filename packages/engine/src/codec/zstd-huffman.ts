/** Huffman codes of zstd's literals. Facts: RFC 8878, section 4.2. */
import { buildFseTable, readDistribution } from './zstd-fse.ts'
import { backwardStart, corruptZstd, type FseTable, highestBit, type ZstdWorkspace } from './zstd-workspace.ts'

const maxBits = 11
const maxWeightLog = 6

const weights = new Uint8Array(256)
const weightTable: FseTable = { entries: new Int32Array(1 << maxWeightLog), log: 0 }
const placeByWeight = new Int32Array(maxBits + 2)

/** Reads a Huffman tree from `block[at, end)` into the workspace and returns where it ends.
 *  @throws MoraineError `corrupt`. */
export function readHuffmanTable(workspace: ZstdWorkspace, at: number, end: number): number {
  const { block } = workspace
  if (at >= end) throw corruptZstd('a Huffman tree is missing')
  const header = block[at] as number
  let next: number
  let count: number
  if (header < 128) {
    next = at + 1 + header
    if (next > end) throw corruptZstd('a Huffman tree is cut')
    count = readPackedWeights(workspace, at + 1, next)
  } else {
    count = header - 127
    next = at + 1 + ((count + 1) >> 1)
    if (next > end) throw corruptZstd('a Huffman tree is cut')
    for (let i = 0; i < count; i++) {
      const pair = block[at + 1 + (i >> 1)] as number
      weights[i] = i & 1 ? pair & 15 : pair >> 4
    }
  }
  buildHuffmanTable(workspace, count)
  return next
}

/** Weights are packed by two alternating states over one backward stream. Fact: RFC 8878, section 4.2.1.2. */
function readPackedWeights({ block, view }: ZstdWorkspace, at: number, end: number): number {
  const { distribution, next } = readDistribution(block, at, end, maxWeightLog, maxBits + 1)
  buildFseTable(weightTable, distribution)
  const { entries, log } = weightTable
  const start = next * 8
  let bit = backwardStart(block, next, end)
  const take = (count: number): number => {
    bit -= count
    const value = (view.getInt32(bit >> 3, true) >>> (bit & 7)) & ((1 << count) - 1)
    // Bits before the stream are zeros, not what happens to lie there.
    return bit >= start ? value : (value >> (start - bit)) << (start - bit)
  }
  let state = take(log)
  let other = take(log)
  if (bit < start) throw corruptZstd('the weights of a Huffman tree are cut')
  let count = 0
  for (;;) {
    if (count > 253) throw corruptZstd('a Huffman tree has too many weights')
    const entry = entries[state] as number
    weights[count++] = entry & 255
    state = (entry >> 16) + take((entry >> 8) & 255)
    if (bit < start) {
      weights[count++] = (entries[other] as number) & 255
      return count
    }
    const swap = state
    state = other
    other = swap
  }
}

function buildHuffmanTable(workspace: ZstdWorkspace, count: number): void {
  let sum = 0
  placeByWeight.fill(0)
  for (let i = 0; i < count; i++) {
    const weight = weights[i] as number
    if (weight > maxBits) throw corruptZstd('a Huffman code is too long')
    if (weight !== 0) sum += 1 << (weight - 1)
  }
  if (sum === 0) throw corruptZstd('a Huffman tree is empty')
  // The last weight is not written: it makes the sum a power of two.
  const bits = highestBit(sum) + 1
  const rest = (1 << bits) - sum
  if (bits > maxBits || (rest & (rest - 1)) !== 0) throw corruptZstd('the weights of a Huffman tree do not add up')
  weights[count] = highestBit(rest) + 1

  // Codes are given out from the lowest weight (the longest code) on, in the order of symbols.
  for (let i = 0; i <= count; i++) {
    const weight = weights[i] as number
    if (weight !== 0) placeByWeight[weight + 1] = (placeByWeight[weight + 1] ?? 0) + (1 << (weight - 1))
  }
  for (let weight = 2; weight < placeByWeight.length; weight++) {
    placeByWeight[weight] = (placeByWeight[weight] as number) + (placeByWeight[weight - 1] as number)
  }
  for (let symbol = 0; symbol <= count; symbol++) {
    const weight = weights[symbol] as number
    if (weight === 0) continue
    const place = placeByWeight[weight] as number
    const end = place + (1 << (weight - 1))
    workspace.huffman.fill(((bits + 1 - weight) << 8) | symbol, place, end)
    placeByWeight[weight] = end
  }
  workspace.huffmanBits = bits
}

/** Decodes `count` literals from the stream in `block[start, end)` to `literals[to…]`.
 *  @throws MoraineError `corrupt` unless the stream gives exactly that many. */
export function decodeHuffman(workspace: ZstdWorkspace, start: number, end: number, to: number, count: number): void {
  const { block, view, literals, huffman, huffmanBits } = workspace
  const mask = (1 << huffmanBits) - 1
  const startBit = start * 8
  const stop = to + count
  const pairBits = 2 * maxBits
  let bit = backwardStart(block, start, end)
  while (to + 2 <= stop && bit - pairBits >= startBit) {
    const from = bit - pairBits
    const word = view.getInt32(from >> 3, true) >>> (from & 7)
    const first = huffman[(word >>> (pairBits - huffmanBits)) & mask] as number
    const used = first >> 8
    const second = huffman[(word >>> (pairBits - huffmanBits - used)) & mask] as number
    literals[to] = first
    literals[to + 1] = second
    to += 2
    bit -= used + (second >> 8)
  }
  while (to < stop) {
    // The last codes may be shorter than the bits looked at: those before the stream count as zeros.
    const from = bit - huffmanBits
    const missing = Math.max(0, startBit - from)
    const word = view.getInt32(from >> 3, true) >>> (from & 7)
    const entry = huffman[((word >>> missing) << missing) & mask] as number
    literals[to++] = entry
    bit -= entry >> 8
    if (bit < startBit) throw corruptZstd('a stream of literals is cut')
  }
  if (bit !== startBit) throw corruptZstd('a stream of literals has bits left')
}
