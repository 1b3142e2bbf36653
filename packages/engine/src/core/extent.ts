/** Extents: what lies at a range of a source or a disk. The currency between rooms. */
import type { ByteSource } from './source.ts'

/** How the bytes of one unit (a cluster, a grain) are packed. */
export type PackedCodec = 'deflate' | 'zlib' | 'zstd'

/** One packed unit: `length` bytes at `offset` of `source` decode to the extent it belongs to. */
export interface PackedUnit {
  source: ByteSource
  /** Byte offset of the packed bytes. */
  offset: number
  /** Bytes that the format reserves for them; the stream may end earlier, the rest is padding. */
  length: number
  codec: PackedCodec
}

/** What lies at `[offset, offset + length)`. `data` and `zero` do not exclude each other: a preallocated cluster is both. */
export interface Extent {
  /** Byte offset in the source or disk that was asked. */
  offset: number
  /** Bytes, more than 0. */
  length: number
  /** This disk or one below it in the chain decides the content; false when nothing in the chain does. */
  allocated: boolean
  /** Bytes are stored for it. */
  data: boolean
  /** It reads as zeros. */
  zero: boolean
  /** Which disk of the chain decides: 0 is the one that was asked. */
  depth: number
  /** Where the bytes lie, when they lie plain and in order. */
  host?: { source: ByteSource; offset: number }
  /** Present when the bytes must be decoded first. */
  encoded?: 'compressed' | 'encrypted'
  /** With `encoded: 'compressed'`: the packed unit. Such an extent covers one unit, or a part of it (`skip` > 0 or a shorter length). */
  packed?: PackedUnit & {
    /** Bytes of the decoded unit before this extent begins. */
    skip: number
    /** Bytes the whole unit decodes to. */
    size: number
  }
}

/** Appends `next` to `list`, melting it into the last extent when both say the same and their bytes lie side by side. */
export function appendExtent(list: Extent[], next: Extent): void {
  const last = list[list.length - 1]
  if (last !== undefined && canMelt(last, next)) last.length += next.length
  else list.push(next)
}

function canMelt(last: Extent, next: Extent): boolean {
  return (
    last.offset + last.length === next.offset &&
    last.data === next.data &&
    last.zero === next.zero &&
    last.allocated === next.allocated &&
    last.depth === next.depth &&
    last.encoded === next.encoded &&
    last.packed === undefined &&
    next.packed === undefined &&
    (last.host === undefined
      ? next.host === undefined
      : next.host !== undefined &&
        last.host.source === next.host.source &&
        last.host.offset + last.length === next.host.offset)
  )
}
