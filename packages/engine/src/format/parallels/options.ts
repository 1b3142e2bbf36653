/** Creation options of Parallels images. Names, order and wording: `qemu-img create -f parallels -o help` of 7.2. */
import { roundUp } from '../../bytes/integers.ts'
import { MoraineError } from '../../core/index.ts'
import type { OptionSpec, OptionValues } from '../options.ts'

const defaultClusterSize = 1024 * 1024

/** The table of options. */
export const parallelsOptions: readonly OptionSpec[] = [
  { name: 'size', type: 'size', help: 'Virtual disk size' },
  {
    name: 'cluster_size',
    type: 'size',
    help: 'Parallels image cluster size',
    default: BigInt(defaultClusterSize),
  },
]

/** The options of a creation with defaults filled in, in the order of QEMU's "Formatting" line. */
export function resolveParallelsOptions(size: bigint, { size: _again, ...options }: OptionValues): OptionValues {
  return { size, cluster_size: BigInt(defaultClusterSize), ...options }
}

/** Bytes of a cluster of a new image of `size` bytes: what was asked for, in whole sectors.
 *  @throws MoraineError `invalid` in QEMU's words for cluster sizes that do not fit, `limit` for more clusters than an image that opens has. */
export function clusterSizeOf(size: number, options: OptionValues, path: string): number {
  const asked = Number((options.cluster_size as bigint | undefined) ?? BigInt(defaultClusterSize))
  const clusterSize = roundUp(asked, 512)
  const place = { path, format: 'parallels', field: 'cluster_size', value: asked }
  if (clusterSize >= 0x7fff_ffff) {
    throw new MoraineError('invalid', 'Cluster size is too large', { ...place, rule: 'less than 2 GiB' })
  }
  if (size >= clusterSize * 2 ** 32) {
    const rule = 'less than 2^32 clusters'
    throw new MoraineError('invalid', 'Image size is too large for this cluster size', { ...place, rule })
  }
  // QEMU makes such images, and then refuses to open them.
  if (Math.ceil(size / clusterSize) > Math.floor(0x7fff_ffff / 4)) {
    throw new MoraineError('limit', 'Catalog too large', { ...place, rule: 'at most 536870911 clusters' })
  }
  return clusterSize
}
