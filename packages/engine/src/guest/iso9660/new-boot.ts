/** Booting from new volumes: the catalogue of El Torito, and the boot information table. Facts: El Torito 1.0; UEFI 2.10, section 13.3.2.1; isolinux' boot information table. */
import { viewOf } from '../../bytes/integers.ts'
import { bootChecksum } from './el-torito.ts'
import { sectorBytes } from './layout.ts'
import { ascii } from './new-fields.ts'

/** An image that the firmware shall start: a file of the volume. */
export interface NewBootImage {
  /** The path of the file. */
  path: string
  platform: 'bios' | 'efi'
  /** A drive that the firmware shall pretend; default none. The file must then be as large as such a disk. */
  emulation?: 'none' | 'floppy' | 'hard-disk' | undefined
  /** Sectors of 512 bytes that a BIOS loads; default 4, which is what every BIOS can. */
  loadSectors?: number | undefined
  /** Writes the boot information table into the image, from byte 8 on, as isolinux and GRUB want it. */
  infoTable?: boolean | undefined
}

/** An image with its place. */
export interface PlacedBootImage extends NewBootImage {
  block: number
  /** Bytes. */
  size: number
}

const entryBytes = 32
/** Images that fit into a catalogue of one sector, with a header for each. */
export const mostBootImages = 31
const numbers = { bios: 0, efi: 0xef } as const
const floppies: Readonly<Record<number, number>> = { 1228800: 1, 1474560: 2, 2949120: 3 }
const hardDisk = 4

/** The number of the drive to pretend; undefined where the image has not the size of one. */
export function mediaNumber({ emulation }: NewBootImage, size: number): number | undefined {
  if (emulation === 'floppy') return floppies[size]
  return emulation === 'hard-disk' ? hardDisk : 0
}

/** The catalogue: the first image by default, each of the others in a section of its own. `diskTypes` are the types of the first partitions of images that are hard disks. */
export function writeBootCatalog(
  images: readonly PlacedBootImage[],
  diskTypes: ReadonlyMap<string, number>,
): Uint8Array {
  const bytes = new Uint8Array(sectorBytes)
  const [first] = images
  if (first === undefined) return bytes
  const view = viewOf(bytes)
  bytes.set([1, numbers[first.platform]])
  bytes.set([0x55, 0xaa], 30)
  let sum = 0
  for (let at = 0; at < entryBytes; at += 2) sum += view.getUint16(at, true)
  view.setUint16(28, -sum & 0xffff, true)
  for (const [index, image] of images.entries()) {
    const header = index * 2 * entryBytes
    if (index > 0) {
      bytes.set([index === images.length - 1 ? 0x91 : 0x90, numbers[image.platform], 1, 0], header)
      bytes.set(ascii(image.platform), header + 4)
    }
    writeImage(view, header + entryBytes, image, diskTypes.get(image.path) ?? 0)
  }
  return bytes
}

function writeImage(view: DataView, at: number, image: PlacedBootImage, diskType: number): void {
  const media = mediaNumber(image, image.size) ?? 0
  // Firmware of UEFI takes the count for the size of the image; what passes the field is for it to find out.
  const whole = Math.min(Math.ceil(image.size / 512), 0xffff)
  const sectors = image.loadSectors ?? (media !== 0 ? 1 : image.platform === 'efi' ? whole : 4)
  view.setUint8(at, 0x88)
  view.setUint8(at + 1, media)
  view.setUint8(at + 4, diskType)
  view.setUint16(at + 6, sectors, true)
  view.setUint32(at + 8, image.block, true)
}

/** The boot information table for an image at a block. */
export function bootInfoTable(image: Uint8Array, block: number): Uint8Array {
  const table = new Uint8Array(56)
  const view = viewOf(table)
  view.setUint32(0, 16, true)
  view.setUint32(4, block, true)
  view.setUint32(8, image.length, true)
  view.setUint32(12, bootChecksum(image), true)
  return table
}
