/** Apple Data Compression, the oldest codec of DMG images: literal runs, and copies from up to 64 KiB back. Facts: the public description of the format. */
import { MoraineError } from '../core/index.ts'

/** Decodes `input` until `output` is full.
 *  @throws MoraineError `corrupt` when the stream ends early or points before its beginning. */
export function adcDecode(input: Uint8Array, output: Uint8Array): void {
  let from = 0
  let to = 0
  const next = (): number => {
    const byte = input[from++]
    if (byte === undefined) throw new MoraineError('corrupt', 'the ADC stream ends early')
    return byte
  }
  while (to < output.length) {
    const control = next()
    if ((control & 0x80) !== 0) {
      const length = Math.min((control & 0x7f) + 1, output.length - to)
      if (from + length > input.length) throw new MoraineError('corrupt', 'the ADC stream ends early')
      output.set(input.subarray(from, from + length), to)
      from += length
      to += length
      continue
    }
    const long = (control & 0x40) !== 0
    const length = long ? (control & 0x3f) + 4 : (control >> 2) + 3
    const distance = 1 + (long ? (next() << 8) | next() : ((control & 3) << 8) | next())
    if (distance > to) throw new MoraineError('corrupt', 'the ADC stream points before its beginning')
    const end = Math.min(to + length, output.length)
    // Byte by byte: what is copied may be what was copied just before.
    for (; to < end; to++) output[to] = output[to - distance] as number
  }
}
