/** Reading, checking and writing the qcow2 header with its extensions. Rules and words of the errors: QEMU 7.2's `qcow2_open` (behaviour). */

import { setU64be, u64be, viewOf } from '../../bytes/integers.ts'
import { decodeName, encodeName } from '../../bytes/name-text.ts'
import { type ErrorPlace, MoraineError } from '../../core/index.ts'
import {
  autoclear,
  bounds,
  extension,
  featureNames,
  field,
  geometryOf,
  type Header,
  headerLengthV2,
  headerLengthV3,
  headerLengthWritten,
  incompatible,
  knownIncompatible,
  magic,
} from './layout.ts'

/** What the caller wants of the image, as far as the header decides about it. */
export interface HeaderUse {
  path: string
  write: boolean
  check: boolean
}

/** Whether these first bytes are those of a qcow2 image this engine may open (version 2 or later; version 1 is another format). */
export function looksLikeQcow2(head: Uint8Array): boolean {
  if (head.length < 8) return false
  const view = viewOf(head)
  return view.getUint32(field.magic) === magic && view.getUint32(field.version) >= 2
}

/** Decodes and checks a header. `head` holds the image's first bytes: its whole first cluster, where the file has that many.
 *  @throws MoraineError `not-this-format`, `unsupported` (feature, version, encryption) or `invalid` with the field. */
export function parseHeader(head: Uint8Array, use: HeaderUse): Header {
  const at = (name: string, value?: number | bigint | string, rule?: string): ErrorPlace => ({
    path: use.path,
    format: 'qcow2',
    field: name,
    ...(value === undefined ? {} : { value }),
    ...(rule === undefined ? {} : { rule }),
  })
  if (head.length < headerLengthV2 || viewOf(head).getUint32(0) !== magic) {
    throw new MoraineError('not-this-format', 'Image is not in qcow2 format', at('magic'))
  }
  const view = viewOf(head)
  const version = view.getUint32(field.version)
  if (version !== 2 && version !== 3) {
    throw new MoraineError('unsupported', `Unsupported qcow2 version ${version}`, at('version', version, '2 or 3'))
  }
  const clusterBits = view.getUint32(field.clusterBits)
  if (clusterBits < bounds.clusterBits.least || clusterBits > bounds.clusterBits.most) {
    throw new MoraineError(
      'invalid',
      `Unsupported cluster size: 2^${clusterBits}`,
      at('cluster_bits', clusterBits, '9 to 21'),
    )
  }
  const clusterSize = 2 ** clusterBits
  const v3 = version === 3
  if (v3 && head.length < headerLengthV3) {
    throw new MoraineError('invalid', 'qcow2 header too short', at('header_length', head.length, 'at least 104'))
  }
  const headerLength = v3 ? view.getUint32(field.headerLength) : headerLengthV2
  if (v3 && headerLength < headerLengthV3) {
    throw new MoraineError('invalid', 'qcow2 header too short', at('header_length', headerLength, 'at least 104'))
  }
  if (headerLength > clusterSize) {
    throw new MoraineError(
      'invalid',
      'qcow2 header exceeds cluster size',
      at('header_length', headerLength, `at most ${clusterSize}`),
    )
  }
  const header: Header = {
    version,
    backingFileOffset: u64be(view, field.backingFileOffset),
    backingFileSize: view.getUint32(field.backingFileSize),
    clusterBits,
    size: u64be(view, field.size),
    cryptMethod: view.getUint32(field.cryptMethod),
    l1Size: view.getUint32(field.l1Size),
    l1TableOffset: u64be(view, field.l1TableOffset),
    refcountTableOffset: u64be(view, field.refcountTableOffset),
    refcountTableClusters: view.getUint32(field.refcountTableClusters),
    snapshotCount: view.getUint32(field.snapshotCount),
    snapshotsOffset: u64be(view, field.snapshotsOffset),
    incompatibleFeatures: v3 ? view.getBigUint64(field.incompatibleFeatures) : 0n,
    compatibleFeatures: v3 ? view.getBigUint64(field.compatibleFeatures) : 0n,
    autoclearFeatures: v3 ? view.getBigUint64(field.autoclearFeatures) : 0n,
    refcountOrder: v3 ? view.getUint32(field.refcountOrder) : 4,
    headerLength,
    compressionType: v3 && headerLength > field.compressionType ? (head[field.compressionType] ?? 0) : 0,
    unknownTail: v3 ? head.slice(headerLengthWritten, Math.max(headerLength, headerLengthWritten)) : new Uint8Array(),
    backingFile: undefined,
    backingFormat: undefined,
    dataFileName: undefined,
    crypto: undefined,
    bitmaps: undefined,
    names: new Map(),
    unknownExtensions: [],
  }
  if (header.backingFileOffset > clusterSize) {
    throw new MoraineError(
      'invalid',
      'Invalid backing file offset',
      at('backing_file_offset', header.backingFileOffset, `at most ${clusterSize}`),
    )
  }
  const extensionsEnd = header.backingFileOffset === 0 ? clusterSize : header.backingFileOffset
  const unknown = header.incompatibleFeatures & ~knownIncompatible
  readExtensions(
    head,
    headerLength,
    Math.min(extensionsEnd, head.length),
    extensionsEnd,
    header,
    unknown !== 0n,
    use.path,
  )
  if (header.cryptMethod === 2 && header.crypto === undefined) {
    throw new MoraineError('invalid', 'Missing CRYPTO header for crypt method 2', at('crypt_method', 2))
  }
  checkFeatures(header, unknown, use, at)
  checkGeometry(header, use, at)
  readBackingName(head, header, at)
  return header
}

