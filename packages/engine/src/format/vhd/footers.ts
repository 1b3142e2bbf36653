/** Finding a footer: the copy at the start, the one at the end, the short one of old tools. */
import { type ByteSource, readPadded } from '../../core/index.ts'
import type { ImageWarning } from '../format.ts'
import { diskType, type Footer, footerBytes, isSoundFooter, looksLikeFooter, parseFooter, vhdFault } from './layout.ts'

/** The places where a footer may be. */
export interface FooterPlaces {
  /** The first 512 bytes, when they begin like a footer. */
  head: Uint8Array | undefined
  /** The last 512 or 511 bytes (with a zero after them), when they begin like one. */
  tail: Uint8Array | undefined
  /** Byte offset of the last one; the length of the file where there is none. */
  tailOffset: number
}

/** Reads both ends of a file. */
export async function readFooters(file: ByteSource): Promise<FooterPlaces> {
  const head = new Uint8Array(footerBytes)
  await readPadded(file, 0, head)
  const places: FooterPlaces = {
    head: looksLikeFooter(head) ? head : undefined,
    tail: undefined,
    tailOffset: file.size,
  }
  // Before Virtual PC 2004 a footer had 511 bytes.
  for (const length of file.size % 512 === 511 ? [footerBytes - 1, footerBytes] : [footerBytes]) {
    const offset = file.size - length
    if (offset < 0) continue
    const bytes = new Uint8Array(footerBytes)
    await readPadded(file, offset, bytes)
    if (!looksLikeFooter(bytes)) continue
    places.tail = bytes
    places.tailOffset = offset
    break
  }
  return places
}

/** The footer that counts. Of an image with blocks it is the copy at the start, as in QEMU, or the one at the end where the copy is damaged; of a
 *  fixed image the one at the end.
 *  @throws MoraineError `not-this-format` when there is none, `corrupt` when none is sound. */
export function chooseFooter({ head, tail, tailOffset }: FooterPlaces, path: string, warn: ImageWarning): Footer {
  if (head === undefined && tail === undefined) {
    const place = { field: 'cookie', rule: "'conectix' in the first or the last 512 bytes" }
    const reason = tailOffset === 0 ? 'File too small for a VHD header' : 'invalid VPC image'
    throw vhdFault(path, 'not-this-format', reason, place)
  }
  const tailFooter = tail !== undefined && isSoundFooter(tail) ? tail : undefined
  if (head !== undefined && isSoundFooter(head)) {
    const footer = parseFooter(head, path)
    if (footer.type !== diskType.fixed) return footer
    // A fixed image that begins with a footer: what counts is at its end, and this is the guest's.
    if (tailFooter !== undefined && tailOffset > 0) return parseFooter(tailFooter, path)
    if (tailOffset === 0) return footer
  }
  if (tailFooter !== undefined) {
    const footer = parseFooter(tailFooter, path)
    if (footer.type !== diskType.fixed) {
      warn(
        `${path}: the footer's copy at the start is damaged; the footer at the end is used (check -r all repairs it)`,
        'advice',
      )
    }
    return footer
  }
  throw vhdFault(path, 'corrupt', 'Incorrect header checksum', {
    field: 'checksum',
    offset: head === undefined ? tailOffset : 0,
    rule: 'a footer whose checksum is right',
  })
}
