/** LZFSE, the codec of newer DMG images: a sequence of blocks, plain (`bvx-`), of whole bytes (`bvxn`) or of finite state entropy (`bvx1`, `bvx2`), up to the
 *  mark of the end (`bvx$`). Facts: the format as Apple's reference implementation (lzfse, version 1.0) defines it. */
import { decodeLzfseBlock } from './lzfse-block.ts'
import { readLzfseHeader1, readLzfseHeader2 } from './lzfse-header.ts'
import { decodeLzvn } from './lzfse-lzvn.ts'
import { corruptLzfse, lzfseWorkspace } from './lzfse-workspace.ts'

/** First bytes of blocks, little-endian. */
const magic = {
  end: 0x2478_7662,
  plain: 0x2d78_7662,
  lzfse1: 0x3178_7662,
  lzfse2: 0x3278_7662,
  lzvn: 0x6e78_7662,
}

/** Decodes `input` until `output` is full; what follows is not looked at. The format has no checksum: damage is noticed where it breaks a rule.
 *  @throws MoraineError `corrupt` when the stream is damaged or ends before the output is full. */
export function lzfseDecode(input: Uint8Array, output: Uint8Array): void {
  const view = new DataView(input.buffer, input.byteOffset, input.length)
  const outputView = new DataView(output.buffer, output.byteOffset, output.length)
  let at = 0
  let to = 0
  while (to < output.length) {
    const kind = at + 4 > input.length ? undefined : view.getUint32(at, true)
    if (kind === magic.end) throw corruptLzfse('the stream holds fewer bytes than it should', at)
    if (at + 8 > input.length) throw corruptLzfse('the stream ends early', at)
    const size = view.getUint32(at + 4, true)
    if (kind === magic.plain) {
      at += 8
      if (size > input.length - at) throw corruptLzfse('a plain block is cut', at)
      const part = input.subarray(at, at + Math.min(size, output.length - to))
      output.set(part, to)
      to += part.length
      at += size
    } else if (kind === magic.lzvn) {
      if (at + 12 > input.length) throw corruptLzfse('the header of a block is cut', at)
      const end = at + 12 + view.getUint32(at + 8, true)
      if (end > input.length) throw corruptLzfse('a block is cut', at)
      to = decodeLzvn(input, at + 12, end, size, output, outputView, to)
      at = end
    } else if (kind === magic.lzfse1 || kind === magic.lzfse2) {
      const workspace = lzfseWorkspace()
      const { header } = workspace
      const body = (kind === magic.lzfse1 ? readLzfseHeader1 : readLzfseHeader2)(view, at, header)
      const end = body + header.literalBytes + header.tripletBytes
      if (end > input.length) throw corruptLzfse('a block is cut', at)
      // Bits are read in whole words. Behind a whole stream there is the mark of its end; a cut one gets zeros.
      const whole = end + 4 <= input.length
      const streams = whole ? view : paddedView(input.subarray(body, end))
      to = decodeLzfseBlock(workspace, streams, whole ? body : 0, output, outputView, to)
      at = end
    } else throw corruptLzfse('an unknown kind of block', at)
  }
}

function paddedView(bytes: Uint8Array): DataView {
  const copy = new Uint8Array(bytes.length + 4)
  copy.set(bytes)
  return new DataView(copy.buffer)
}
