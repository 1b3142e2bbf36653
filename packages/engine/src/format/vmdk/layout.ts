/** The structures of VMDK extents as they lie on disk: hosted sparse (`KDMV`), COWD, seSparse, markers. All little-endian, counted in sectors of 512
 *  bytes. Facts: VMware's "Virtual Disk Format 5.0", and the behaviour of QEMU 7.2's `block/vmdk.c`. */
import { setU64le, u64le, viewOf } from '../../bytes/integers.ts'

/** Bytes of a sector, in all counts of this format. */
export const sectorBytes = 512

/** Bytes of a header of any kind. */
export const headerBytes = 512

/** Flags of the hosted sparse header. The upper 16 bits are incompatible ones. */
export const flags = {
  /** The newline characters tell whether the file went through a transfer as text. */
  newlines: 0x1,
  /** The redundant grain directory is valid. */
  redundant: 0x2,
  /** A grain table entry of 1 reads as zeros. */
  zeroedGrains: 0x4,
  compressed: 0x1_0000,
  /** Grains begin with their sector number, tables with a marker. */
  markers: 0x2_0000,
} as const

/** Bounds of what is opened. */
export const bounds = {
  /** Bytes of a descriptor, QEMU's bound. */
  descriptorBytes: 1024 * 1024 - 1,
  /** Entries of a grain directory, QEMU's bound. */
  directoryEntries: 32 * 1024 * 1024,
  /** Entries of a hosted grain table, QEMU's bound. */
  tableEntries: 512,
  /** Sectors of a grain (1 GiB), QEMU's bound. */
  grainSectors: 0x20_0000,
  /** Bytes of a compressed grain: it must be decoded whole. */
  packedGrainBytes: 4 * 1024 * 1024,
  /** Sectors that a table can point at. */
  fileSectors: 2 ** 32,
  extents: 4096,
} as const

/** Sectors that the embedded descriptor of a new image gets. */
export const descriptorSectors = 20

/** The first sector behind the header. */
export const descriptorSector = 1

/** Entries of a grain table and sectors of a grain in new images. */
export const newShape = { tableEntries: 512, grainSectors: 128 } as const

/** Types of metadata markers. */
export const markers = { endOfStream: 0, grainTable: 1, grainDirectory: 2, footer: 3 } as const

/** A grain table entry for zeros, where the header allows it. */
export const zeroedEntry = 1

/** Byte offsets in the hosted sparse header. */
const at = {
  version: 4,
  flags: 8,
  capacity: 12,
  grainSectors: 20,
  descriptorSector: 28,
  descriptorSectors: 36,
  tableEntries: 44,
  redundantDirectory: 48,
  directory: 56,
  overhead: 64,
  newlines: 73,
  compression: 77,
} as const

const newlines = [0x0a, 0x20, 0x0d, 0x0a] as const

/** A hosted sparse header. Sectors unless it says otherwise; Infinity stands for what passes 2^53. */
export interface SparseHeader {
  version: number
  flags: number
  capacity: number
  grainSectors: number
  /** 0: no embedded descriptor. */
  descriptorSector: number
  descriptorSectors: number
  tableEntries: number
  redundantDirectory: number
  /** `atEnd`: the footer tells. */
  directory: number | 'atEnd'
  overhead: number
  /** 1: zlib streams. */
  compression: number
}

/** Whether bytes begin as a hosted sparse extent. */
export function isSparse(bytes: Uint8Array): boolean {
  return startsWith(bytes, 'KDMV')
}

/** Whether bytes begin as a COWD extent. */
export function isCowd(bytes: Uint8Array): boolean {
  return startsWith(bytes, 'COWD')
}

function startsWith(bytes: Uint8Array, text: string): boolean {
  for (let i = 0; i < text.length; i++) if (bytes[i] !== text.charCodeAt(i)) return false
  return true
}

/** Reads a hosted sparse header of 512 bytes as it stands; nothing is checked. */
export function parseSparseHeader(bytes: Uint8Array): SparseHeader {
  const view = viewOf(bytes)
  const word = (offset: number): number => view.getUint32(offset, true)
  const atEnd = word(at.directory) === 0xffff_ffff && word(at.directory + 4) === 0xffff_ffff
  return {
    version: word(at.version),
    flags: word(at.flags),
    capacity: u64le(view, at.capacity),
    grainSectors: u64le(view, at.grainSectors),
    descriptorSector: u64le(view, at.descriptorSector),
    descriptorSectors: u64le(view, at.descriptorSectors),
    tableEntries: word(at.tableEntries),
    redundantDirectory: u64le(view, at.redundantDirectory),
    directory: atEnd ? 'atEnd' : u64le(view, at.directory),
    overhead: u64le(view, at.overhead),
    compression: view.getUint16(at.compression, true),
  }
}

/** Whether the newline characters of a header are as they were written. */
export function newlinesIntact(bytes: Uint8Array): boolean {
  return newlines.every((value, i) => bytes[at.newlines + i] === value)
}

