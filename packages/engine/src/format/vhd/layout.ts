/** VHD on disk: footer, dynamic header, geometry. All numbers are big-endian. Facts: Microsoft's Virtual Hard Disk Image Format Specification 1.0, and the
 *  behaviour of QEMU 7.2. */
import { randomBytes } from '#platform'
import { setU64be, u64be, viewOf } from '../../bytes/integers.ts'
import { type ErrorKind, type ErrorPlace, MoraineError } from '../../core/index.ts'

/** Bytes of a sector, in which VHD counts. */
export const sectorBytes = 512
/** Bytes of the footer, and of its copy at the start of images with blocks. */
export const footerBytes = 512
/** Bytes of the dynamic header. */
export const headerBytes = 1024

/** What an image is. */
export const diskType = { fixed: 2, dynamic: 3, differencing: 4 } as const

/** An entry of the block allocation table without a block. */
export const noBlock = 0xffff_ffff

/** Block size of new images, bytes. */
export const defaultBlockSize = 2 * 1024 * 1024
/** Most entries of a block allocation table that QEMU reads. */
export const mostEntries = 0x1fff_ffff
/** Most sectors of a disk, 2040 GiB: the largest that tools create. */
export const mostSectors = 0xff00_0000
/** Sectors of the largest geometry: a disk of that geometry may be larger. */
export const saturatedSectors: number = 65_535 * 16 * 255

const cookie = 'conectix'
const headerCookie = 'cxsparse'
const version = 0x0001_0000
/** 2000-01-01 00:00 UTC, in seconds since 1970. */
const epoch = 946_684_800
/** All ones: no further structure. */
const nowhere = 0xffff_ffff

const footerField = {
  features: 8,
  version: 12,
  dataOffset: 16,
  timestamp: 24,
  creator: 28,
  creatorVersion: 32,
  creatorOs: 36,
  originalSize: 40,
  currentSize: 48,
  cylinders: 56,
  heads: 58,
  sectors: 59,
  type: 60,
  checksum: 64,
  uniqueId: 68,
  savedState: 84,
  hidden: 85,
} as const

const headerField = {
  next: 8,
  tableOffset: 16,
  version: 24,
  entries: 28,
  blockSize: 32,
  checksum: 36,
  parentId: 40,
  parentTimestamp: 56,
  parentName: 64,
  locators: 576,
} as const

/** The geometry that a BIOS sees. */
export interface Geometry {
  cylinders: number
  heads: number
  sectors: number
}

/** What a footer says. */
export interface Footer {
  /** The 512 bytes as they stand in the file; they are written again as they are. */
  readonly bytes: Uint8Array
  /** Where the dynamic header lies, in bytes; Infinity for a fixed image. */
  dataOffset: number
  /** Four characters. */
  creator: string
  creatorVersion: number
  /** Bytes. */
  originalSize: number
  /** Bytes. */
  currentSize: number
  geometry: Geometry
  type: number
  /** In the order of the bytes, in groups like any UUID. */
  uniqueId: string
  /** The machine was saved with this disk: it must not be changed under it. */
  savedState: boolean
}

/** What the header of an image with blocks says. */
export interface DynamicHeader {
  /** The 1024 bytes as they stand in the file. */
  readonly bytes: Uint8Array
  /** Byte offset of the block allocation table. */
  tableOffset: number
  entries: number
  /** Bytes. */
  blockSize: number
  parentId: string
  /** Whether its checksum is right. QEMU does not ask. */
  sound: boolean
}

/** An error about a VHD. */
export function vhdFault(path: string, kind: ErrorKind, reason: string, place: ErrorPlace): MoraineError {
  return new MoraineError(kind, reason, { path, format: 'vhd', ...place })
}

/** The ones' complement of the sum of all bytes, the four of the checksum taken as zeros. */
export function checksumOf(bytes: Uint8Array, checksumAt: number): number {
  let sum = 0
  for (const byte of bytes) sum += byte
  for (let i = checksumAt; i < checksumAt + 4; i++) sum -= bytes[i] as number
  return ~sum >>> 0
}

function hasCookie(bytes: Uint8Array, text: string): boolean {
  for (let i = 0; i < text.length; i++) if (bytes[i] !== text.charCodeAt(i)) return false
  return bytes.length >= footerBytes - 1
}

/** Whether these bytes begin like a footer. */
export function looksLikeFooter(bytes: Uint8Array): boolean {
  return hasCookie(bytes, cookie)
}

/** Whether the checksum of a footer is right. */
export function isSoundFooter(bytes: Uint8Array): boolean {
  if (!looksLikeFooter(bytes)) return false
  const stored = viewOf(bytes).getUint32(footerField.checksum)
  const sum = checksumOf(bytes, footerField.checksum)
  if (sum === stored) return true
  // Old XenServer images sum with the hidden byte as zero.
  const hidden = bytes[footerField.hidden] as number
  return hidden !== 0 && textAt(bytes, footerField.creator, 4) === 'tap\0' && (sum + hidden) >>> 0 === stored
}

