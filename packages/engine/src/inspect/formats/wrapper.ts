/** Compressed files: what wraps, how much it unpacks to, and what is inside, as far as the first bytes tell. Facts: RFC 1952 (gzip), RFC 8878 (zstd), the .xz file
 *  format 1.2.1, the LZ4 frame format 1.6.4, bzip2 1.0.8, PKWARE's APPNOTE 6.3 (zip). */

import { fields, nameAt, stands } from '../../bytes/header.ts'
import { type Beginning, type BeginningPacking, inflateBeginning, unpackBeginning } from '../../codec/beginning.ts'
import { lz4ContentSize } from '../../codec/lz4-frame.ts'
import { xzContentSize } from '../../codec/xz-decode.ts'
import { readZstdFrameHeader } from '../../codec/zstd-frame.ts'
import { isMoraineError } from '../../core/index.ts'
import { atEnd, type End, type Inspector, type Look, region, type View } from '../contract.ts'
import type { Report } from '../finding.ts'

const KiB = 1024
/** Most bytes that are unpacked. */
const mostUnpacked = 1024 * KiB
/** What unpacking may cost: bytes out for a byte in. Deflate cannot pass 1032 to 1, LZ4 not 255 to 1. */
const mostRatio = 1100

/** One kind of wrapper. */
interface Wrapper {
  format: string
  /** Its first bytes, as characters. */
  magic: string[]
  /** More that must hold. */
  fits?(head: Uint8Array): boolean
  /** Packed bytes that are looked at. */
  packedBytes: number
  unpack?(packed: Uint8Array): Beginning | undefined
  /** Bytes out for a byte in that the coding cannot pass. */
  naturalRatio?: number
  /** Bytes of all that is inside, where the wrapper says so. */
  contentSize?(head: Uint8Array, end: End, report: Report): number | undefined
}

const wrappers: readonly Wrapper[] = [
  {
    format: 'gzip',
    magic: ['\x1f\x8b\x08'],
    packedBytes: 256 * KiB,
    naturalRatio: 1032,
    unpack: beginning('gzip'),
    contentSize: gzipSize,
  },
  {
    format: 'xz',
    magic: ['\xfd7zXZ\0'],
    packedBytes: 256 * KiB,
    unpack: beginning('xz'),
    contentSize: (_, { tail }) => xzContentSize(tail),
  },
  {
    format: 'bzip2',
    magic: ['BZh'],
    fits: (head) =>
      /[1-9]/.test(String.fromCharCode(head[3] ?? 0)) &&
      (stands(head, '1AY&SY', 4) || stands(head, '\x17\x72\x45\x38\x50\x90', 4)),
    packedBytes: 1024 * KiB,
    unpack: beginning('bzip2'),
  },
  {
    format: 'zstd',
    magic: [
      '\x28\xb5\x2f\xfd',
      ...Array.from({ length: 16 }, (_, index) => `${String.fromCharCode(0x50 + index)}\x2a\x4d\x18`),
    ],
    packedBytes: 256 * KiB,
    unpack: beginning('zstd'),
    contentSize: zstdSize,
  },
  {
    format: 'lz4',
    magic: ['\x04\x22\x4d\x18', '\x02\x21\x4c\x18'],
    packedBytes: 256 * KiB,
    naturalRatio: 255,
    unpack: beginning('lz4'),
    contentSize: (head) => lz4ContentSize(head),
  },
  {
    format: 'zip',
    magic: ['PK\x03\x04', 'PK\x05\x06'],
    packedBytes: 256 * KiB,
    unpack: unpackZip,
    contentSize: zipSize,
  },
  { format: '7z', magic: ['7z\xbc\xaf\x27\x1c'], packedBytes: 0 },
  { format: 'lha', magic: [''], fits: (head) => stands(head, '-lh', 2) && head[6] === 45, packedBytes: 0 },
]

/** The inspector of compressed files. */
export const wrapper: Inspector = { name: 'wrapper', budget: 1024 * KiB, inspect }

function* inspect(view: View): Look {
  const { head, found } = view
  const kind = wrappers.find(({ magic, fits }) => magic.some((text) => stands(head, text)) && (fits?.(head) ?? true))
  if (kind === undefined) return
  const report = found(kind.format, 'wrapper', evidenceOf(kind, head))
  const { bytes, missing } = yield* region(0, kind.packedBytes)
  const part = kind.unpack?.(bytes)
  const whole = missing === 'end' && part?.ended === true
  if (part !== undefined && part.bytes.length > 0) {
    const inner = view.inner(part.bytes, whole)
    if (inner !== undefined) report.finding.inner = inner
  }
  noteInner(report, kind, part, whole)
  const end = yield* atEnd()
  judgeRatio(report, kind, head, end, whole ? part : undefined)
}

function evidenceOf({ format, magic }: Wrapper, head: Uint8Array): string {
  const text = magic.find((each) => stands(head, each)) ?? ''
  if (text === '') return `the method of ${format} at 2`
  return `signature ${[...text].map((byte) => byte.charCodeAt(0).toString(16).padStart(2, '0')).join(' ')} at 0`
}

