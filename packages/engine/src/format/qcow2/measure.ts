/** How large a qcow2 file gets. Arithmetic of QEMU 7.2 (`qemu-img measure`), compared with it over many sizes and options. */

import { roundUp } from '../../bytes/integers.ts'
import { encodeName } from '../../bytes/name-text.ts'
import { type Disk, MoraineError, throwIfCancelled } from '../../core/index.ts'
import { placesFor } from '../../crypt/luks-header.ts'
import type { Measure, MeasureRequest } from '../format.ts'
import { secretOf } from '../key-secret.ts'
import { planLuks } from '../luks/cipher-options.ts'
import type { OptionValues } from '../options.ts'
import { bounds } from './layout.ts'
import { planOptions, type Qcow2Plan } from './options.ts'
import { refcountMetadataSize } from './refcounts.ts'

/** Bytes that a new qcow2 file needs for the data of a source (or none), and when every cluster is written.
 *  @throws MoraineError `invalid` when options contradict each other or the size needs too large an L1 table. */
export async function measureQcow2(request: MeasureRequest): Promise<Measure> {
  const { source } = request
  const plan = planOptions(sizing(request.options), false)
  const shape: Shape = {
    clusterSize: 2 ** plan.clusterBits,
    l2EntrySize: plan.extendedL2 ? 16 : 8,
    refcountBits: 2 ** plan.refcountOrder,
  }
  const size = roundUp(source?.size ?? request.size, shape.clusterSize)
  const fullyAllocated = fullSize(size, shape) + roundUp(cryptBytes(plan, request), shape.clusterSize)
  let data = 0
  if (plan.preallocation === 'falloc' || plan.preallocation === 'full') data = size
  // How much of its backing chain a source shares with the target's is not known: the worst case counts.
  else if (source !== undefined && request.options.backing_file !== undefined) data = size
  else if (source !== undefined) data = await dataBytes(source, shape.clusterSize, request.signal)
  const measure: Measure = { required: fullyAllocated - size + data, fullyAllocated }
  const bitmaps = plan.version === 3 && source !== undefined ? bitmapBytes(source, shape.clusterSize) : undefined
  return bitmaps === undefined ? measure : { ...measure, bitmaps }
}

/** The options that decide how large a file gets. The others are for whoever makes it to look at. */
function sizing(options: OptionValues): OptionValues {
  const encrypts = options['encrypt.format'] === 'luks'
  return Object.fromEntries(
    Object.entries(options).filter(([name]) => (name.startsWith('encrypt.') ? encrypts : sizingOptions.has(name))),
  )
}

const sizingOptions = new Set(['cluster_size', 'extended_l2', 'preallocation', 'compat', 'refcount_bits'])

/** Bytes of the LUKS header with all its key slots. */
function cryptBytes(plan: Qcow2Plan, { options, secrets }: MeasureRequest): number {
  if (plan.encryption !== 'luks') return 0
  secretOf(secrets, options['encrypt.key-secret'] as string | undefined, 'encrypt.key-secret', { format: 'qcow2' })
  return placesFor(planLuks(options, 'encrypt.').keyBytes).payloadSector * 512
}

/** What the sizes of the tables follow from. Bytes, and bits of one refcount. */
interface Shape {
  clusterSize: number
  l2EntrySize: number
  refcountBits: number
}

function fullSize(size: number, { clusterSize, l2EntrySize, refcountBits }: Shape): number {
  const l2Entries = roundUp(size / clusterSize, clusterSize / l2EntrySize)
  const l2Tables = (l2Entries * l2EntrySize) / clusterSize
  if (l2Tables * 8 > bounds.l1TableBytes) {
    throw new MoraineError('invalid', 'The image size is too large (try using a larger cluster size)', {
      format: 'qcow2',
      field: 'size',
      value: size,
      rule: `an L1 table of at most ${bounds.l1TableBytes} bytes`,
    })
  }
  const tables = clusterSize + l2Tables * clusterSize + roundUp(l2Tables * 8, clusterSize)
  const counted = (tables + size) / clusterSize
  const { blocks, tableClusters } = refcountMetadataSize(counted, clusterSize, refcountBits, false)
  return tables + size + (blocks + tableClusters) * clusterSize
}

/** Bytes of the clusters that hold data which does not read as zeros. */
async function dataBytes(source: Disk, clusterSize: number, signal: AbortSignal | undefined): Promise<number> {
  if (source.size === 0) return 0
  let bytes = 0
  let counted = 0
  for await (const batch of source.extents(0, source.size, signal)) {
    throwIfCancelled(signal, source.name)
    for (const { offset, length, data: holdsData, zero } of batch) {
      if (zero || !holdsData) continue
      const start = Math.max(counted, offset - (offset % clusterSize))
      counted = Math.max(counted, roundUp(offset + length, clusterSize))
      bytes += Math.max(0, counted - start)
    }
  }
  return bytes
}

/** Bytes for the source's bitmaps, written in full; undefined when the source has no place for bitmaps. */
function bitmapBytes(source: Disk, clusterSize: number): number | undefined {
  if (source.bitmaps === undefined) return undefined
  let bytes = 0
  let directory = 0
  for (const { name, granularity, inconsistent } of source.bitmaps.list()) {
    if (inconsistent) continue
    const clusters = Math.ceil(Math.ceil(Math.ceil(source.size / granularity) / 8) / clusterSize)
    bytes += clusters * clusterSize + roundUp(clusters * 8, clusterSize)
    directory += roundUp(24 + encodeName(name).length, 8)
  }
  return bytes + roundUp(directory, clusterSize)
}