function textAt(bytes: Uint8Array, at: number, length: number): string {
  return String.fromCharCode(...bytes.subarray(at, at + length))
}

function uuidAt(bytes: Uint8Array, at: number): string {
  let text = ''
  for (let i = 0; i < 16; i++) {
    if (i === 4 || i === 6 || i === 8 || i === 10) text += '-'
    text += (bytes[at + i] as number).toString(16).padStart(2, '0')
  }
  return text
}

/** Reads a footer, of which cookie and checksum were looked at. One of 511 bytes (before Virtual PC 2004) has its last byte added as zero.
 *  @throws MoraineError `unsupported` for another major version, or a type that is none of the three. */
export function parseFooter(bytes: Uint8Array, path: string): Footer {
  const view = viewOf(bytes)
  const found = view.getUint32(footerField.version)
  const shown = `${found >>> 16}.${found & 0xffff}`
  if (found >>> 16 !== version >>> 16) {
    const place = { field: 'version', value: shown, rule: '1.0' }
    throw vhdFault(path, 'unsupported', `VHD version ${shown} is not supported`, place)
  }
  const type = view.getUint32(footerField.type)
  if (type !== diskType.fixed && type !== diskType.dynamic && type !== diskType.differencing) {
    const place = { field: 'disk_type', value: type, rule: '2 (fixed), 3 (dynamic) or 4 (differencing)' }
    throw vhdFault(path, 'unsupported', `VHD type ${type} is not supported`, place)
  }
  return {
    bytes,
    dataOffset: u64be(view, footerField.dataOffset),
    creator: textAt(bytes, footerField.creator, 4),
    creatorVersion: view.getUint32(footerField.creatorVersion),
    originalSize: u64be(view, footerField.originalSize),
    currentSize: u64be(view, footerField.currentSize),
    geometry: {
      cylinders: view.getUint16(footerField.cylinders),
      heads: bytes[footerField.heads] as number,
      sectors: bytes[footerField.sectors] as number,
    },
    type,
    uniqueId: uuidAt(bytes, footerField.uniqueId),
    savedState: bytes[footerField.savedState] === 1,
  }
}

/** Reads the dynamic header.
 *  @throws MoraineError `corrupt` when the cookie is missing, `unsupported` for another major version, `invalid` for a block size that is no power of two,
 *  `limit` for a table that is too large. The words are QEMU's where it has them. */
export function parseDynamicHeader(bytes: Uint8Array, path: string): DynamicHeader {
  const view = viewOf(bytes)
  if (!hasCookie(bytes, headerCookie)) {
    throw vhdFault(path, 'corrupt', 'Invalid header magic', { field: 'cookie', rule: `'${headerCookie}'` })
  }
  const found = view.getUint32(headerField.version)
  if (found >>> 16 !== version >>> 16) {
    const shown = `${found >>> 16}.${found & 0xffff}`
    const place = { field: 'header_version', value: shown, rule: '1.0' }
    throw vhdFault(path, 'unsupported', `VHD header version ${shown} is not supported`, place)
  }
  const blockSize = view.getUint32(headerField.blockSize)
  if (blockSize < sectorBytes || (blockSize & (blockSize - 1)) !== 0) {
    const place = { field: 'block_size', value: blockSize, rule: 'a power of two, 512 at least' }
    throw vhdFault(path, 'invalid', `Invalid block size ${blockSize}`, place)
  }
  const entries = view.getUint32(headerField.entries)
  if (entries > mostEntries) {
    const place = { field: 'max_table_entries', value: entries, rule: `at most ${mostEntries}` }
    throw vhdFault(path, 'limit', `Max Table Entries too large (${entries})`, place)
  }
  return {
    bytes,
    tableOffset: u64be(view, headerField.tableOffset),
    entries,
    blockSize,
    parentId: uuidAt(bytes, headerField.parentId),
    sound: view.getUint32(headerField.checksum) === checksumOf(bytes, headerField.checksum),
  }
}

/** Puts the right checksum into the bytes of a dynamic header. */
export function sealHeader(bytes: Uint8Array): void {
  viewOf(bytes).setUint32(headerField.checksum, checksumOf(bytes, headerField.checksum))
}

/** Sets the number of entries of a dynamic header. */
export function setEntries(header: DynamicHeader, entries: number): void {
  header.entries = entries
  viewOf(header.bytes).setUint32(headerField.entries, entries)
  sealHeader(header.bytes)
}

/** Sets what a footer says of the disk's size; of the original one, too, which is meant for people: libvhdi takes it for the size of the disk. */
export function setSize(
  footer: Footer,
  { size, geometry, original = size }: { size: number; geometry: Geometry; original?: number },
): void {
  const { bytes } = footer
  const view = viewOf(bytes)
  footer.originalSize = original
  footer.currentSize = size
  setU64be(view, footerField.originalSize, original)
  footer.geometry = geometry
  setU64be(view, footerField.currentSize, size)
  view.setUint16(footerField.cylinders, geometry.cylinders)
  bytes[footerField.heads] = geometry.heads
  bytes[footerField.sectors] = geometry.sectors
  view.setUint32(footerField.checksum, checksumOf(bytes, footerField.checksum))
}

