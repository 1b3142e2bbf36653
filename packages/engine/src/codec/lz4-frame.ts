/** LZ4 frames, decoded as far as input and output go. Synchronous, pure TypeScript. Facts: the LZ4 frame format 1.6.4 and the block format; checksums are not
 *  verified, as a beginning alone is decoded. */

const frameMagic = 0x184d2204
const legacyMagic = 0x184c2102

/** Decodes LZ4 frames (also legacy ones) from the beginning of `input` until `output` is full, the input is used up, or something is wrong. Returns the bytes
 *  written, and whether the frame came to its end. A match never costs more than the room in `output`. */
export function lz4DecodePart(input: Uint8Array, output: Uint8Array): { filled: number; ended: boolean } {
  const view = new DataView(input.buffer, input.byteOffset, input.byteLength)
  if (input.length < 4) return { filled: 0, ended: false }
  const magic = view.getUint32(0, true)
  if (magic === legacyMagic) return decodeBlocks(view, input, 4, 0, output, true)
  if (magic !== frameMagic) return { filled: 0, ended: false }
  const flags = input[4] ?? 0
  const header = 7 + ((flags & 8) === 0 ? 0 : 8) + ((flags & 1) === 0 ? 0 : 4)
  return decodeBlocks(view, input, header, (flags & 16) === 0 ? 0 : 4, output, false)
}

/** The content size of a frame's header, where it has one. */
export function lz4ContentSize(input: Uint8Array): number | undefined {
  if (input.length < 15 || ((input[4] as number) & 8) === 0) return undefined
  const view = new DataView(input.buffer, input.byteOffset, input.byteLength)
  if (view.getUint32(0, true) !== frameMagic) return undefined
  return view.getUint32(10, true) * 2 ** 32 + view.getUint32(6, true)
}

function decodeBlocks(
  view: DataView,
  input: Uint8Array,
  start: number,
  checksumBytes: number,
  output: Uint8Array,
  legacy: boolean,
): { filled: number; ended: boolean } {
  let at = start
  let filled = 0
  for (;;) {
    if (at + 4 > input.length) return { filled, ended: legacy && at === input.length }
    const word = view.getUint32(at, true)
    if (word === 0 && !legacy) return { filled, ended: true }
    const stored = !legacy && word >= 0x8000_0000
    const size = stored ? word - 0x8000_0000 : word
    const end = at + 4 + size
    const block = input.subarray(at + 4, Math.min(end, input.length))
    if (stored) {
      const part = block.subarray(0, output.length - filled)
      output.set(part, filled)
      filled += part.length
    } else {
      const { next, sound } = decodeLz4Block(block, output, filled)
      filled = next
      if (!sound) return { filled, ended: false }
    }
    if (filled === output.length || end > input.length) return { filled, ended: false }
    at = end + checksumBytes
  }
}

/** One block, as far as `output` goes: literals and matches in turn, the last sequence has literals only. Matches may go back to the beginning of `output`. */
export function decodeLz4Block(block: Uint8Array, output: Uint8Array, start: number): { next: number; sound: boolean } {
  let at = 0
  let filled = start
  while (at < block.length && filled < output.length) {
    const token = block[at++] as number
    let literals = token >> 4
    if (literals === 15) {
      let more: number
      do {
        more = block[at++] ?? 0
        literals += more
      } while (more === 255)
    }
    const part = block.subarray(at, at + Math.min(literals, output.length - filled))
    output.set(part, filled)
    filled += part.length
    if (part.length < literals) return { next: filled, sound: filled === output.length }
    at += literals
    if (at + 2 > block.length) break
    const distance = (block[at] as number) | ((block[at + 1] as number) << 8)
    at += 2
    let length = (token & 15) + 4
    if (length === 19) {
      let more: number
      do {
        more = block[at++] ?? 0
        length += more
      } while (more === 255)
    }
    if (distance === 0 || distance > filled) return { next: filled, sound: false }
    for (const end = Math.min(filled + length, output.length); filled < end; filled++) {
      output[filled] = output[filled - distance] as number
    }
  }
  return { next: filled, sound: true }
}
