/** The literals section of a zstd block. Facts: RFC 8878, section 3.1.1.3.1. */
import { decodeHuffman, readHuffmanTable } from './zstd-huffman.ts'
import { corruptZstd, maxBlockBytes, type ZstdWorkspace } from './zstd-workspace.ts'

const rawLiterals = 0
const repeatedByte = 1
const withTree = 2

/** Decodes the section at `block[at, end)` into `workspace.literals`. Returns how many literals there are and where the section ends.
 *  @throws MoraineError `corrupt`. */
export function decodeLiterals(workspace: ZstdWorkspace, at: number, end: number): { count: number; next: number } {
  const { block, literals } = workspace
  if (at >= end) throw corruptZstd('a block without literals')
  const first = block[at] as number
  const type = first & 3
  const sizeFormat = (first >> 2) & 3
  return type === rawLiterals || type === repeatedByte ? plain() : packed()

  function plain(): { count: number; next: number } {
    // Sizes of 5, 12 or 20 bits; of the short form's two size bits only the lower is set aside.
    const headerBytes = sizeFormat === 1 ? 2 : sizeFormat === 3 ? 3 : 1
    const header = little(headerBytes)
    const count = headerBytes === 1 ? header >> 3 : header >> 4
    const start = at + headerBytes
    const next = start + (type === rawLiterals ? count : 1)
    if (next > end || count > maxBlockBytes) throw corruptZstd('the literals pass the end of their block')
    if (type === rawLiterals) literals.set(block.subarray(start, next))
    else literals.fill(block[start] as number, 0, count)
    return { count, next }
  }

  function packed(): { count: number; next: number } {
    const sizeBits = sizeFormat < 2 ? 10 : sizeFormat === 2 ? 14 : 18
    const headerBytes = (4 + 2 * sizeBits) >> 3
    // Up to 40 bits: more than a 32-bit integer holds.
    const header = Math.floor(little(headerBytes) / 16)
    const count = header % 2 ** sizeBits
    const start = at + headerBytes
    const next = start + Math.floor(header / 2 ** sizeBits)
    if (next > end || count > maxBlockBytes) throw corruptZstd('the literals pass the end of their block')
    let streams = start
    if (type === withTree) streams = readHuffmanTable(workspace, start, next)
    else if (workspace.huffmanBits === 0) throw corruptZstd('literals repeat a Huffman tree before the first')
    if (sizeFormat === 0) decodeHuffman(workspace, streams, next, 0, count)
    else decodeFourStreams(streams, next, count)
    return { count, next }
  }

  function decodeFourStreams(start: number, next: number, count: number): void {
    const each = (count + 3) >> 2
    if (start + 6 > next || each * 3 > count) throw corruptZstd('the four streams of literals are cut')
    let from = start + 6
    for (let stream = 0; stream < 4; stream++) {
      const size = start + 2 * stream
      const to = stream === 3 ? next : from + ((block[size] as number) | ((block[size + 1] as number) << 8))
      if (to > next) throw corruptZstd('the four streams of literals are cut')
      decodeHuffman(workspace, from, to, stream * each, stream === 3 ? count - 3 * each : each)
      from = to
    }
  }

  function little(bytes: number): number {
    let value = 0
    for (let i = bytes - 1; i >= 0; i--) value = value * 256 + (block[at + i] as number)
    return value
  }
}
