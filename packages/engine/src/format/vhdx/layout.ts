/** The structures of a VHDX file as they lie on disk: places, sizes, identifiers. All numbers are little-endian.
 *  Source: MS-VHDX 4.0 (2018), sections 2.1 to 2.6. */
import type { ErrorKind, ErrorPlace } from '../../core/index.ts'
import { MoraineError } from '../../core/index.ts'

/** Unit of every object's offset and length. */
export const mib = 1024 * 1024

/** First bytes of the file. */
export const fileSignature = 'vhdxfile'

/** Byte offsets of what lies before the first MiB. */
export const places = {
  creator: 8,
  headers: [64 * 1024, 128 * 1024],
  regionTables: [192 * 1024, 256 * 1024],
} as const

/** Bytes of structures that a checksum covers, or that are read whole. */
export const lengths = {
  creator: 512,
  header: 4096,
  /** Of a header, what is not reserved. */
  headerFields: 80,
  regionTable: 64 * 1024,
  metadataTable: 64 * 1024,
  metadataItem: mib,
  sectorBitmap: mib,
  logSector: 4096,
} as const

/** Most entries of a region table, and of a metadata table. */
export const mostEntries = 2047

/** Bounds of a virtual disk. Bytes. */
export const bounds = {
  smallestBlock: mib,
  largestBlock: 256 * mib,
  virtualSize: 64 * 2 ** 40,
} as const

/** Sectors that one sector bitmap block covers. */
export const sectorsPerChunk = 2 ** 23

/** Region identifiers. */
export const regionGuids = {
  blocks: '2dc27766-f623-4200-9d64-115e9bfd4a08',
  metadata: '8b7ca206-4790-4b9a-b8fe-575f050f886e',
} as const

/** Metadata item identifiers. */
export const itemGuids = {
  fileParameters: 'caa16737-fa36-4d43-b3b6-33f0aa44e76b',
  virtualDiskSize: '2fa54224-cd1b-4876-b211-5dbed83bf4b8',
  virtualDiskId: 'beca12ab-b2e6-4523-93ef-c309e000c746',
  logicalSectorSize: '8141bf1d-a96f-4709-ba47-f233a8faab5f',
  physicalSectorSize: 'cda348c7-445d-4471-9cc9-e9885251c556',
  parentLocator: 'a8d35f2d-b30b-454d-abf7-d3d84834ab0c',
} as const

/** Type of the only parent locator that is defined. */
export const vhdxLocatorType = 'b04aefb7-d19e-4a81-b789-25b8e9445913'

/** Flags of a region table entry. */
export const regionRequired = 1

/** Flags of a metadata table entry. */
export const itemFlags = { user: 1, virtualDisk: 2, required: 4 } as const

/** Bits of the file parameters. */
export const parameterBits = { leaveAllocated: 1, hasParent: 2 } as const

/** States of a payload block; bits 0 to 2 of its entry. 5 is what the draft 0.95 called "unmapped". */
export const blockState = {
  notPresent: 0,
  undefined: 1,
  zero: 2,
  unmapped: 3,
  unmappedDraft: 5,
  fullyPresent: 6,
  partiallyPresent: 7,
} as const

/** State of a sector bitmap block that is there. */
export const bitmapPresent = 6

/** An error about a VHDX file. `reason` defaults to what QEMU says: that the file could not be opened, and the host's word for why. */
export function vhdxFault(
  path: string,
  kind: ErrorKind,
  field: string,
  place: Omit<ErrorPlace, 'path' | 'format' | 'field'> = {},
  reason = `Could not open '${path}': ${kind === 'unsupported' ? 'Operation not supported' : 'Invalid argument'}`,
): MoraineError {
  return new MoraineError(kind, reason, { path, format: 'vhdx', field, ...place })
}

/** Whether a file begins as a VHDX does. */
export function looksLikeVhdx(head: Uint8Array): boolean {
  return Array.from(fileSignature).every((letter, i) => head[i] === letter.charCodeAt(0))
}
