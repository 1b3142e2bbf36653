/** xz, decoded as far as input and output go; and what its index says about the whole. Synchronous, pure TypeScript. Facts: the .xz file format 1.2.1. Checks are
 *  not verified, as a beginning alone is decoded; filters other than LZMA2 are refused. */
import { LzmaDecoder } from './lzma-decode.ts'

const headerMagic = [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0]
const checkBytes = [0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64]
const lzma2 = 0x21

/** A number of the format's own encoding (7 bits a byte, at most 9 bytes), and where the next field is. */
function readNumber(bytes: Uint8Array, at: number): { value: number; next: number } | undefined {
  let value = 0
  for (let index = 0; index < 9; index++) {
    const byte = bytes[at + index]
    if (byte === undefined) return undefined
    value += (byte & 127) * 128 ** index
    if (byte < 128) return { value, next: at + index + 1 }
  }
  return undefined
}

/** Decodes the blocks of an xz stream from the beginning of `input` until `output` is full, the input is used up, or something is wrong. Returns the bytes
 *  written, and whether the blocks came to their end. */
export function xzDecodePart(input: Uint8Array, output: Uint8Array): { filled: number; ended: boolean } {
  if (headerMagic.some((byte, index) => input[index] !== byte)) return { filled: 0, ended: false }
  const check = checkBytes[(input[7] ?? 0) & 15] as number
  const decoder = new LzmaDecoder(output)
  let at = 12
  for (;;) {
    const size = input[at]
    if (size === undefined) return { filled: decoder.filled, ended: false }
    if (size === 0) return { filled: decoder.filled, ended: true }
    if (!hasLzmaAlone(input, at)) return { filled: decoder.filled, ended: false }
    const start = at + (size + 1) * 4
    const next = decodeBlock(decoder, input, start)
    if (next === undefined || decoder.filled === output.length) return { filled: decoder.filled, ended: false }
    at = start + Math.ceil((next - start) / 4) * 4 + check
  }
}

/** Whether the block header at `at` names LZMA2 as its only filter. */
function hasLzmaAlone(input: Uint8Array, at: number): boolean {
  const flags = input[at + 1] ?? 0
  let next = at + 2
  for (const bit of [0x40, 0x80]) {
    if ((flags & bit) === 0) continue
    const number = readNumber(input, next)
    if (number === undefined) return false
    next = number.next
  }
  return (flags & 3) === 0 && input[next] === lzma2
}

/** Decodes the LZMA2 chunks of one block. @returns Where they end; undefined when they are cut or damaged, or `output` is full. */
function decodeBlock(decoder: LzmaDecoder, input: Uint8Array, start: number): number | undefined {
  const { output } = decoder
  decoder.dictionaryStart = decoder.filled
  let at = start
  for (;;) {
    const control = input[at++]
    if (control === undefined) return undefined
    if (control === 0) return at
    const low = ((input[at] ?? 0) << 8) | (input[at + 1] ?? 0)
    if (control < 0x80) {
      if (control > 2) return undefined
      at += 2
      const part = input.subarray(at, at + Math.min(low + 1, output.length - decoder.filled))
      output.set(part, decoder.filled)
      decoder.filled += part.length
      if (part.length < low + 1) return undefined
      at += low + 1
      continue
    }
    const size = ((control & 31) << 16) + low + 1
    const packed = (((input[at + 2] ?? 0) << 8) | (input[at + 3] ?? 0)) + 1
    const reset = (control >> 5) & 3
    at += 4
    if (reset >= 2 && !decoder.setProperties(input[at++] ?? 255)) return undefined
    if (reset === 3) decoder.dictionaryStart = decoder.filled
    if (reset >= 1) decoder.resetState()
    const before = decoder.filled
    const { sound, consumed } = decoder.decode(input, at, size)
    if (!sound || consumed > packed + 1 || at + consumed > input.length) {
      decoder.filled = before
      return undefined
    }
    if (decoder.filled === output.length) return undefined
    at += packed
  }
}

/** What all blocks of the last stream decode to, by the index before the footer that `tail` ends with; undefined when there is none in it. */
export function xzContentSize(tail: Uint8Array): number | undefined {
  const footer = tail.length - 12
  if (footer < 0 || tail[footer + 10] !== 0x59 || tail[footer + 11] !== 0x5a) return undefined
  const view = new DataView(tail.buffer, tail.byteOffset, tail.byteLength)
  const start = footer - (view.getUint32(footer + 4, true) + 1) * 4
  if (start < 0 || tail[start] !== 0) return undefined
  const count = readNumber(tail, start + 1)
  if (count === undefined) return undefined
  let size = 0
  let at = count.next
  for (let index = 0; index < count.value; index++) {
    const unpadded = at < footer ? readNumber(tail, at) : undefined
    const whole = unpadded === undefined ? undefined : readNumber(tail, unpadded.next)
    if (whole === undefined) return undefined
    size += whole.value
    at = whole.next
  }
  return size
}
