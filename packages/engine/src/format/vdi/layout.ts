/** VDI on disk: the header of version 1.1, all numbers little-endian. Facts: VirtualBox's VDI core header, and the behaviour of QEMU 7.2. */
import { readGuid, writeGuid, zeroGuid } from '../../bytes/guid.ts'
import { setU64le, u64le, viewOf } from '../../bytes/integers.ts'
import { type ErrorKind, type ErrorPlace, MoraineError } from '../../core/index.ts'

/** Bytes of the header that are read and written: all of its fields, and the zeros up to a sector. */
export const headerBytes = 512

/** Byte offsets in the header. */
export const field = {
  signature: 64,
  version: 68,
  headerSize: 72,
  type: 76,
  flags: 80,
  comment: 84,
  mapOffset: 340,
  dataOffset: 344,
  sectorSize: 360,
  diskSize: 368,
  blockSize: 376,
  blockExtra: 380,
  blocks: 384,
  blocksAllocated: 388,
  uuidImage: 392,
  uuidModification: 408,
  uuidLink: 424,
  uuidParentModification: 440,
} as const

/** The bytes 7f 10 da be. */
export const signature = 0xbeda_107f
/** Version 1.1. */
export const version = 0x0001_0001

/** What an image is; `undo` and `differencing` lie over a parent. */
export const imageType = { dynamic: 1, fixed: 2, undo: 3, differencing: 4 } as const

/** Values of the block map that are no block: never allocated, and discarded, which reads as zeros over a parent too. */
export const entry = { unallocated: 0xffff_ffff, discarded: 0xffff_fffe } as const

/** Block size that VirtualBox and QEMU create, and the only one QEMU reads. Bytes. */
export const defaultBlockSize = 1024 * 1024
/** Block sizes that are read: powers of two, as VirtualBox wants them, within what a copy of one block may cost. Bytes. */
const blockSizes = { least: 4096, most: 32 * 1024 * 1024 }
/** Most blocks of an image: QEMU's bound, a block map of 2 GiB. */
export const mostBlocks = (0x8000_0000 - headerBytes) / 4

/** The text at the start of images that QEMU makes; no reader asks for it. */
export const headerText = '<<< QEMU VM Virtual Disk Image >>>\n'

/** The header's fields. GUIDs as `readGuid` gives them. */
export interface VdiHeader {
  /** The 512 bytes as they stand in the file; what is not a field here is kept. */
  readonly bytes: Uint8Array
  type: number
  mapOffset: number
  dataOffset: number
  /** Bytes, as stored: not always a multiple of 512. */
  diskSize: number
  blockSize: number
  /** Bytes that stand before each block's data. */
  blockExtra: number
  blocks: number
  blocksAllocated: number
  uuidImage: string
  uuidModification: string
  /** Image UUID of the parent; zeros when there is none. */
  uuidLink: string
  /** The parent's modification UUID when this image was made over it. */
  uuidParentModification: string
}

/** Whether the first bytes of a file are those of a VDI image. */
export function looksLikeVdi(head: Uint8Array): boolean {
  return head.length >= headerBytes && viewOf(head).getUint32(field.signature, true) === signature
}

/** An error about a VDI image. */
export function vdiFault(path: string, kind: ErrorKind, reason: string, place: ErrorPlace): MoraineError {
  return new MoraineError(kind, reason, { path, format: 'vdi', ...place })
}

function decode(bytes: Uint8Array): VdiHeader {
  const view = viewOf(bytes)
  return {
    bytes,
    type: view.getUint32(field.type, true),
    mapOffset: view.getUint32(field.mapOffset, true),
    dataOffset: view.getUint32(field.dataOffset, true),
    diskSize: u64le(view, field.diskSize),
    blockSize: view.getUint32(field.blockSize, true),
    blockExtra: view.getUint32(field.blockExtra, true),
    blocks: view.getUint32(field.blocks, true),
    blocksAllocated: view.getUint32(field.blocksAllocated, true),
    uuidImage: readGuid(bytes, field.uuidImage),
    uuidModification: readGuid(bytes, field.uuidModification),
    uuidLink: readGuid(bytes, field.uuidLink),
    uuidParentModification: readGuid(bytes, field.uuidParentModification),
  }
}