/** One entry of the table of parent locators. */
export interface LocatorEntry {
  /** Four characters, such as `W2ru`. */
  code: string
  /** Bytes. */
  length: number
  /** Byte offset in the file. */
  offset: number
}

/** The locators that are set, in the order of the table. */
export function locatorEntries({ bytes }: DynamicHeader): LocatorEntry[] {
  const view = viewOf(bytes)
  const list: LocatorEntry[] = []
  for (let i = 0; i < 8; i++) {
    const at = headerField.locators + i * 24
    if (view.getUint32(at) === 0) continue
    list.push({ code: textAt(bytes, at, 4), length: view.getUint32(at + 8), offset: u64be(view, at + 16) })
  }
  return list
}

/** The name of the parent in the header itself, which is UTF-16 big-endian. */
export function parentNameOf({ bytes }: DynamicHeader): string {
  let name = ''
  for (let at = headerField.parentName; at < headerField.locators; at += 2) {
    const unit = ((bytes[at] as number) << 8) | (bytes[at + 1] as number)
    if (unit === 0) break
    name += String.fromCharCode(unit)
  }
  return name
}

/** What new structures are made from. */
export interface NewVhd {
  /** Virtual size in bytes. */
  size: number
  geometry: Geometry
  fixed: boolean
  /** Over a parent. */
  differencing?: boolean
  /** Four characters. */
  creator: string
}

/** The footer of a new image, as QEMU writes it. */
export function newFooter({ size, geometry, fixed, differencing, creator }: NewVhd): Uint8Array {
  const bytes = new Uint8Array(footerBytes)
  const view = viewOf(bytes)
  const encoder = new TextEncoder()
  bytes.set(encoder.encode(cookie))
  view.setUint32(footerField.features, 2)
  view.setUint32(footerField.version, version)
  if (fixed) view.setBigUint64(footerField.dataOffset, 0xffff_ffff_ffff_ffffn)
  else setU64be(view, footerField.dataOffset, footerBytes)
  view.setUint32(footerField.timestamp, Math.floor(Date.now() / 1000) - epoch)
  bytes.set(encoder.encode(creator), footerField.creator)
  view.setUint32(footerField.creatorVersion, 0x0005_0003)
  bytes.set(encoder.encode('Wi2k'), footerField.creatorOs)
  setU64be(view, footerField.originalSize, size)
  setU64be(view, footerField.currentSize, size)
  view.setUint16(footerField.cylinders, geometry.cylinders)
  bytes[footerField.heads] = geometry.heads
  bytes[footerField.sectors] = geometry.sectors
  const type = differencing === true ? diskType.differencing : diskType.dynamic
  view.setUint32(footerField.type, fixed ? diskType.fixed : type)
  const id = randomBytes(16)
  id[6] = ((id[6] as number) & 0x0f) | 0x40
  id[8] = ((id[8] as number) & 0x3f) | 0x80
  bytes.set(id, footerField.uniqueId)
  view.setUint32(footerField.checksum, checksumOf(bytes, footerField.checksum))
  return bytes
}

/** Puts what is known of the parent into the bytes of a dynamic header, and seals it. `seconds` since 1970; `name` in UTF-16, big-endian; of the locators `space`
 *  and `length` in bytes, `offset` in the file. */
export function setParent(
  bytes: Uint8Array,
  {
    uniqueId,
    seconds,
    name,
    entries,
  }: {
    uniqueId: string
    seconds: number | undefined
    name: Uint8Array
    entries: readonly { code: string; space: number; length: number; offset: number }[]
  },
): void {
  const view = viewOf(bytes)
  const id = uniqueId.replaceAll('-', '')
  for (let i = 0; i < 16; i++) bytes[headerField.parentId + i] = Number.parseInt(id.slice(i * 2, i * 2 + 2), 16)
  view.setUint32(headerField.parentTimestamp, seconds === undefined ? 0 : Math.max(0, Math.floor(seconds) - epoch))
  bytes.set(name, headerField.parentName)
  for (const [i, { code, space, length, offset }] of entries.entries()) {
    const at = headerField.locators + i * 24
    bytes.set(new TextEncoder().encode(code), at)
    view.setUint32(at + 4, space)
    view.setUint32(at + 8, length)
    setU64be(view, at + 16, offset)
  }
  sealHeader(bytes)
}

/** The dynamic header of a new image, which stands right before its table. */
export function newDynamicHeader(entries: number): Uint8Array {
  const bytes = new Uint8Array(headerBytes)
  const view = viewOf(bytes)
  bytes.set(new TextEncoder().encode(headerCookie))
  view.setUint32(headerField.next, nowhere)
  view.setUint32(headerField.next + 4, nowhere)
  setU64be(view, headerField.tableOffset, footerBytes + headerBytes)
  view.setUint32(headerField.version, version)
  view.setUint32(headerField.entries, entries)
  view.setUint32(headerField.blockSize, defaultBlockSize)
  sealHeader(bytes)
  return bytes
}
