/** Creation options of QED. Names, order and wording: `qemu-img create -f qed -o help` of 7.2. */
import { MoraineError } from '../../core/index.ts'
import type { OptionSpec, OptionValue, OptionValues } from '../options.ts'
import { isClusterSize, isTableSize, largestDisk } from './layout.ts'

const defaultClusterSize = 65_536
const defaultTableSize = 4

/** The table of options. */
export const qedOptions: readonly OptionSpec[] = [
  { name: 'size', type: 'size', help: 'Virtual disk size' },
  { name: 'backing_file', type: 'string', help: 'File name of a base image' },
  { name: 'backing_fmt', type: 'string', help: 'Image format of the base image' },
  {
    name: 'cluster_size',
    type: 'size',
    help: 'Cluster size (in bytes)',
    default: BigInt(defaultClusterSize),
  },
  { name: 'table_size', type: 'size', help: 'L1/L2 table size (in clusters)' },
]

/** The options of a creation with defaults filled in, in the order of QEMU's "Formatting" line. */
export function resolveQedOptions(
  size: bigint,
  { size: _again, ...options }: OptionValues,
  backing?: { name: string; format?: string | undefined },
): OptionValues {
  const resolved: Record<string, OptionValue> = { size }
  if (backing !== undefined) {
    resolved.backing_file = backing.name
    if (backing.format !== undefined) resolved.backing_fmt = backing.format
  }
  return { ...resolved, cluster_size: BigInt(defaultClusterSize), ...options }
}

/** Bytes of a cluster and clusters of a table for a disk of `size` bytes.
 *  @throws MoraineError `invalid` in QEMU's words. */
export function layoutOptions(
  size: number,
  options: OptionValues,
  path: string,
): { clusterSize: number; tableSize: number } {
  const clusterSize = Number((options.cluster_size as bigint | undefined) ?? BigInt(defaultClusterSize))
  const tableSize = Number((options.table_size as bigint | undefined) ?? BigInt(defaultTableSize))
  const refuse = (field: string, value: number, reason: string): never => {
    throw new MoraineError('invalid', reason, { path, format: 'qed', field, value })
  }
  if (!isClusterSize(clusterSize)) {
    const reason = 'QED cluster size must be within range [4096, 67108864] and power of 2'
    refuse('cluster_size', clusterSize, reason)
  }
  if (!isTableSize(tableSize)) {
    refuse('table_size', tableSize, 'QED table size must be within range [1, 16] and power of 2')
  }
  const most = largestDisk(clusterSize, tableSize)
  if (BigInt(size) > most) {
    const reason = `QED image size must be a non-zero multiple of cluster size and less than ${most} bytes`
    refuse('size', size, reason)
  }
  return { clusterSize, tableSize }
}
