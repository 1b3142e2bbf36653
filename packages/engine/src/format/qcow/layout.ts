/** qcow version 1 on disk: the header, the entries of its tables; all numbers big-endian. Facts: the behaviour of QEMU 7.2. */
import { setU64be, u64be, viewOf } from '../../bytes/integers.ts'
import { type ErrorKind, type ErrorPlace, MoraineError } from '../../core/index.ts'

/** Bytes of the header. */
export const headerBytes = 48

/** `QFI\xfb`; later versions begin with it too. */
export const magic = 0x5146_49fb

/** Longest name of a backing file, in bytes. */
export const mostNameBytes = 1023

/** Most entries of an L1 table that QEMU reads. */
export const mostL1Entries: number = Math.floor(0x7fff_ffff / 8)

/** Byte offsets in the header. */
const field = {
  magic: 0,
  version: 4,
  backingOffset: 8,
  backingLength: 16,
  size: 24,
  clusterBits: 32,
  l2Bits: 33,
  cryptMethod: 36,
  l1Offset: 40,
} as const

/** Bit 63 of an L2 entry: the cluster is packed. As it stands in the upper 32 bits. */
export const packedFlag = 0x8000_0000

/** The header's fields, and what follows from them. */
export interface QcowHeader {
  backingOffset: number
  backingLength: number
  /** Bytes, as stored. */
  size: number
  clusterBits: number
  /** The number of entries of an L2 table is 2 to the power of this. */
  l2Bits: number
  /** 0, or 1 for the AES of old. */
  cryptMethod: number
  l1Offset: number
}

/** Sizes that follow from a header. Bytes, unless the name says otherwise. */
export interface QcowGeometry {
  /** What the guest sees: whole sectors of 512. */
  virtualSize: number
  clusterSize: number
  l1Entries: number
  l2Entries: number
  l2Bytes: number
  /** Guest bytes of one L2 table. */
  l2Cover: number
}

/** Whether the first bytes of a file are those of a qcow image of version 1. */
export function looksLikeQcow(head: Uint8Array): boolean {
  if (head.length < 8) return false
  const view = viewOf(head)
  return view.getUint32(field.magic) === magic && view.getUint32(field.version) === 1
}

/** An error about a qcow image. */
export function qcowFault(path: string, kind: ErrorKind, reason: string, place: ErrorPlace): MoraineError {
  return new MoraineError(kind, reason, { path, format: 'qcow', ...place })
}

/** Reads and checks the first 48 bytes of an image; the words are QEMU's.
 *  @throws MoraineError `not-this-format`, `unsupported` for another version, `invalid` for a field that breaks a rule. */
export function parseHeader(bytes: Uint8Array, path: string): QcowHeader {
  const view = viewOf(bytes)
  const refuse = (kind: ErrorKind, name: string, value: number, reason: string, rule: string): never => {
    throw qcowFault(path, kind, reason, { field: name, value, rule })
  }
  const foundMagic = view.getUint32(field.magic)
  if (foundMagic !== magic) refuse('not-this-format', 'magic', foundMagic, 'Image not in qcow format', '514649fb')
  const version = view.getUint32(field.version)
  if (version !== 1) {
    const instead = version === 2 || version === 3 ? "\nTry the 'qcow2' driver instead." : ''
    throw qcowFault(path, 'unsupported', `qcow (v1) does not support qcow version ${version}${instead}`, {
      field: 'version',
      value: version,
      rule: '1',
    })
  }
  const header: QcowHeader = {
    backingOffset: u64be(view, field.backingOffset),
    backingLength: view.getUint32(field.backingLength),
    size: u64be(view, field.size),
    clusterBits: view.getUint8(field.clusterBits),
    l2Bits: view.getUint8(field.l2Bits),
    cryptMethod: view.getUint32(field.cryptMethod),
    l1Offset: u64be(view, field.l1Offset),
  }
  const { size, clusterBits, l2Bits, cryptMethod, l1Offset, backingOffset, backingLength } = header
  if (size <= 1) refuse('invalid', 'size', size, 'Image size is too small (must be at least 2 bytes)', '2 at least')
  if (clusterBits < 9 || clusterBits > 16) {
    refuse('invalid', 'cluster_bits', clusterBits, 'Cluster size must be between 512 and 64k', '9 to 16')
  }
  if (l2Bits < 6 || l2Bits > 13) {
    refuse('invalid', 'l2_bits', l2Bits, 'L2 table size must be between 512 and 64k', '6 to 13')
  }
  if (cryptMethod > 1) {
    refuse('invalid', 'crypt_method', cryptMethod, 'invalid encryption method in qcow header', '0 or 1')
  }
  if (size / 2 ** (clusterBits + l2Bits) > 0x7fff_ffff / 8) {
    refuse('invalid', 'size', size, 'Image too large', 'an L1 table of at most 2 GiB')
  }
  if (l1Offset === Number.POSITIVE_INFINITY || l1Offset < headerBytes) {
    refuse('corrupt', 'l1_table_offset', l1Offset, 'the L1 table lies over the header', `${headerBytes} at least`)
  }
  if (backingOffset !== 0 && backingLength > mostNameBytes) {
    refuse('invalid', 'backing_file_size', backingLength, 'Backing file name too long', `at most ${mostNameBytes}`)
  }
  return header
}

