/** The volume descriptors of an optical disc, from sector 16 on. Facts: ECMA-119 (ISO 9660), ECMA-167 (volume recognition sequence of UDF), El Torito 1.0, Joliet. */
import { viewOf } from '../../bytes/integers.ts'

/** Bytes of a sector. */
export const isoSector = 2048
const firstSector = 16
/** How far the descriptors are followed. */
const lastSector = 47
const identifiers = new Set(['CD001', 'BEA01', 'NSR02', 'NSR03', 'TEA01', 'BOOT2', 'CDW02'])

/** What the descriptors say. */
export interface IsoVolume {
  /** The first descriptor's identifier: `CD001`, `BEA01` … */
  identifier: string
  /** The primary volume descriptor, 2048 bytes, zeros where they were cut; missing on a volume of UDF alone. */
  primary: DataView | undefined
  /** `NSR02` or `NSR03`, where the volume has a file system of UDF. */
  udf: string | undefined
  joliet: boolean
  /** It has a boot record of El Torito. */
  bootable: boolean
  /** Volume identifier of the primary descriptor, without what it is padded with. */
  label: string
}

function text(bytes: Uint8Array, start: number, end: number): string {
  return String.fromCharCode(...bytes.subarray(start, end))
}

/** Reads the descriptors within the first bytes of an image (64 KiB and more show all that is looked for); undefined where there are none. */
export function readIsoVolume(head: Uint8Array): IsoVolume | undefined {
  const volume: IsoVolume = {
    identifier: text(head, firstSector * isoSector + 1, firstSector * isoSector + 6),
    primary: undefined,
    udf: undefined,
    joliet: false,
    bootable: false,
    label: '',
  }
  for (let index = firstSector; index <= lastSector; index++) {
    const at = index * isoSector
    const id = text(head, at + 1, at + 6)
    if (!identifiers.has(id)) return index === firstSector ? undefined : volume
    if (id.startsWith('NSR')) volume.udf = id
    if (id !== 'CD001') continue
    const type = head[at]
    if (type === 0 && text(head, at + 7, at + 30) === 'EL TORITO SPECIFICATION') volume.bootable = true
    if (type === 1 && volume.primary === undefined) {
      const descriptor = new Uint8Array(isoSector)
      descriptor.set(head.subarray(at, at + isoSector))
      volume.primary = viewOf(descriptor)
      volume.label = text(descriptor, 40, 72).split('\0')[0]?.trim() ?? ''
    }
    if (type === 2 && /^%\/[@CE]/.test(text(head, at + 88, at + 91))) volume.joliet = true
  }
  return volume
}

/** Kinds of file systems on it: `iso9660`, `udf`, or both. */
export function isoKind({ primary, udf }: IsoVolume): string {
  return primary === undefined ? 'udf' : udf === undefined ? 'iso9660' : 'iso9660 and udf'
}