/** Says how much of the content was looked at. */
function noteInner(report: Report, kind: Wrapper, part: Beginning | undefined, whole: boolean): void {
  const place = { field: 'bytes unpacked', value: part?.bytes.length ?? 0, rule: 'all of them' }
  if (kind.unpack === undefined)
    report.unknown('content', `what is inside cannot be seen: ${kind.format} is not unpacked`, place)
  else if (report.finding.inner === undefined) report.unknown('content', 'what is inside cannot be seen', place)
  else if (!whole) report.unknown('content', 'only the beginning of what is inside was looked at', place)
  else {
    const { format, virtualSize } = report.finding.inner
    if (virtualSize !== undefined) report.virtualSize(virtualSize)
    report.passed('content', `all of what is inside was looked at: ${format}`)
  }
}

function judgeRatio(report: Report, kind: Wrapper, head: Uint8Array, end: End, all: Beginning | undefined): void {
  const said = kind.contentSize?.(head, end, report)
  const total = all?.bytes.length ?? said
  if (total !== undefined) report.fact('unpackedSize', total)
  const ratio = total === undefined ? undefined : Math.round(total / Math.max(1, end.size))
  const place = { field: 'bytes out for a byte in', rule: `at most ${mostRatio}` }
  if (all !== undefined) {
    report.passed('decompression-ratio', 'it was unpacked whole', { field: 'bytes', value: all.bytes.length })
  } else if (kind.naturalRatio !== undefined) {
    report.passed('decompression-ratio', `${kind.format} cannot unpack to more`, { ...place, value: kind.naturalRatio })
  } else if (ratio === undefined) {
    report.unknown('decompression-ratio', 'it does not say how much it unpacks to', place)
  } else if (ratio > mostRatio) {
    report.failed('decompression-ratio', 'it unpacks to very much more', { ...place, value: ratio })
  } else report.passed('decompression-ratio', 'it unpacks to a sane size', { ...place, value: ratio })
}

function beginning(packing: BeginningPacking) {
  return (packed: Uint8Array): Beginning | undefined => unpackBeginning(packing, packed, mostUnpacked)
}

/** The last member's size, modulo 2^32: told, not relied on. */
function gzipSize(_head: Uint8Array, { tail, size }: End): number | undefined {
  if (size < 18 || size >= 2 ** 22) return undefined
  return fields(tail, tail.length - 4, 4).getUint32(0, true)
}

function zstdSize(head: Uint8Array): number | undefined {
  try {
    return readZstdFrameHeader(head, 0).contentSize
  } catch (error) {
    if (isMoraineError(error)) return undefined
    throw error
  }
}

const stored = 0
const deflated = 8

/** The first member; it is all there is when the directory at the end of `packed` has no other. */
function unpackZip(packed: Uint8Array): Beginning | undefined {
  if (!stands(packed, 'PK\x03\x04')) return undefined
  const header = fields(packed, 0, 30)
  const method = header.getUint16(8, true)
  const at = 30 + header.getUint16(26, true) + header.getUint16(28, true)
  const input = packed.subarray(at)
  // Encrypted.
  if ((header.getUint16(6, true) & 1) !== 0) return undefined
  const directory = findDirectory(packed)
  const alone = directory !== undefined && fields(packed, directory, 22).getUint16(10, true) === 1
  if (method === stored) {
    const streamed = (header.getUint16(6, true) & 8) !== 0
    const size = streamed ? 0 : header.getUint32(18, true)
    return {
      bytes: input.subarray(0, Math.min(size, mostUnpacked)),
      ended: alone && size <= mostUnpacked && size <= input.length,
    }
  }
  if (method !== deflated) return undefined
  const part = inflateBeginning(input, mostUnpacked)
  return part === undefined ? undefined : { ...part, ended: part.ended && alone }
}

/** Where the end record of a zip stands in its last bytes. */
function findDirectory(tail: Uint8Array): number | undefined {
  for (let at = tail.length - 22; at >= Math.max(0, tail.length - 65_557); at--) {
    if (!stands(tail, 'PK\x05\x06', at)) continue
    if (at + 22 + fields(tail, at + 20, 2).getUint16(0, true) === tail.length) return at
  }
  return undefined
}

/** The sum of all members by the central directory, when it lies in the tail. */
function zipSize(_head: Uint8Array, { size, tail }: End, report: Report): number | undefined {
  const at = findDirectory(tail)
  if (at === undefined) return undefined
  const directory = fields(tail, at, 22)
  const count = directory.getUint16(10, true)
  report.fact('members', count)
  let entry = directory.getUint32(16, true) - (size - tail.length)
  if (entry < 0) return undefined
  let total = 0
  for (let index = 0; index < count; index++) {
    if (!stands(tail, 'PK\x01\x02', entry)) return undefined
    const view = fields(tail, entry, 46)
    const bytes = view.getUint32(24, true)
    if (bytes === 0xffff_ffff) return undefined
    if (index === 0) report.fact('firstMember', nameAt(tail, entry + 46, view.getUint16(28, true)))
    total += bytes
    entry += 46 + view.getUint16(28, true) + view.getUint16(30, true) + view.getUint16(32, true)
  }
  return total
}
