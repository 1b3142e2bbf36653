/** What kernels and ramdisks may be packed with, by the first bytes. Facts: Linux, lib/decompress.c; the legacy LZ4 frame. */
import { stands } from '../../bytes/header.ts'
import { looksLikeLzma } from '../../codec/lzma-alone.ts'

/** What Linux unpacks by itself. */
export type GuestPacking = 'gzip' | 'xz' | 'bzip2' | 'zstd' | 'lz4' | 'lzma' | 'lzo'

const signatures: readonly (readonly [name: GuestPacking, magic: string])[] = [
  ['gzip', '\x1f\x8b'],
  ['gzip', '\x1f\x9e'],
  ['xz', '\xfd7zXZ\0'],
  ['bzip2', 'BZh'],
  ['zstd', '\x28\xb5\x2f\xfd'],
  ['lz4', '\x02\x21\x4c\x18'],
  ['lz4', '\x04\x22\x4d\x18'],
  ['lzo', '\x89LZO\0\r\n\x1a\n'],
]

/** How bytes are packed; undefined where they are not. */
export function packingOf(head: Uint8Array): GuestPacking | undefined {
  const found = signatures.find(([, magic]) => stands(head, magic))?.[0]
  if (found !== undefined) return found
  // The kernel goes by these three bytes alone; a payload's magic is all that can be seen of it.
  return looksLikeLzma(head) || (head.length === 16 && stands(head, ']\0\0')) ? 'lzma' : undefined
}