/** Reads and checks the first 512 bytes of an image; the words are QEMU's where it has them.
 *  @throws MoraineError `not-this-format`, `unsupported` for another version, sector or block size, `invalid` for a field that breaks a rule,
 *  `corrupt` for parts that overlap. */
export function parseHeader(bytes: Uint8Array, path: string): VdiHeader {
  const view = viewOf(bytes)
  const header = decode(bytes)
  const refuse = (kind: ErrorKind, name: string, value: number | string, reason: string, rule: string): never => {
    throw vdiFault(path, kind, reason, { field: name, value, rule })
  }
  const hex = (value: number | bigint): string => `0x${value.toString(16)}`
  const most = mostBlocks * defaultBlockSize
  const size = view.getBigUint64(field.diskSize, true)
  const found = view.getUint32(field.signature, true)
  // QEMU looks at the size first, whatever the file is.
  if (size > BigInt(most)) {
    const kind = found === signature ? 'unsupported' : 'not-this-format'
    const reason = `Unsupported VDI image size (size is ${hex(size)}, max supported is ${hex(most)})`
    refuse(kind, 'disk_size', hex(size), reason, `at most ${most}`)
  }
  if (found !== signature) {
    const shown = found.toString(16).padStart(8, '0')
    refuse('not-this-format', 'signature', shown, `Image not in VDI format (bad signature ${shown})`, '7f10dabe')
  }
  const foundVersion = view.getUint32(field.version, true)
  if (foundVersion !== version) {
    const shown = `${foundVersion >>> 16}.${foundVersion & 0xffff}`
    refuse('unsupported', 'version', shown, `unsupported VDI image (version ${shown})`, '1.1')
  }
  const { mapOffset, dataOffset, blockSize, blocks, blockExtra, diskSize, type } = header
  if (mapOffset % 512 !== 0) {
    const reason = `unsupported VDI image (unaligned block map offset ${hex(mapOffset)})`
    refuse('unsupported', 'offset_bmap', mapOffset, reason, 'a multiple of 512')
  }
  if (dataOffset % 512 !== 0) {
    const reason = `unsupported VDI image (unaligned data offset ${hex(dataOffset)})`
    refuse('unsupported', 'offset_data', dataOffset, reason, 'a multiple of 512')
  }
  const sectorSize = view.getUint32(field.sectorSize, true)
  if (sectorSize !== 512) {
    const reason = `unsupported VDI image (sector size ${sectorSize} is not 512)`
    refuse('unsupported', 'sector_size', sectorSize, reason, '512')
  }
  // QEMU takes 1 MiB alone.
  const isPower = (blockSize & (blockSize - 1)) === 0
  if (!isPower || blockSize < blockSizes.least || blockSize > blockSizes.most) {
    const reason = `unsupported VDI image (block size ${blockSize} is not ${defaultBlockSize})`
    refuse(
      'unsupported',
      'block_size',
      blockSize,
      reason,
      `a power of two from ${blockSizes.least} to ${blockSizes.most}`,
    )
  }
  if (diskSize > blocks * blockSize) {
    const reason = `unsupported VDI image (disk size ${diskSize}, image bitmap has room for ${blocks * blockSize})`
    refuse('invalid', 'disk_size', diskSize, reason, `at most ${blocks * blockSize}, the blocks of the map`)
  }
  if (blocks > mostBlocks) {
    const reason = `unsupported VDI image (too many blocks ${blocks}, max is ${mostBlocks})`
    refuse('unsupported', 'blocks_in_image', blocks, reason, `at most ${mostBlocks}`)
  }
  if (blockExtra % 512 !== 0 || blockExtra > blockSize) {
    const reason = `unsupported VDI image (block extra ${blockExtra})`
    refuse('unsupported', 'block_extra', blockExtra, reason, 'a multiple of 512, at most a block')
  }
  if (type < imageType.dynamic || type > imageType.differencing) {
    refuse('unsupported', 'image_type', type, `unsupported VDI image (type ${type})`, '1 to 4')
  }
  if (mapOffset < headerBytes) {
    refuse('corrupt', 'offset_bmap', mapOffset, 'the block map lies over the header', `${headerBytes} at least`)
  }
  if (dataOffset < mapOffset + blocks * 4 && blocks > 0) {
    refuse('corrupt', 'offset_data', dataOffset, 'the blocks lie over the block map', 'behind the block map')
  }
  return header
}

