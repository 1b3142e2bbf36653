/** The rare codecs, all with a decoder of the engine's own. */
import { type Codecs, MoraineError, type Unpack } from '../core/index.ts'
import { adcDecode } from './adc.ts'
import { bzip2DecodePart } from './bzip2-decode.ts'
import { lzfseDecode } from './lzfse-decode.ts'
import { xzDecodePart } from './xz-decode.ts'

function whole(name: string, decode: typeof bzip2DecodePart): Unpack {
  return (input, output) => {
    if (decode(input, output).filled === output.length) return
    throw new MoraineError('corrupt', `the ${name} stream is damaged or ends early`)
  }
}

/** Unpacks ADC, bzip2, LZFSE and xz in pure TypeScript.
 *  @throws MoraineError from `unpack`: `corrupt`. */
export const rareCodecs: Codecs = {
  adc: { unpack: adcDecode },
  bzip2: { unpack: whole('bzip2', bzip2DecodePart) },
  lzfse: { unpack: lzfseDecode },
  xz: { unpack: whole('xz', xzDecodePart) },
}
