/** The facts of a VMDK, in the terms of QEMU's `ImageInfo` and `ImageInfoSpecificVmdk`. */
import type { DetailValue, DiskInfo } from '../../core/index.ts'
import type { Part, VmdkImage } from './image.ts'

/** What `info` shows. */
export function vmdkInfo(image: VmdkImage): DiskInfo {
  const { descriptor, parts, createType, context, file } = image
  const info: DiskInfo = {
    format: 'vmdk',
    virtualSize: image.size,
    dirty: false,
    snapshots: [],
    details: {
      type: 'vmdk',
      data: {
        cid: descriptor.cid,
        'parent-cid': descriptor.parentCid,
        'create-type': createType,
        extents: parts.map((part) => extentInfo(part, (name) => context.gate.resolve({ from: file.name, name }))),
      },
    },
  }
  const clusterSize = commonGrain(parts)
  if (clusterSize !== undefined) info.clusterSize = clusterSize
  if (descriptor.parentName !== undefined) info.backing = { name: descriptor.parentName, format: 'vmdk' }
  return info
}

/** Bytes of a grain, where all extents agree about it. */
function commonGrain(parts: readonly Part[]): number | undefined {
  const [first] = parts
  const shape = first?.sparse?.shape
  if (shape === undefined) return undefined
  const alike = parts.every(({ sparse }) => {
    return sparse?.shape.grainBytes === shape.grainBytes && sparse.shape.compressed === shape.compressed
  })
  return alike ? shape.grainBytes : undefined
}

function extentInfo(part: Part, resolve: (name: string) => string): DetailValue {
  const data: Record<string, DetailValue> = {
    'virtual-size': part.length,
    filename: part.file?.name ?? (part.name === undefined ? '' : resolve(part.name)),
    format: part.type,
  }
  const shape = part.sparse?.shape
  if (shape !== undefined) data['cluster-size'] = shape.grainBytes
  if (shape?.compressed === true) data.compressed = true
  return data
}