/** Puts the fields that change back into the header's bytes. */
export function encodeHeader(header: VdiHeader): Uint8Array {
  const { bytes } = header
  const view = viewOf(bytes)
  view.setUint32(field.type, header.type, true)
  view.setUint32(field.mapOffset, header.mapOffset, true)
  view.setUint32(field.dataOffset, header.dataOffset, true)
  setU64le(view, field.diskSize, header.diskSize)
  view.setUint32(field.blockSize, header.blockSize, true)
  view.setUint32(field.blockExtra, header.blockExtra, true)
  view.setUint32(field.blocks, header.blocks, true)
  view.setUint32(field.blocksAllocated, header.blocksAllocated, true)
  writeGuid(bytes, field.uuidImage, header.uuidImage)
  writeGuid(bytes, field.uuidModification, header.uuidModification)
  writeGuid(bytes, field.uuidLink, header.uuidLink)
  writeGuid(bytes, field.uuidParentModification, header.uuidParentModification)
  return bytes
}

/** What a new differencing image records of its parent. */
export interface NewVdiParent {
  image: string
  modification: string
  /** Bytes. */
  blockSize: number
  /** Kept in the comment: see `parentHint`. */
  name: string
}

const hintPrefix = 'moraine parent: '
const commentBytes = field.mapOffset - field.comment

/** The name of the parent's file that moraine keeps in the comment of an image: the format itself knows a parent by its UUID alone. */
export function parentHint({ bytes }: VdiHeader): string | undefined {
  const comment = bytes.subarray(field.comment, field.comment + commentBytes)
  const end = comment.indexOf(0)
  const text = new TextDecoder().decode(end < 0 ? comment : comment.subarray(0, end))
  return text.startsWith(hintPrefix) ? text.slice(hintPrefix.length) : undefined
}

/** The header of a new image, as QEMU writes it. `size` is the virtual size in bytes. */
export function newHeader(
  size: number,
  fixed: boolean,
  uuids: { image: string; modification: string },
  parent?: NewVdiParent,
): VdiHeader {
  const blockSize = parent?.blockSize ?? defaultBlockSize
  const bytes = new Uint8Array(headerBytes)
  const view = viewOf(bytes)
  bytes.set(new TextEncoder().encode(headerText))
  view.setUint32(field.signature, signature, true)
  view.setUint32(field.version, version, true)
  view.setUint32(field.headerSize, 0x180, true)
  view.setUint32(field.sectorSize, 512, true)
  const blocks = Math.ceil(size / blockSize)
  const header: VdiHeader = {
    bytes,
    type: parent !== undefined ? imageType.differencing : fixed ? imageType.fixed : imageType.dynamic,
    mapOffset: headerBytes,
    dataOffset: headerBytes + Math.ceil((blocks * 4) / 512) * 512,
    diskSize: size,
    blockSize,
    blockExtra: 0,
    blocks,
    blocksAllocated: fixed ? blocks : 0,
    uuidImage: uuids.image,
    uuidModification: uuids.modification,
    uuidLink: parent?.image ?? zeroGuid,
    uuidParentModification: parent?.modification ?? zeroGuid,
  }
  // A name that does not fit is no name: the parent is then found as VirtualBox finds it.
  const hint = new TextEncoder().encode(`${hintPrefix}${parent?.name ?? ''}`)
  if (parent !== undefined && hint.length < commentBytes) bytes.set(hint, field.comment)
  encodeHeader(header)
  return header
}
