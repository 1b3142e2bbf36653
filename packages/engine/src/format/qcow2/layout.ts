/** qcow2 structures as they stand on disk. Source: QEMU's docs/interop/qcow2.txt; everything is big-endian. */

/** "QFI\xfb". */
export const magic = 0x514649fb

/** Byte offsets of the header's fields. */
export const field = {
  magic: 0,
  version: 4,
  backingFileOffset: 8,
  backingFileSize: 16,
  clusterBits: 20,
  size: 24,
  cryptMethod: 32,
  l1Size: 36,
  l1TableOffset: 40,
  refcountTableOffset: 48,
  refcountTableClusters: 56,
  snapshotCount: 60,
  snapshotsOffset: 64,
  incompatibleFeatures: 72,
  compatibleFeatures: 80,
  autoclearFeatures: 88,
  refcountOrder: 96,
  headerLength: 100,
  compressionType: 104,
} as const

/** Bytes of a version 2 header; extensions start here. */
export const headerLengthV2 = 72
/** Least bytes of a version 3 header. */
export const headerLengthV3 = 104
/** What QEMU writes since it has compression types. */
export const headerLengthWritten = 112

/** Incompatible feature bits: a reader must know every one that is set. */
export const incompatible = {
  dirty: 1n << 0n,
  corrupt: 1n << 1n,
  dataFile: 1n << 2n,
  compression: 1n << 3n,
  extendedL2: 1n << 4n,
} as const

/** Every incompatible bit this engine knows. */
export const knownIncompatible = 0x1fn

/** Compatible feature bits: may be ignored. */
export const compatible = { lazyRefcounts: 1n << 0n } as const

/** Autoclear feature bits: cleared by a writer that does not know them. */
export const autoclear = { bitmaps: 1n << 0n, rawDataFile: 1n << 1n } as const

/** Every autoclear bit this engine knows. */
export const knownAutoclear = 3n

/** Header extension types. */
export const extension = {
  end: 0x00000000,
  backingFormat: 0xe2792aca,
  featureNames: 0x6803f857,
  bitmaps: 0x23852875,
  crypto: 0x0537be77,
  dataFile: 0x44415441,
} as const

/** Names that QEMU writes in the feature name table: kind (0 incompatible, 1 compatible, 2 autoclear), bit, name. In QEMU's order. */
export const featureNames: readonly (readonly [kind: number, bit: number, name: string])[] = [
  [0, 0, 'dirty bit'],
  [0, 1, 'corrupt bit'],
  [0, 2, 'external data file'],
  [0, 3, 'compression type'],
  [0, 4, 'extended L2 entries'],
  [1, 0, 'lazy refcounts'],
  [2, 0, 'bitmaps'],
  [2, 1, 'raw external data'],
]

/** Bounds, as QEMU has them (bytes where nothing else is said). */
export const bounds = {
  clusterBits: { least: 9, most: 21 },
  l1TableBytes: 32 * 1024 * 1024,
  refcountTableBytes: 8 * 1024 * 1024,
  snapshots: 65536,
  snapshotTableBytes: 64 * 1024 * 1024,
  snapshotExtraBytes: 1024,
  bitmaps: 65535,
  bitmapDirectoryBytes: 64 * 1024 * 1024,
  /** Bits of one bitmap. */
  bitmapBytes: 512 * 1024 * 1024,
  backingNameBytes: 1023,
  refcountOrder: 6,
} as const

/** Bits of an L1 or standard L2 entry, as they stand in its upper and lower 32 bits. */
export const entry = {
  /** Upper: refcount is exactly one, may be written in place. */
  copied: 0x8000_0000,
  /** Upper: a compressed cluster. */
  compressed: 0x4000_0000,
  /** Upper part of the host offset (bits 32 to 55). */
  offsetHigh: 0x00ff_ffff,
  /** Lower part of the host offset (bits 9 to 31). */
  offsetLow: 0xffff_fe00,
  /** Lower: reads as zeros (version 3, standard entries). */
  zero: 1,
  /** Upper bits that are reserved in a standard entry. */
  reservedHigh: 0x3f00_0000,
} as const

/** Subclusters of one cluster with extended L2 entries. */
export const subclusters = 32

/** One header extension that is kept as it came. */
export interface HeaderExtension {
  type: number
  data: Uint8Array
}

