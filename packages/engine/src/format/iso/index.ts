/** ISO 9660 and UDF images, told by their volume descriptors. As a disk such an image is its own bytes; what its files are is not looked at here. */
import { type ByteSource, type DetailValue, type Disk, type DiskInfo, readPadded } from '../../core/index.ts'
import { readOnly } from '../capabilities.ts'
import type { DiskFormat, OpenContext } from '../format.ts'
import { openRaw } from '../raw/disk.ts'
import { isoKind, isoSector, readIsoVolume } from './volume.ts'

const headBytes = 48 * isoSector

/** The format of optical discs. It stands behind every signature at the beginning, and behind a footer at the end: a fixed VHD may hold a disc. */
export const iso: DiskFormat = {
  name: 'iso',
  aliases: [],
  extensions: ['iso'],
  sequential: true,
  can: readOnly,
  options: [],
  probe({ head }) {
    const volume = readIsoVolume(head)
    return volume === undefined ? undefined : { score: 40, evidence: `"${volume.identifier}" at 32769` }
  },
  open: openIso,
}

async function openIso(source: ByteSource, context: OpenContext): Promise<Disk> {
  const head = new Uint8Array(headBytes)
  await readPadded(source, 0, head)
  const disk = await openRaw(source, { ...context, mode: 'read', window: undefined })
  const info = disk.info()
  const details = describe(head)
  return Object.defineProperties(disk, {
    format: { value: 'iso' },
    info: { value: (): DiskInfo => ({ ...info, format: 'iso', details }) },
  })
}

/** The facts of the volume, as `info` shows them. */
function describe(head: Uint8Array): DiskInfo['details'] {
  const volume = readIsoVolume(head)
  if (volume === undefined) return undefined
  const { primary, label, joliet, bootable } = volume
  const data: Record<string, DetailValue> = { 'file-systems': isoKind(volume) }
  if (label !== '') data.volume = label
  if (primary !== undefined) {
    data['volume-size'] = primary.getUint32(80, true) * primary.getUint16(128, true)
    data['block-size'] = primary.getUint16(128, true)
  }
  data.joliet = joliet
  data.bootable = bootable
  return { type: 'iso', data }
}
