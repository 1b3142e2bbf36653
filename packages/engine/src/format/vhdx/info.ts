/** The facts of a VHDX image, in QEMU's terms. QEMU tells nothing that only this format has. */
import type { DiskInfo } from '../../core/index.ts'
import type { VhdxImage } from './image.ts'

/** What `info` shows. */
export function vhdxInfo({ metadata }: VhdxImage): DiskInfo {
  const info: DiskInfo = {
    format: 'vhdx',
    virtualSize: metadata.virtualSize,
    clusterSize: metadata.blockSize,
    snapshots: [],
  }
  const name = metadata.parent?.names[0]
  if (name !== undefined) info.backing = { name, format: 'vhdx' }
  return info
}
