/** Recognising a VHD: by the copy of its footer at the start, or, for a fixed one, by the footer at the end, where QEMU does not look. */
import { viewOf } from '../../bytes/integers.ts'
import type { ProbeVerdict, ProbeWindow } from '../format.ts'
import { diskType, type Footer, footerBytes, isSoundFooter, looksLikeFooter, parseFooter } from './layout.ts'
import { sectorsOf } from './size.ts'

/** Looks at both ends. A footer at the end counts when its checksum is right, it is that of a fixed image, and one of its sizes is what stands before it. */
export function probeVhd({ name, size, head, tail }: ProbeWindow): ProbeVerdict | undefined {
  if (looksLikeFooter(head.subarray(0, footerBytes)))
    return { score: 100, evidence: 'a footer ("conectix") at the start' }
  for (const length of size % 512 === 511 ? [footerBytes - 1, footerBytes] : [footerBytes]) {
    if (tail.length < length) continue
    const bytes = new Uint8Array(footerBytes)
    bytes.set(tail.subarray(tail.length - length))
    if (isSoundFooter(bytes) && viewOf(bytes).getUint32(60) === diskType.fixed && isWhole(bytes, name, size - length)) {
      return { score: 50, evidence: 'the footer of a fixed VHD at the end', tail: true }
    }
  }
  return undefined
}

function isWhole(bytes: Uint8Array, name: string, content: number): boolean {
  let footer: Footer
  try {
    footer = parseFooter(bytes, name)
  } catch {
    return false
  }
  const { currentSize, originalSize, geometry } = footer
  return [currentSize, originalSize, sectorsOf(geometry) * 512].includes(content)
}