type Place = (name: string, value?: number | bigint | string, rule?: string) => ErrorPlace

function checkFeatures(header: Header, unknown: bigint, use: HeaderUse, at: Place): void {
  if (unknown !== 0n) {
    const names: string[] = []
    let unnamed = unknown
    for (const [key, name] of header.names) {
      const bit = Number(key.split(':')[1])
      if (key.startsWith('0:') && (unknown & (1n << BigInt(bit))) !== 0n) {
        names.push(name)
        unnamed &= ~(1n << BigInt(bit))
      }
    }
    if (unnamed !== 0n) names.push(`Unknown incompatible feature: ${unnamed.toString(16)}`)
    throw new MoraineError(
      'unsupported',
      `Unsupported qcow2 feature(s): ${names.join(', ')}`,
      at('incompatible_features', `0x${header.incompatibleFeatures.toString(16)}`, 'bits 0 to 4'),
    )
  }
  if ((header.incompatibleFeatures & incompatible.corrupt) !== 0n && use.write && !use.check) {
    throw new MoraineError(
      'corrupt',
      'qcow2: Image is corrupt; cannot be opened read/write',
      at('incompatible_features', 'corrupt bit', 'repair the image first'),
    )
  }
  if (header.refcountOrder > bounds.refcountOrder) {
    throw new MoraineError(
      'invalid',
      'Reference count entry width too large; may not exceed 64 bits',
      at('refcount_order', header.refcountOrder, '0 to 6'),
    )
  }
  if (header.cryptMethod > 2) {
    throw new MoraineError(
      'unsupported',
      `Unsupported encryption method ${header.cryptMethod}`,
      at('crypt_method', header.cryptMethod, '0 to 2'),
    )
  }
  if (
    (header.autoclearFeatures & autoclear.rawDataFile) !== 0n &&
    (header.incompatibleFeatures & incompatible.dataFile) === 0n
  ) {
    throw new MoraineError(
      'invalid',
      'data-file-raw requires a data file',
      at('autoclear_features', `0x${header.autoclearFeatures.toString(16)}`, 'bit 1 only with incompatible bit 2'),
    )
  }
  const compressionBit = (header.incompatibleFeatures & incompatible.compression) !== 0n
  if (header.compressionType > 1) {
    throw new MoraineError(
      'unsupported',
      `qcow2: unknown compression type: ${header.compressionType}`,
      at('compression_type', header.compressionType, '0 (zlib) or 1 (zstd)'),
    )
  }
  if (compressionBit !== (header.compressionType !== 0)) {
    throw new MoraineError(
      'invalid',
      compressionBit
        ? 'qcow2: Compression type incompatible feature bit must not be set'
        : 'qcow2: Compression type incompatible feature bit must be set',
      at('compression_type', header.compressionType, 'incompatible bit 3 set exactly when the type is not 0'),
    )
  }
  if ((header.incompatibleFeatures & incompatible.extendedL2) !== 0n && header.clusterBits < 14) {
    throw new MoraineError(
      'invalid',
      'Unsupported subcluster size: extended L2 entries need clusters of at least 16 KiB',
      at('cluster_bits', header.clusterBits, 'at least 14 with extended L2 entries'),
    )
  }
}

