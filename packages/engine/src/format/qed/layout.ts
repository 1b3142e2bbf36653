/** QED on disk: the header, the entries of its tables; all numbers little-endian. Facts: QEMU's docs/interop/qed_spec.txt, and what QEMU 7.2 accepts. */
import { setU64le, u64le, viewOf } from '../../bytes/integers.ts'
import { type ErrorKind, type ErrorPlace, MoraineError } from '../../core/index.ts'

/** Bytes of the header. */
export const headerBytes = 64

/** `QED\0`, as a little-endian number. */
const magic = 0x0044_4551

/** Longest name of a backing file, in bytes. */
export const mostNameBytes = 4095

/** Bits of `features`. */
export const feature = {
  /** There is a backing file. */
  backing: 1,
  /** The image was not closed: it is checked before it is written. */
  needCheck: 2,
  /** The backing file is raw, whatever its bytes look like. */
  rawBacking: 4,
} as const

const knownFeatures = 7n

/** Byte offsets in the header. */
const field = {
  magic: 0,
  clusterSize: 4,
  tableSize: 8,
  headerSize: 12,
  features: 16,
  compatFeatures: 24,
  autoclearFeatures: 32,
  l1Offset: 40,
  imageSize: 48,
  backingOffset: 56,
  backingLength: 60,
} as const

/** The header's fields, and what follows from them. */
export interface QedHeader {
  /** Bytes. */
  clusterSize: number
  /** Clusters of one table. */
  tableSize: number
  /** Clusters before anything else. */
  headerSize: number
  /** Known bits only. */
  features: number
  /** Kept as they are. */
  compatFeatures: bigint
  autoclearFeatures: bigint
  l1Offset: number
  /** Bytes, whole sectors. */
  imageSize: number
  backingOffset: number
  backingLength: number
}

/** Sizes that follow from a header. */
export interface QedGeometry {
  /** Entries of one table, of either kind. */
  entries: number
  /** Bytes of one table. */
  tableBytes: number
  /** Guest bytes of one L2 table. */
  l2Cover: number
  /** Bytes of the header's clusters. */
  headerEnd: number
}

/** Whether the first bytes of a file are those of a QED image. */
export function looksLikeQed(head: Uint8Array): boolean {
  return head.length >= headerBytes && viewOf(head).getUint32(field.magic, true) === magic
}

/** An error about a QED image. */
export function qedFault(path: string, kind: ErrorKind, reason: string, place: ErrorPlace): MoraineError {
  return new MoraineError(kind, reason, { path, format: 'qed', ...place })
}

/** Whether a number of bytes can be a cluster's: a power of two from 4 KiB to 64 MiB. */
export function isClusterSize(size: number): boolean {
  return size >= 4096 && size <= 64 << 20 && (size & (size - 1)) === 0
}

/** Whether a number of clusters can be a table's: a power of two from 1 to 16. */
export function isTableSize(size: number): boolean {
  return size >= 1 && size <= 16 && (size & (size - 1)) === 0
}

/** The largest disk, in bytes, as QEMU counts it: with large clusters its 64 bits run over, and there is room for nothing. */
export function largestDisk(clusterSize: number, tableSize: number): bigint {
  const entries = BigInt((clusterSize * tableSize) / 8)
  return BigInt.asUintN(64, entries * entries * BigInt(clusterSize))
}

/** Reads and checks the first 64 bytes of an image of `fileSize` bytes; the words are QEMU's.
 *  @throws MoraineError `not-this-format`, `unsupported` for unknown features, `invalid` for a field that breaks a rule. */
