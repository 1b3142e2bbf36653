/** Files that are packed as a whole, by their first bytes. Facts: RFC 1952 (gzip), the .xz file format 1.2.1, bzip2 1.0.8, RFC 8878 (zstd), the LZ4 frame format
 *  1.6.4, PKWARE's APPNOTE 6.3 (zip). */
import { latin1 } from '../../bytes/header.ts'
import { viewOf } from '../../bytes/integers.ts'
import type { Wrapping } from '../../core/index.ts'

/** What a file is wrapped in. */
export type WrapperName = Exclude<Wrapping, 'deflate'> | 'zip'

/** Enough of a file to tell. */
export const signatureBytes = 32

const signatures: readonly (readonly [bytes: string, name: WrapperName])[] = [
  ['\x1f\x8b\x08', 'gzip'],
  ['\xfd7zXZ\0', 'xz'],
  ['\x28\xb5\x2f\xfd', 'zstd'],
  ['\x04\x22\x4d\x18', 'lz4'],
  ['\x02\x21\x4c\x18', 'lz4'],
  ['PK\x03\x04', 'zip'],
  ['PK\x05\x06', 'zip'],
]

/** What a file is wrapped in by the bytes it begins with; undefined where that is none of the wrappers that are known. A zstd or LZ4 file may also begin with a
 *  frame to be passed over, which both have: where what follows cannot be seen, such a one is zstd. */
export function detectWrapper(head: Uint8Array): WrapperName | undefined {
  const text = latin1(head, 0, signatureBytes)
  for (const [bytes, name] of signatures) if (text.startsWith(bytes)) return name
  // A block follows, or the end of an empty stream.
  if (/^BZh[1-9]/.test(text) && (text.startsWith('1AY&SY', 4) || text.startsWith('\x17rE8P\x90', 4))) return 'bzip2'
  return text.startsWith('\x2a\x4d\x18', 1) && (head[0] as number) >> 4 === 5 ? behindSkippable(head) : undefined
}

/** What stands behind a frame to be passed over. */
function behindSkippable(head: Uint8Array): WrapperName | undefined {
  if (head.length < 8) return undefined
  const next = 8 + viewOf(head).getUint32(4, true)
  return next + 4 > head.length ? 'zstd' : detectWrapper(head.subarray(next))
}