/** The header, decoded. Offsets and sizes in bytes; fields absent in version 2 have their defaults. */
export interface Header {
  version: 2 | 3
  backingFileOffset: number
  backingFileSize: number
  clusterBits: number
  /** As stored; a sub-sector tail is dropped by readers. */
  size: number
  cryptMethod: number
  l1Size: number
  l1TableOffset: number
  refcountTableOffset: number
  refcountTableClusters: number
  snapshotCount: number
  snapshotsOffset: number
  incompatibleFeatures: bigint
  compatibleFeatures: bigint
  autoclearFeatures: bigint
  refcountOrder: number
  headerLength: number
  compressionType: number
  /** Header bytes past 112, kept when the header is written again. */
  unknownTail: Uint8Array
  backingFile: string | undefined
  backingFormat: string | undefined
  dataFileName: string | undefined
  crypto: { offset: number; length: number } | undefined
  bitmaps: BitmapsExtension | undefined
  /** Feature names as found, by `kind:bit`. */
  names: Map<string, string>
  /** Extensions that mean nothing to this engine, in order. */
  unknownExtensions: HeaderExtension[]
}

/** The bitmaps extension: how many, and where the directory lies. */
export interface BitmapsExtension {
  count: number
  directorySize: number
  directoryOffset: number
}

/** Sizes that follow from the header. Bytes where nothing else is said. */
export interface Geometry {
  clusterSize: number
  clusterBits: number
  /** 8, or 16 with extended entries. */
  l2EntrySize: number
  l2Entries: number
  /** Guest bytes that one L2 table maps. */
  l2Cover: number
  extended: boolean
  /** The cluster, or 1/32 of it with extended entries. */
  subclusterSize: number
  refcountBits: number
  refcountsPerBlock: number
  /** Unit in which metadata is paged: QEMU's L2 slice, at most 64 KiB. */
  pageSize: number
}

const page = 65536

/** The sizes that follow from these header fields. */
export function geometryOf(header: Pick<Header, 'clusterBits' | 'incompatibleFeatures' | 'refcountOrder'>): Geometry {
  const clusterSize = 2 ** header.clusterBits
  const extended = (header.incompatibleFeatures & incompatible.extendedL2) !== 0n
  const l2EntrySize = extended ? 16 : 8
  const l2Entries = clusterSize / l2EntrySize
  const refcountBits = 1 << header.refcountOrder
  return {
    clusterSize,
    clusterBits: header.clusterBits,
    l2EntrySize,
    l2Entries,
    l2Cover: clusterSize * l2Entries,
    extended,
    subclusterSize: extended ? clusterSize / subclusters : clusterSize,
    refcountBits,
    refcountsPerBlock: (clusterSize * 8) / refcountBits,
    pageSize: Math.min(clusterSize, page),
  }
}

/** A number as QEMU prints it in hex: C's `%#x`. Offsets of 56 bits are exact, their lower nine bits being zero. */
export function hexOf(value: number): string {
  return value === 0 ? '0' : `0x${value.toString(16)}`
}

/** Where a compressed cluster lies: `length` bytes at `offset`, as its L2 entry says. */
export interface PackedSpan {
  offset: number
  length: number
}

/** Decodes a compressed L2 entry given as two 32-bit halves. The offset has x = 62 − (cluster_bits − 8) bits, the rest up to bit 61 counts additional
 *  512-byte sectors. An offset past 2^53 − 1, where no file reaches, comes out as the last sector before. Source: qcow2.txt,
 *  "Compressed Clusters Descriptor". */
export function readPackedSpan(upper: number, lower: number, clusterBits: number): PackedSpan {
  const shift = 62 - (clusterBits - 8) - 32
  const offsetHigh = upper & (2 ** shift - 1)
  const sectors = ((upper & 0x3fff_ffff) >>> shift) + 1
  const inSector = lower % 512
  const offset = offsetHigh > 0x1f_ffff ? 2 ** 53 - 512 + inSector : offsetHigh * 0x1_0000_0000 + lower
  return { offset, length: sectors * 512 - inSector }
}

/** Encodes a compressed L2 entry as two 32-bit halves. */
export function packedEntry(span: PackedSpan, clusterBits: number): [upper: number, lower: number] {
  const shift = 62 - (clusterBits - 8) - 32
  const last = span.offset + span.length - 1
  const sectors = Math.floor(last / 512) - Math.floor(span.offset / 512)
  const upper = (entry.compressed | (sectors << shift) | Math.floor(span.offset / 0x1_0000_0000)) >>> 0
  return [upper, span.offset % 0x1_0000_0000]
}