function checkGeometry(header: Header, use: HeaderUse, at: Place): void {
  const geometry = geometryOf(header)
  const { clusterSize } = geometry
  if (header.refcountTableClusters === 0 && !use.check) {
    throw new MoraineError(
      'invalid',
      'Image does not contain a reference count table',
      at('refcount_table_clusters', 0, 'at least 1'),
    )
  }
  checkTable(
    { name: 'Reference count table', field: 'refcount_table_offset', countField: 'refcount_table_clusters' },
    header.refcountTableOffset,
    header.refcountTableClusters * clusterSize,
    bounds.refcountTableBytes,
    clusterSize,
    at,
  )
  if (!use.check) checkSnapshotTable(header, clusterSize, at)
  checkTable(
    { name: 'Active L1 table', field: 'l1_table_offset', countField: 'l1_size' },
    header.l1TableOffset,
    header.l1Size * 8,
    bounds.l1TableBytes,
    clusterSize,
    at,
  )
  if (!Number.isFinite(header.size)) {
    throw new MoraineError('limit', 'Image is too big', at('size', undefined, 'at most 2^53 − 1 bytes'))
  }
  const needed = Math.ceil(header.size / geometry.l2Cover)
  if (header.l1Size < needed) {
    throw new MoraineError('invalid', 'L1 table is too small', at('l1_size', header.l1Size, `at least ${needed}`))
  }
}

/** Not for `check`, which tells of it and may repair it. */
function checkSnapshotTable(header: Header, clusterSize: number, at: Place): void {
  if (header.snapshotCount > bounds.snapshots) {
    throw new MoraineError(
      'limit',
      'Snapshot table too large',
      at('nb_snapshots', header.snapshotCount, `at most ${bounds.snapshots}`),
    )
  }
  checkTable(
    { name: 'Snapshot table', field: 'snapshots_offset', countField: 'nb_snapshots' },
    header.snapshotsOffset,
    header.snapshotCount * 40,
    bounds.snapshots * 40,
    clusterSize,
    at,
  )
}

function checkTable(
  table: { name: string; field: string; countField: string },
  offset: number,
  bytes: number,
  most: number,
  clusterSize: number,
  at: Place,
): void {
  if (bytes > most) {
    throw new MoraineError('limit', `${table.name} too large`, at(table.countField, bytes, `at most ${most} bytes`))
  }
  if (!(offset + bytes <= Number.MAX_SAFE_INTEGER) || offset % clusterSize !== 0) {
    throw new MoraineError(
      'invalid',
      `${table.name} offset invalid`,
      at(table.field, offset, 'a multiple of the cluster size'),
    )
  }
}

function readBackingName(head: Uint8Array, header: Header, at: Place): void {
  if (header.backingFileOffset === 0) return
  const room = Math.min(bounds.backingNameBytes, 2 ** header.clusterBits - header.backingFileOffset)
  if (header.backingFileSize > room) {
    throw new MoraineError(
      'invalid',
      'Backing file name too long',
      at('backing_file_size', header.backingFileSize, `at most ${room}`),
    )
  }
  const bytes = head.subarray(header.backingFileOffset, header.backingFileOffset + header.backingFileSize)
  // What lies past the end of the file is zeros, and a zero ends the name.
  header.backingFile = text(bytes)
}

/** A name ends at its first NUL, as it does for QEMU. */
function text(bytes: Uint8Array): string {
  const nul = bytes.indexOf(0)
  return decodeName(nul < 0 ? bytes : bytes.subarray(0, nul))
}

