/** The boot catalogue of El Torito. Facts: El Torito 1.0, section 2; UEFI 2.10, section 13.3.2.1 (platform 0xEF); isolinux' boot information table. */
import { viewOf } from '../../bytes/integers.ts'
import { readPadded } from '../../core/index.ts'
import { readPaddedText, sectorBytes } from './layout.ts'
import type { VolumeReader } from './volume-reader.ts'

const entryBytes = 32
/** The catalogue has no length of its own; those that are made have at most one sector. */
const mostCatalogBytes = 32 * sectorBytes
const bootSector = 512

/** Emulated drives, by their number. */
const media = ['none', 'floppy-1.2', 'floppy-1.44', 'floppy-2.88', 'hard-disk'] as const
const floppyBytes: Readonly<Record<string, number>> = {
  'floppy-1.2': 1_228_800,
  'floppy-1.44': 1_474_560,
  'floppy-2.88': 2_949_120,
}

/** One image that the firmware may start. */
export interface IsoBootImage {
  platform: 'bios' | 'powerpc' | 'mac' | 'efi' | `platform-${number}`
  bootable: boolean
  emulation: (typeof media)[number] | `media-${number}`
  /** Real-mode segment; 0 is 0x7c0. */
  loadSegment: number
  systemType: number
  /** Sectors of 512 bytes that the BIOS loads; for EFI the size of the image, by most writers. */
  sectors: number
  /** Byte offset in the image. */
  offset: number
  /** Bytes, as far as the catalogue tells. */
  length: number
  /** It holds a boot information table, which fits it (`valid`) or does not. */
  bootInfoTable: 'valid' | 'wrong' | undefined
}

/** The catalogue. */
export interface IsoBootCatalog {
  /** Byte offset in the image. */
  offset: number
  id: string
  /** Its first entry has the right signature and checksum. */
  valid: boolean
  images: IsoBootImage[]
}

const platforms: Readonly<Record<number, IsoBootImage['platform']>> = { 0: 'bios', 1: 'powerpc', 2: 'mac', 239: 'efi' }

/** Reads the catalogue at a logical block. What makes no sense in it is a warning: the files can be read all the same.
 *  @throws MoraineError `io`. */
export async function readBootCatalog(reader: VolumeReader, block: number): Promise<IsoBootCatalog | undefined> {
  const offset = block * reader.blockSize
  if (offset + 2 * entryBytes > reader.source.size) {
    reader.warnOnce('boot catalogue', `its boot catalogue, at byte ${offset}, lies outside the image`)
    return undefined
  }
  const bytes = new Uint8Array(sectorBytes)
  await readPadded(reader.source, offset, bytes, reader.signal)
  const view = viewOf(bytes)
  let sum = 0
  for (let at = 0; at < entryBytes; at += 2) sum += view.getUint16(at, true)
  const valid = bytes[0] === 1 && (sum & 0xffff) === 0 && bytes[30] === 0x55 && bytes[31] === 0xaa
  const catalog: IsoBootCatalog = { offset, id: readPaddedText(bytes.subarray(4, 28)), valid, images: [] }
  if (!valid)
    reader.warnOnce('boot catalogue', 'the first entry of its boot catalogue has a wrong checksum or signature')
  const first = readImage(reader, bytes.subarray(entryBytes, 2 * entryBytes), platformOf(bytes[1] ?? 0))
  if (first !== undefined) catalog.images.push(first)
  await readSections(reader, offset, catalog)
  for (const image of catalog.images) await checkInfoTable(reader, image)
  return catalog
}

function platformOf(number: number): IsoBootImage['platform'] {
  return platforms[number] ?? `platform-${number}`
}

async function readSections(reader: VolumeReader, offset: number, catalog: IsoBootCatalog): Promise<void> {
  const bytes = new Uint8Array(mostCatalogBytes)
  await readPadded(reader.source, offset, bytes, reader.signal)
  for (let at = 2 * entryBytes; at + entryBytes <= bytes.length; ) {
    const indicator = bytes[at]
    if (indicator !== 0x90 && indicator !== 0x91) return
    const platform = platformOf(bytes[at + 1] ?? 0)
    const count = viewOf(bytes).getUint16(at + 2, true)
    at += entryBytes
    for (let i = 0; i < count && at + entryBytes <= bytes.length; i++) {
      const image = readImage(reader, bytes.subarray(at, at + entryBytes), platform)
      if (image !== undefined) catalog.images.push(image)
      // Criteria that do not fit into the entry go on in others.
      let more = ((bytes[at + 1] ?? 0) & 0x20) !== 0
      at += entryBytes
      while (more && bytes[at] === 0x44 && at + entryBytes <= bytes.length) {
        more = ((bytes[at + 1] ?? 0) & 0x20) !== 0
        at += entryBytes
      }
    }
    if (indicator === 0x91) return
  }
}

function readImage(
  reader: VolumeReader,
  entry: Uint8Array,
  platform: IsoBootImage['platform'],
): IsoBootImage | undefined {
  const indicator = entry[0]
  const view = viewOf(entry)
  const block = view.getUint32(8, true)
  if (indicator !== 0x88 && (indicator !== 0 || block === 0)) return undefined
  const number = (entry[1] ?? 0) & 0x0f
  const emulation = media[number] ?? (`media-${number}` as const)
  const sectors = view.getUint16(6, true)
  const offset = block * reader.blockSize
  const image: IsoBootImage = {
    platform,
    bootable: indicator === 0x88,
    emulation,
    loadSegment: view.getUint16(2, true),
    systemType: entry[4] ?? 0,
    sectors,
    offset,
    length: floppyBytes[emulation] ?? sectors * bootSector,
    bootInfoTable: undefined,
  }
  if (offset >= reader.source.size) {
    reader.warnOnce('boot image', `a boot image, at byte ${offset}, lies outside the image`)
  }
  return image
}

/** Looks for the table that isolinux and GRUB want at byte 8: where the volume and the file are, its length, and a checksum of what follows. */
async function checkInfoTable(reader: VolumeReader, image: IsoBootImage): Promise<void> {
  const mostBytes = 4 * 1024 * 1024
  const { offset } = image
  if (image.emulation !== 'none' || offset + 64 > reader.source.size) return
  const head = new Uint8Array(64)
  await reader.source.read(offset, head, reader.signal)
  const view = viewOf(head)
  const length = view.getUint32(16, true)
  if (view.getUint32(8, true) !== 16 || view.getUint32(12, true) * reader.blockSize !== offset || length < 64) return
  if (length > mostBytes || offset + length > reader.source.size) {
    image.bootInfoTable = 'wrong'
    return
  }
  const bytes = new Uint8Array(length)
  await reader.source.read(offset, bytes, reader.signal)
  image.bootInfoTable = bootChecksum(bytes) === view.getUint32(20, true) ? 'valid' : 'wrong'
  image.length = length
}

/** The sum of the words of 32 bits from byte 64 on, the last one filled with zeros. */
export function bootChecksum(bytes: Uint8Array): number {
  let sum = 0
  for (let at = 64; at < bytes.length; at += 4) {
    const [a = 0, b = 0, c = 0, d = 0] = bytes.subarray(at, at + 4)
    sum = (sum + (a | (b << 8) | (c << 16) | (d << 24))) | 0
  }
  return sum >>> 0
}