export function parseHeader(bytes: Uint8Array, fileSize: number, path: string): QedHeader {
  const view = viewOf(bytes)
  const refuse = (kind: ErrorKind, name: string, value: number | bigint, reason: string, rule: string): never => {
    throw qedFault(path, kind, reason, { field: name, value, rule })
  }
  const foundMagic = view.getUint32(field.magic, true)
  if (foundMagic !== magic) refuse('not-this-format', 'magic', foundMagic, 'Image not in QED format', `${magic}`)
  const features = view.getBigUint64(field.features, true)
  const unknown = features & ~knownFeatures
  if (unknown !== 0n) {
    const rule = 'no bit above 2'
    refuse('unsupported', 'features', features, `Unsupported QED features: ${unknown.toString(16)}`, rule)
  }
  const header: QedHeader = {
    clusterSize: view.getUint32(field.clusterSize, true),
    tableSize: view.getUint32(field.tableSize, true),
    headerSize: view.getUint32(field.headerSize, true),
    features: Number(features),
    compatFeatures: view.getBigUint64(field.compatFeatures, true),
    autoclearFeatures: view.getBigUint64(field.autoclearFeatures, true),
    l1Offset: u64le(view, field.l1Offset),
    imageSize: u64le(view, field.imageSize),
    backingOffset: view.getUint32(field.backingOffset, true),
    backingLength: view.getUint32(field.backingLength, true),
  }
  const { clusterSize, tableSize, headerSize, imageSize, l1Offset, backingOffset, backingLength } = header
  if (!isClusterSize(clusterSize)) {
    const rule = 'a power of two from 4096 to 67108864'
    refuse('invalid', 'cluster_size', clusterSize, 'QED cluster size is invalid', rule)
  }
  if (!isTableSize(tableSize)) {
    refuse('invalid', 'table_size', tableSize, 'QED table size is invalid', 'a power of two from 1 to 16')
  }
  const most = largestDisk(clusterSize, tableSize)
  if (imageSize % 512 !== 0 || !Number.isSafeInteger(imageSize) || BigInt(imageSize) > most) {
    const rule = `a multiple of 512, at most ${most}`
    refuse('invalid', 'image_size', view.getBigUint64(field.imageSize, true), 'QED image size is invalid', rule)
  }
  if (headerSize > Math.floor(0xffff_ffff / clusterSize)) {
    refuse('invalid', 'header_size', headerSize, 'QED header size is too large', 'less than 4 GiB')
  }
  const places = new QedPlaces(header)
  if (!places.holdsTable(l1Offset, fileSize)) {
    const rule = `a multiple of ${clusterSize} behind the header, and the table within the file`
    refuse('invalid', 'l1_table_offset', l1Offset, 'QED table offset is invalid', rule)
  }
  if ((header.features & feature.backing) !== 0) {
    if (backingOffset + backingLength > headerSize * clusterSize) {
      const rule = `a name that ends within the ${headerSize * clusterSize} bytes of the header`
      refuse('invalid', 'backing_filename_offset', backingOffset, 'QED backing filename offset is invalid', rule)
    }
    if (backingLength > mostNameBytes) {
      const rule = `at most ${mostNameBytes}`
      refuse('invalid', 'backing_filename_size', backingLength, 'Failed to read backing filename', rule)
    }
  }
  return header
}

/** The sizes of an image. */
export function geometryOf({ clusterSize, tableSize, headerSize }: QedHeader): QedGeometry {
  const tableBytes = clusterSize * tableSize
  const entries = tableBytes / 8
  return { entries, tableBytes, l2Cover: entries * clusterSize, headerEnd: headerSize * clusterSize }
}

/** Which places of a file may be pointed at: whole clusters behind the header. */
export class QedPlaces {
  readonly #clusterSize: number
  readonly #tableBytes: number
  readonly #headerEnd: number

  constructor(header: QedHeader) {
    const { tableBytes, headerEnd } = geometryOf(header)
    this.#clusterSize = header.clusterSize
    this.#tableBytes = tableBytes
    this.#headerEnd = headerEnd
  }

  /** Whether a cluster lies at a byte offset of a file of `fileSize` bytes. */
  holdsCluster(offset: number, fileSize: number): boolean {
    return this.#holds(offset, this.#clusterSize, fileSize)
  }

  /** Whether a table can. */
  holdsTable(offset: number, fileSize: number): boolean {
    return this.#holds(offset, this.#tableBytes, fileSize)
  }

  #holds(offset: number, length: number, fileSize: number): boolean {
    return offset % this.#clusterSize === 0 && offset >= this.#headerEnd && offset + length <= fileSize
  }
}

/** The bytes of a header. */
export function encodeHeader(header: QedHeader): Uint8Array {
  const bytes = new Uint8Array(headerBytes)
  const view = viewOf(bytes)
  view.setUint32(field.magic, magic, true)
  view.setUint32(field.clusterSize, header.clusterSize, true)
  view.setUint32(field.tableSize, header.tableSize, true)
  view.setUint32(field.headerSize, header.headerSize, true)
  setU64le(view, field.features, header.features)
  view.setBigUint64(field.compatFeatures, header.compatFeatures, true)
  view.setBigUint64(field.autoclearFeatures, header.autoclearFeatures, true)
  setU64le(view, field.l1Offset, header.l1Offset)
  setU64le(view, field.imageSize, header.imageSize)
  view.setUint32(field.backingOffset, header.backingOffset, true)
  view.setUint32(field.backingLength, header.backingLength, true)
  return bytes
}

/** The header of a new image: one cluster for it, the L1 table right behind. Sizes in bytes, `tableSize` in clusters; `nameBytes` 0 without a backing file. */
export function newHeader(
  imageSize: number,
  { clusterSize, tableSize }: { clusterSize: number; tableSize: number },
  backing: { nameBytes: number; raw: boolean } = { nameBytes: 0, raw: false },
): QedHeader {
  const { nameBytes, raw } = backing
  const features = nameBytes === 0 ? 0 : feature.backing | (raw ? feature.rawBacking : 0)
  return {
    clusterSize,
    tableSize,
    headerSize: 1,
    features,
    compatFeatures: 0n,
    autoclearFeatures: 0n,
    l1Offset: clusterSize,
    imageSize,
    backingOffset: nameBytes === 0 ? 0 : headerBytes,
    backingLength: nameBytes,
  }
}