function readExtensions(
  head: Uint8Array,
  start: number,
  end: number,
  limit: number,
  header: Header,
  needNames: boolean,
  path: string,
): void {
  const view = viewOf(head)
  const v3 = header.version === 3
  let at = start
  while (at + 8 <= end) {
    const type = view.getUint32(at)
    const length = view.getUint32(at + 4)
    at += 8
    const place = {
      path,
      format: 'qcow2',
      field: `header extension 0x${type.toString(16)}`,
      offset: at - 8,
      value: length,
    }
    if (length > limit - at || at + length > head.length) {
      throw new MoraineError('invalid', 'Header extension too large', { ...place, rule: `at most ${limit - at} bytes` })
    }
    // Even the end marker's length is looked at, as QEMU does.
    if (type === extension.end) return
    const data = head.slice(at, at + length)
    if (type === extension.backingFormat) {
      if (length > 15) {
        throw new MoraineError('invalid', `ERROR: ext_backing_format: len=${length} too large (>=16)`, place)
      }
      header.backingFormat = text(data)
    } else if (type === extension.featureNames) {
      if (needNames || v3) readNames(data, header.names)
    } else if (type === extension.crypto) {
      if (header.cryptMethod !== 2) {
        throw new MoraineError('invalid', 'CRYPTO header extension only expected with LUKS encryption method', place)
      }
      if (length !== 16) {
        throw new MoraineError('invalid', `CRYPTO header extension size ${length}, but expected size 16`, place)
      }
      header.crypto = { offset: u64be(viewOf(data), 0), length: u64be(viewOf(data), 8) }
    } else if (type === extension.dataFile) {
      header.dataFileName = text(data)
    } else if (type === extension.bitmaps) {
      readBitmaps(data, header, place)
    } else {
      header.unknownExtensions.push({ type, data })
    }
    at += Math.ceil(length / 8) * 8
  }
}

function readNames(data: Uint8Array, names: Map<string, string>): void {
  for (let at = 0; at + 48 <= data.length; at += 48)
    names.set(`${data[at]}:${data[at + 1]}`, text(data.subarray(at + 2, at + 48)))
}

function readBitmaps(data: Uint8Array, header: Header, place: ErrorPlace): void {
  if (data.length !== 24) {
    throw new MoraineError('invalid', 'bitmaps_ext: Invalid extension length', { ...place, rule: 'exactly 24 bytes' })
  }
  const view = viewOf(data)
  const bitmaps = { count: view.getUint32(0), directorySize: u64be(view, 8), directoryOffset: u64be(view, 16) }
  // Without the autoclear bit nobody vouches for the bitmaps; QEMU ignores the extension, and so its fields are not judged.
  if ((header.autoclearFeatures & 1n) !== 0n) {
    const clusterSize = 2 ** header.clusterBits
    const broken =
      view.getUint32(4) !== 0
        ? 'bitmaps_ext: Reserved field is not zero'
        : bitmaps.count > bounds.bitmaps
          ? `bitmaps_ext: image has ${bitmaps.count} bitmaps, exceeding the QEMU supported maximum of ${bounds.bitmaps}`
          : bitmaps.count === 0
            ? 'bitmaps_ext: found bitmaps extension with zero bitmaps'
            : bitmaps.directoryOffset % clusterSize !== 0
              ? 'bitmaps_ext: invalid bitmap directory offset'
              : bitmaps.directorySize > bounds.bitmapDirectoryBytes
                ? `bitmaps_ext: bitmap directory size (${bitmaps.directorySize}) exceeds the maximum supported size (${bounds.bitmapDirectoryBytes})`
                : undefined
    if (broken !== undefined) throw new MoraineError('invalid', broken, { ...place, value: undefined })
  }
  header.bitmaps = bitmaps
}

/** Encodes the header, its extensions in QEMU's order and the backing file's name. The result is at most one cluster long.
 *  @throws MoraineError `invalid` when it does not fit. */