/** A hosted sparse header as 512 bytes. */
export function encodeSparseHeader(header: SparseHeader): Uint8Array {
  const bytes = new Uint8Array(headerBytes)
  const view = viewOf(bytes)
  for (let i = 0; i < 4; i++) bytes[i] = 'KDMV'.charCodeAt(i)
  view.setUint32(at.version, header.version, true)
  view.setUint32(at.flags, header.flags, true)
  setU64le(view, at.capacity, header.capacity)
  setU64le(view, at.grainSectors, header.grainSectors)
  setU64le(view, at.descriptorSector, header.descriptorSector)
  setU64le(view, at.descriptorSectors, header.descriptorSectors)
  view.setUint32(at.tableEntries, header.tableEntries, true)
  setU64le(view, at.redundantDirectory, header.redundantDirectory)
  if (header.directory === 'atEnd') bytes.fill(0xff, at.directory, at.directory + 8)
  else setU64le(view, at.directory, header.directory)
  setU64le(view, at.overhead, header.overhead)
  bytes.set(newlines, at.newlines)
  view.setUint16(at.compression, header.compression, true)
  return bytes
}

/** Changes the bytes of a hosted header: how much it covers, and where its directories are. Sectors. Where the first directory has no place of its own, the redundant one serves. */
export function setCapacity(
  bytes: Uint8Array,
  to: { capacity: number; directory: number; redundantDirectory: number | undefined },
): void {
  const view = viewOf(bytes)
  const alone = u64le(view, at.directory) === 0
  setU64le(view, at.capacity, to.capacity)
  if (alone) setU64le(view, at.redundantDirectory, to.directory)
  else setU64le(view, at.directory, to.directory)
  if (to.redundantDirectory !== undefined) setU64le(view, at.redundantDirectory, to.redundantDirectory)
}

/** The fields of a COWD header. Sectors. */
export interface CowdHeader {
  capacity: number
  grainSectors: number
  directory: number
  directoryEntries: number
}

/** Entries of a grain table of COWD and of seSparse. */
export const wideTableEntries = 4096

/** Reads a COWD header of 512 bytes. */
export function parseCowdHeader(bytes: Uint8Array): CowdHeader {
  const view = viewOf(bytes)
  return {
    capacity: view.getUint32(12, true),
    grainSectors: view.getUint32(16, true),
    directory: view.getUint32(20, true),
    directoryEntries: view.getUint32(24, true),
  }
}

/** The fields of a seSparse constant header that reading needs. Sectors. */
export interface SeSparseHeader {
  capacity: number
  volatileHeader: number
  directory: number
  directorySectors: number
  tables: number
  grains: number
}

/** Sectors of a grain and of a grain table of seSparse: nothing else was ever seen. */
export const seSparseShape = { grainSectors: 8, tableSectors: 64 } as const

/** Reads the constant header of a seSparse extent, 512 bytes. Returns the rule that is broken when it is not one that can be read. Strict, as the format is
 *  documented nowhere; the same rules as QEMU's. */
export function parseSeSparseHeader(bytes: Uint8Array): SeSparseHeader | string {
  const view = viewOf(bytes)
  const field = (index: number): bigint => view.getBigUint64(index * 8, true)
  const hex = (value: bigint): string => `0x${value.toString(16).padStart(16, '0')}`
  if (field(0) !== 0xcafe_baben) return `Bad const header magic: ${hex(field(0))}`
  if (field(1) !== 0x2_0000_0001n) return `Unsupported version: ${hex(field(1))}`
  if (field(3) !== BigInt(seSparseShape.grainSectors)) return `Unsupported grain size: ${field(3)}`
  if (field(4) !== BigInt(seSparseShape.tableSectors)) return `Unsupported grain table size: ${field(4)}`
  if (field(5) !== 0n) return `Unsupported flags: ${hex(field(5))}`
  const reserved = [6, 7, 8, 9].map(field)
  if (reserved.some((value) => value !== 0n)) return `Unsupported reserved bits: ${reserved.map(hex).join(' ')}`
  if (bytes.subarray(26 * 8).some((value) => value !== 0)) return 'Unsupported non-zero const header padding'
  const number = (index: number): number => u64le(view, index * 8)
  return {
    capacity: number(2),
    volatileHeader: number(10),
    directory: number(16),
    directorySectors: number(17),
    tables: number(18),
    grains: number(24),
  }
}

/** Reads the volatile header of a seSparse extent: what is wrong with it, in QEMU's words; undefined when it is sound and clean. */
export function seSparseFault(bytes: Uint8Array): string | undefined {
  const view = viewOf(bytes)
  const magic = view.getBigUint64(0, true)
  if (magic !== 0xcafe_cafen) return `Bad volatile header magic: 0x${magic.toString(16).padStart(16, '0')}`
  if (view.getBigUint64(24, true) !== 0n) return 'Image is dirty, Replaying journal not supported'
  if (bytes.subarray(32).some((value) => value !== 0)) return 'Unsupported non-zero volatile header padding'
  return undefined
}

/** Bytes of what stands before a compressed grain: sector number (u64) and length (u32). */
export const grainMarkerBytes = 12

/** The first sector of what a marker announces: `sectors` of metadata of this type. */
export function encodeMarker(type: number, sectors: number): Uint8Array {
  const bytes = new Uint8Array(sectorBytes)
  const view = viewOf(bytes)
  setU64le(view, 0, sectors)
  view.setUint32(12, type, true)
  return bytes
}

/** Whether a sector is a metadata marker of this type. */
export function isMarker(bytes: Uint8Array, type: number): boolean {
  const view = viewOf(bytes)
  return view.getUint32(8, true) === 0 && view.getUint32(12, true) === type
}
