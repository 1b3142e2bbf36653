/** A volume that is a disk, too: a partition table before it, whose one partition is the image that EFI boots, so that a USB stick boots what a disc does. Facts: UEFI 2.10, sections 5.2 and 13.3
 *  (firmware passes over tables whose partitions overlap, so that there is none over the whole volume). */
import { viewOf } from '../../bytes/integers.ts'
import { MoraineError } from '../../core/index.ts'
import { sectorBytes } from './layout.ts'

const tableAt = 446
const diskSector = 512
const signatureAt = 440
/** What 32 bits count. */
const mostSectors = 2 ** 32
/** Type of a partition with EFI's programs. */
const efiType = 0xef

/** Where the image lies: block of the volume, and bytes. */
interface PlacedImage {
  block: number
  size: number
}

/** The first sector of a hybrid volume: the code of `area`, where there is one, and a table.
 *  @param id what the disk is known by, where the area has nothing there
 *  @throws MoraineError `invalid` where the area has a table of its own; `limit` for an image that its addresses do not reach. */
export function hybridSector(area: Uint8Array | undefined, image: PlacedImage, id: number): Uint8Array {
  const bytes = new Uint8Array(diskSector)
  bytes.set((area ?? bytes).subarray(0, diskSector))
  if (bytes.subarray(tableAt, tableAt + 64).some((byte) => byte !== 0)) {
    throw new MoraineError('invalid', 'the system area has a partition table of its own', {
      format: 'iso',
      field: 'system area',
      rule: 'none, for a hybrid volume gets one',
    })
  }
  const [first, sectors] = [image.block * (sectorBytes / diskSector), Math.ceil(image.size / diskSector)]
  if (first + sectors > mostSectors) {
    throw new MoraineError('limit', 'the image that EFI boots lies too far behind for a partition table', {
      format: 'iso',
      field: 'first sector',
      value: first,
      rule: `it ends within ${mostSectors} sectors of 512 bytes (2 TiB): give it a name that comes before those of large files`,
    })
  }
  const view = viewOf(bytes)
  if (view.getUint32(signatureAt, true) === 0) view.setUint32(signatureAt, id >>> 0, true)
  // Addresses by cylinder are those of what is too far for them: nobody reads them.
  bytes.set([0, 0xfe, 0xff, 0xff, efiType, 0xfe, 0xff, 0xff], tableAt)
  view.setUint32(tableAt + 8, first, true)
  view.setUint32(tableAt + 12, sectors, true)
  bytes.set([0x55, 0xaa], 510)
  return bytes
}