/** Byte offset behind the header and the name of the backing file. */
export function endOfNames({ backingOffset, backingLength }: QcowHeader): number {
  return backingOffset === 0 ? headerBytes : Math.max(headerBytes, backingOffset + backingLength)
}

/** The sizes of an image. */
export function geometryOf({ size, clusterBits, l2Bits }: QcowHeader): QcowGeometry {
  const l2Cover = 2 ** (clusterBits + l2Bits)
  return {
    virtualSize: Math.floor(size / 512) * 512,
    clusterSize: 2 ** clusterBits,
    l1Entries: Math.ceil(size / l2Cover),
    l2Entries: 2 ** l2Bits,
    l2Bytes: 2 ** l2Bits * 8,
    l2Cover,
  }
}

/** The bytes of a header. */
export function encodeHeader(header: QcowHeader): Uint8Array {
  const bytes = new Uint8Array(headerBytes)
  const view = viewOf(bytes)
  view.setUint32(field.magic, magic)
  view.setUint32(field.version, 1)
  setU64be(view, field.backingOffset, header.backingOffset)
  view.setUint32(field.backingLength, header.backingLength)
  setU64be(view, field.size, header.size)
  view.setUint8(field.clusterBits, header.clusterBits)
  view.setUint8(field.l2Bits, header.l2Bits)
  view.setUint32(field.cryptMethod, header.cryptMethod)
  setU64be(view, field.l1Offset, header.l1Offset)
  return bytes
}

/** The header of a new image, as QEMU lays it out: small clusters over a backing file, whose name follows the header.
 *  `size` and `nameBytes` in bytes; `nameBytes` 0 without a backing file. */
export function newHeader(size: number, nameBytes: number): QcowHeader {
  const over = nameBytes > 0
  return {
    backingOffset: over ? headerBytes : 0,
    backingLength: nameBytes,
    size,
    clusterBits: over ? 9 : 12,
    l2Bits: over ? 12 : 9,
    cryptMethod: 0,
    l1Offset: Math.ceil((headerBytes + nameBytes) / 8) * 8,
  }
}

/** Where a packed cluster lies: bytes at a byte offset, `Infinity` past 2^53. */
export function packedSpan(upper: number, lower: number, clusterBits: number): { offset: number; length: number } {
  // Bit 63, then as many bits of length as a cluster's size has, then the offset.
  const shift = 31 - clusterBits
  const length = (upper & 0x7fff_ffff) >>> shift
  const high = upper & (2 ** shift - 1)
  return { offset: high > 0x1f_ffff ? Number.POSITIVE_INFINITY : high * 2 ** 32 + lower, length }
}

/** The entry of a packed cluster. */
export function packedEntry(offset: number, length: number, clusterBits: number): [upper: number, lower: number] {
  const high = Math.floor(offset / 2 ** 32)
  return [(packedFlag | (length << (31 - clusterBits)) | high) >>> 0, offset % 2 ** 32]
}
