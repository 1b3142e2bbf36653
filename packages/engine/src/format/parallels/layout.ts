/** Parallels images on disk: the header of both kinds, all numbers little-endian. Facts: QEMU's docs/interop/parallels.txt and the behaviour of QEMU 7.2. */
import { roundUp, setU64le, u64le, viewOf } from '../../bytes/integers.ts'
import { type ErrorKind, type ErrorPlace, MoraineError } from '../../core/index.ts'

/** Bytes of the header; the table of clusters (BAT) follows. */
export const headerBytes = 64

/** The magic of each kind: entries in sectors and 32 bits of disk size, or entries in clusters and 64 bits. */
export const magics = { old: 'WithoutFreeSpace', extended: 'WithouFreSpacExt' } as const

/** Values of `in_use`. */
export const inUse = { open: 0x746f_6e59, closed: 0x312e_3276 } as const

/** Most entries of the table that QEMU reads. */
export const mostEntries: number = Math.floor(0x7fff_ffff / 4)

/** Byte offsets in the header. */
export const field = {
  magic: 0,
  version: 16,
  heads: 20,
  cylinders: 24,
  tracks: 28,
  entries: 32,
  sectors: 36,
  inUse: 44,
  dataOffset: 48,
  flags: 52,
  extension: 56,
} as const

/** The header's fields, and what follows from them. Bytes, unless the name says otherwise. */
export interface ParallelsHeader {
  /** The 64 bytes as they stand in the file; what is not a field here is kept. */
  readonly bytes: Uint8Array
  /** Entries count clusters, not sectors. */
  extended: boolean
  /** Not always a power of two. */
  clusterSize: number
  /** Number of entries of the BAT. */
  entries: number
  /** Virtual size. */
  diskSize: number
  /** As stored: one of `inUse`, 0 by old writers. */
  inUse: number
  /** Where clusters may lie. */
  dataOffset: number
  /** Bytes that an entry counts in. */
  entryUnit: number
  /** Offset of the format extension, 0 when there is none. */
  extension: number
}

const text = new TextDecoder('latin1')

/** Which kind the first bytes of a file are those of. */
export function kindOfMagic(head: Uint8Array): 'old' | 'extended' | undefined {
  if (head.length < headerBytes || viewOf(head).getUint32(field.version, true) !== 2) return undefined
  const magic = text.decode(head.subarray(0, 16))
  return magic === magics.old ? 'old' : magic === magics.extended ? 'extended' : undefined
}

/** An error about a Parallels image. */
export function parallelsFault(path: string, kind: ErrorKind, reason: string, place: ErrorPlace): MoraineError {
  return new MoraineError(kind, reason, { path, format: 'parallels', ...place })
}

/** Reads and checks the header of an image; the words are QEMU's where it has them.
 *  @throws MoraineError `not-this-format`, `invalid` for a field that breaks a rule, `limit` for a disk that no number holds. */
export function parseHeader(bytes: Uint8Array, path: string): ParallelsHeader {
  const view = viewOf(bytes)
  const refuse = (kind: ErrorKind, name: string, value: number, reason: string, rule: string): never => {
    throw parallelsFault(path, kind, reason, { field: name, value, rule })
  }
  const kind = kindOfMagic(bytes)
  if (kind === undefined) {
    throw parallelsFault(path, 'not-this-format', 'Image not in Parallels format', {
      field: 'magic',
      rule: `${magics.old} or ${magics.extended}, version 2`,
    })
  }
  const extended = kind === 'extended'
  const tracks = view.getUint32(field.tracks, true)
  if (tracks === 0) refuse('invalid', 'tracks', 0, 'Invalid image: Zero sectors per track', '1 at least')
  const mostTracks = Math.floor(0x7fff_ffff / 513)
  if (tracks > mostTracks) {
    refuse('invalid', 'tracks', tracks, 'Invalid image: Too big cluster', `at most ${mostTracks}`)
  }
  const entries = view.getUint32(field.entries, true)
  if (entries > mostEntries) refuse('invalid', 'bat_entries', entries, 'Catalog too large', `at most ${mostEntries}`)
  const sectors = extended ? u64le(view, field.sectors) : view.getUint32(field.sectors, true)
  if (!Number.isSafeInteger(sectors * 512)) {
    refuse('limit', 'nb_sectors', sectors, 'Image is too big', 'a disk of less than 2^53 bytes')
  }
  const clusterSize = tracks * 512
  const stored = view.getUint32(field.dataOffset, true) * 512
  const tableEnd = headerBytes + entries * 4
  return {
    bytes,
    extended,
    clusterSize,
    entries,
    diskSize: sectors * 512,
    inUse: view.getUint32(field.inUse, true),
    dataOffset: stored > 0 ? stored : roundUp(tableEnd, extended ? clusterSize : 512),
    entryUnit: extended ? clusterSize : 512,
    extension: u64le(view, field.extension) * 512,
  }
}

/** Puts the fields that change back into the header's bytes. */
export function encodeHeader(header: ParallelsHeader): Uint8Array {
  const { bytes, extended, diskSize } = header
  const view = viewOf(bytes)
  view.setUint32(field.inUse, header.inUse, true)
  view.setUint32(field.entries, header.entries, true)
  // Where it says nothing it follows from the table.
  if (view.getUint32(field.dataOffset, true) > 0) view.setUint32(field.dataOffset, header.dataOffset / 512, true)
  if (extended) setU64le(view, field.sectors, diskSize / 512)
  else view.setUint32(field.sectors, diskSize / 512, true)
  return bytes
}

/** Puts the geometry of a size into the header's bytes. It is nobody's: QEMU says 16 heads and 32 sectors. */
export function setGeometry(bytes: Uint8Array, size: number): void {
  const view = viewOf(bytes)
  view.setUint32(field.heads, 16, true)
  view.setUint32(field.cylinders, Math.floor(size / 512 / 16 / 32) % 2 ** 32, true)
}

/** The header of a new image, as QEMU writes it. Bytes. */
export function newHeader(size: number, clusterSize: number): ParallelsHeader {
  const bytes = new Uint8Array(headerBytes)
  const view = viewOf(bytes)
  const entries = Math.ceil(size / clusterSize)
  const dataOffset = roundUp(headerBytes + entries * 4, clusterSize)
  bytes.set(new TextEncoder().encode(magics.extended))
  view.setUint32(field.version, 2, true)
  setGeometry(bytes, size)
  view.setUint32(field.tracks, clusterSize / 512, true)
  view.setUint32(field.entries, entries, true)
  setU64le(view, field.sectors, size / 512)
  view.setUint32(field.dataOffset, dataOffset / 512, true)
  return {
    bytes,
    extended: true,
    clusterSize,
    entries,
    diskSize: size,
    inUse: 0,
    dataOffset,
    entryUnit: clusterSize,
    extension: 0,
  }
}
