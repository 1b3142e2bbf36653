/** What packed bytes begin with, unpacked in bounded memory: enough to see what is inside, whatever follows. Synchronous, pure TypeScript, and never an error: what is
 *  damaged or cut gives what came before, or nothing. */
import { fields, stands } from '../bytes/header.ts'
import { isMoraineError } from '../core/index.ts'
import { bzip2DecodePart } from './bzip2-decode.ts'
import { inflatePart } from './inflate.ts'
import { lz4DecodePart } from './lz4-frame.ts'
import { lzmaDecodePart } from './lzma-alone.ts'
import { lzoDecodePart } from './lzo-decode.ts'
import { xzDecodePart } from './xz-decode.ts'
import { zstdDecodePart } from './zstd-decode.ts'

/** What a beginning unpacks to. */
export interface Beginning {
  bytes: Uint8Array
  /** The packed stream ended with them. */
  ended: boolean
}

/** Packings that are unpacked here. */
export type BeginningPacking = 'gzip' | 'xz' | 'bzip2' | 'zstd' | 'lz4' | 'lzma' | 'lzo'

/** Least room that is worth a try, where a decoder needs to know a size. */
const leastRoom = 128 * 1024

/** Unpacks the beginning of `packed`, to at most `most` bytes (128 KiB and more); undefined when nothing comes of it. */
export function unpackBeginning(
  packing: BeginningPacking,
  packed: Uint8Array,
  most = 1024 * 1024,
): Beginning | undefined {
  switch (packing) {
    case 'gzip':
      return unpackGzip(packed, most)
    case 'zstd':
      return unpackZstd(packed, most)
    case 'xz':
      return partly(xzDecodePart, packed, most)
    case 'bzip2':
      return partly(bzip2DecodePart, packed, most)
    case 'lz4':
      return partly(lz4DecodePart, packed, most)
    case 'lzo':
      return partly(lzoDecodePart, packed, most)
    case 'lzma':
      // It is slow, and tells neither size nor end: the least must do.
      return bySizes(leastRoom, (output) => {
        const { filled, ended } = lzmaDecodePart(packed, output)
        return filled === 0 ? undefined : { bytes: output.subarray(0, filled), ended }
      })
  }
}

/** Unpacks the beginning of a raw deflate stream, and tells how many packed bytes it took. */
export function inflateBeginning(packed: Uint8Array, most: number): (Beginning & { consumed: number }) | undefined {
  return bySizes(most, (output) => {
    const part = inflatePart(packed, output)
    return part === undefined ? undefined : { ...part, bytes: output.subarray(0, part.filled) }
  })
}

function partly(
  decode: (input: Uint8Array, output: Uint8Array) => { filled: number; ended: boolean },
  packed: Uint8Array,
  most: number,
): Beginning {
  const output = new Uint8Array(most)
  const { filled, ended } = decode(packed, output)
  return { bytes: output.subarray(0, filled), ended }
}

/** Decoders that need a size: the largest that the packed bytes suffice for. */
function bySizes<Part extends Beginning>(
  most: number,
  decode: (output: Uint8Array) => Part | undefined,
): Part | undefined {
  for (let size = most; size >= leastRoom; size /= 2) {
    const part = decode(new Uint8Array(size))
    if (part !== undefined) return part
  }
  return undefined
}

function unpackGzip(packed: Uint8Array, most: number): Beginning | undefined {
  if (!stands(packed, '\x1f\x8b\x08')) return undefined
  const flags = packed[3] ?? 0
  let at = 10
  if ((flags & 4) !== 0) at += 2 + fields(packed, at, 2).getUint16(0, true)
  for (const bit of [8, 16]) {
    if ((flags & bit) === 0) continue
    const nul = packed.indexOf(0, at)
    if (nul < 0) return undefined
    at = nul + 1
  }
  if ((flags & 2) !== 0) at += 2
  const part = inflateBeginning(packed.subarray(at), most)
  // A second member would go on.
  return part === undefined ? undefined : { ...part, ended: part.ended && at + part.consumed + 8 >= packed.length }
}

function unpackZstd(packed: Uint8Array, most: number): Beginning | undefined {
  return bySizes(most, (output) => {
    try {
      const { filled, consumed } = zstdDecodePart(packed, output)
      return { bytes: output.subarray(0, filled), ended: consumed >= packed.length }
    } catch (error) {
      if (isMoraineError(error)) return undefined
      throw error
    }
  })
}