export function encodeHeader(header: Header, path: string): Uint8Array {
  const clusterSize = 2 ** header.clusterBits
  const out = new Uint8Array(clusterSize)
  const v3 = header.version === 3
  const length = v3 ? headerLengthWritten + header.unknownTail.length : headerLengthV2
  const name = header.backingFile === undefined ? undefined : encodeName(header.backingFile)
  let at = length
  const tooLong = () =>
    new MoraineError('invalid', 'the header and the backing file name do not fit into one cluster', {
      path,
      format: 'qcow2',
      field: name === undefined ? 'header extensions' : 'backing file',
      rule: `at most ${clusterSize} bytes`,
      code: 'ENOSPC',
    })
  const append = (type: number, data: Uint8Array): void => {
    if (at + 8 + Math.ceil(data.length / 8) * 8 > clusterSize) throw tooLong()
    const view = viewOf(out)
    view.setUint32(at, type)
    view.setUint32(at + 4, data.length)
    out.set(data, at + 8)
    at += 8 + Math.ceil(data.length / 8) * 8
  }
  if (header.backingFormat !== undefined) append(extension.backingFormat, encodeName(header.backingFormat))
  if (header.dataFileName !== undefined) append(extension.dataFile, encodeName(header.dataFileName))
  if (header.crypto !== undefined) {
    const data = new Uint8Array(16)
    setU64be(viewOf(data), 0, header.crypto.offset)
    setU64be(viewOf(data), 8, header.crypto.length)
    append(extension.crypto, data)
  }
  // The names are help for people only; QEMU leaves them out where the header cluster is small.
  if (v3 && clusterSize > 4096) append(extension.featureNames, encodeNames())
  if (header.bitmaps !== undefined) {
    const data = new Uint8Array(24)
    viewOf(data).setUint32(0, header.bitmaps.count)
    setU64be(viewOf(data), 8, header.bitmaps.directorySize)
    setU64be(viewOf(data), 16, header.bitmaps.directoryOffset)
    append(extension.bitmaps, data)
  }
  for (const { type, data } of header.unknownExtensions) append(type, data)
  append(extension.end, new Uint8Array())
  header.backingFileOffset = name === undefined ? 0 : at
  header.backingFileSize = name?.length ?? 0
  header.headerLength = length
  if (name !== undefined) {
    if (name.length > bounds.backingNameBytes || at + name.length > clusterSize) throw tooLong()
    out.set(name, at)
  }
  encodeFields(out, header, v3)
  return out
}

function encodeNames(): Uint8Array {
  const data = new Uint8Array(48 * featureNames.length)
  featureNames.forEach(([kind, bit, label], index) => {
    data[index * 48] = kind
    data[index * 48 + 1] = bit
    data.set(new TextEncoder().encode(label), index * 48 + 2)
  })
  return data
}

function encodeFields(out: Uint8Array, header: Header, v3: boolean): void {
  const view = viewOf(out)
  view.setUint32(field.magic, magic)
  view.setUint32(field.version, header.version)
  setU64be(view, field.backingFileOffset, header.backingFileOffset)
  view.setUint32(field.backingFileSize, header.backingFileSize)
  view.setUint32(field.clusterBits, header.clusterBits)
  setU64be(view, field.size, header.size)
  view.setUint32(field.cryptMethod, header.cryptMethod)
  view.setUint32(field.l1Size, header.l1Size)
  setU64be(view, field.l1TableOffset, header.l1TableOffset)
  setU64be(view, field.refcountTableOffset, header.refcountTableOffset)
  view.setUint32(field.refcountTableClusters, header.refcountTableClusters)
  view.setUint32(field.snapshotCount, header.snapshotCount)
  setU64be(view, field.snapshotsOffset, header.snapshotsOffset)
  if (!v3) return
  view.setBigUint64(field.incompatibleFeatures, header.incompatibleFeatures)
  view.setBigUint64(field.compatibleFeatures, header.compatibleFeatures)
  view.setBigUint64(field.autoclearFeatures, header.autoclearFeatures)
  view.setUint32(field.refcountOrder, header.refcountOrder)
  view.setUint32(field.headerLength, header.headerLength)
  out[field.compressionType] = header.compressionType
  out.set(header.unknownTail, headerLengthWritten)
}
