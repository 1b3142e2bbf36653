/** The old .lzma files, which kernels and ramdisks may still be packed with, decoded as far as input and output go. Facts: the LZMA specification in the LZMA SDK 19. */
import { u64le, viewOf } from '../bytes/integers.ts'
import { LzmaDecoder } from './lzma-decode.ts'

const headerBytes = 13
const mostDictionary = 1024 ** 3

/** Whether bytes may be an .lzma file: its first byte is almost always 0x5d, and its dictionary is 2^n or 2^n + 2^(n-1). The signature is weak. */
export function looksLikeLzma(head: Uint8Array): boolean {
  if (head.length < headerBytes + 5 || head[0] !== 0x5d || head[headerBytes] !== 0) return false
  const view = viewOf(head)
  const dictionary = view.getUint32(1, true)
  const power = 2 ** Math.floor(Math.log2(Math.max(1, dictionary)))
  if (dictionary < 4096 || dictionary > mostDictionary) return false
  if (dictionary !== power && dictionary !== power * 1.5) return false
  const unknown = view.getUint32(5, true) === 0xffff_ffff && view.getUint32(9, true) === 0xffff_ffff
  return unknown || u64le(view, 5) < 2 ** 40
}

/** Decodes an .lzma file from the beginning of `input` until `output` is full, the input is used up, or something is wrong. Returns the bytes written, and whether
 *  all came that its header says; where the header does not say, the end is not seen. */
export function lzmaDecodePart(input: Uint8Array, output: Uint8Array): { filled: number; ended: boolean } {
  if (!looksLikeLzma(input)) return { filled: 0, ended: false }
  const size = u64le(viewOf(input), 5)
  const decoder = new LzmaDecoder(output)
  if (!decoder.setProperties(input[0] as number)) return { filled: 0, ended: false }
  decoder.resetState()
  const { sound, consumed } = decoder.decode(input, headerBytes, size)
  // What was decoded from the zeros behind cut input is worth nothing, and how much of it there is cannot be known.
  if (headerBytes + consumed > input.length + 5) return { filled: 0, ended: false }
  return { filled: decoder.filled, ended: sound && decoder.filled === size }
}
