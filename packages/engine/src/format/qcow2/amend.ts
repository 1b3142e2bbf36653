/** Changing what kind of qcow2 an image is: version, width of its counts, flags. Order of steps and words: `qcow2_amend_options` of QEMU 7.2. */
import { divideUp, setU64be, viewOf } from '../../bytes/integers.ts'
import {
  type ByteStore,
  type Disk,
  type Extent,
  MoraineError,
  throwIfCancelled,
  type WritableDisk,
} from '../../core/index.ts'
import type { AmendOptions } from '../format.ts'
import { fault, hasDataFile } from './image.ts'
import { autoclear, bounds, compatible, entry, type Header, incompatible } from './layout.ts'
import { setCountAt } from './refcount-reader.ts'
import { WritableQcow2Disk } from './writable-disk.ts'

/** What is asked for. */
interface Change {
  version: 2 | 3
  refcountOrder: number
  lazyRefcounts: boolean | undefined
  dataFile: string | undefined
  size: number | undefined
}

/** Amends an image opened for writing. When the width of its counts has changed, nothing more can be done with the opened disk but to close it.
 *  @throws MoraineError `invalid` and `unsupported` in QEMU's words. */
export async function amendQcow2(disk: WritableDisk, { options, signal }: AmendOptions): Promise<void> {
  if (!(disk instanceof WritableQcow2Disk)) throw new MoraineError('denied', 'the image was not opened for writing')
  const { image } = disk
  const change = readChange(disk, options)
  if (change.version > image.header.version) await disk.alone(() => upgrade(disk))
  if (change.dataFile !== undefined) await disk.alone(() => nameDataFile(disk, change.dataFile ?? ''))
  if (change.lazyRefcounts !== undefined) await disk.alone(() => setLazy(disk, change.lazyRefcounts === true))
  if (change.size !== undefined && change.size !== disk.size) await disk.resize(change.size, 'off', true)
  const lower = change.version < image.header.version ? await prepareDowngrade(disk, change, signal) : {}
  if (change.refcountOrder !== image.header.refcountOrder) {
    await disk.flush()
    await disk.settleBitmaps()
    await disk.alone(() => changeWidth(disk, change.refcountOrder, lower, signal))
  } else if (lower.version !== undefined) {
    await disk.alone(async () => {
      await disk.writer.writeBack()
      await disk.writer.replaceHeader({ ...image.header, ...lower })
    })
  }
}

function readChange(disk: WritableQcow2Disk, options: AmendOptions['options']): Change {
  const { image } = disk
  const { header } = image
  const refuse = (field: string, reason: string, hint?: string): never => {
    throw new MoraineError('invalid', reason, { path: disk.name, format: 'qcow2', field, hint })
  }
  if (options.backing_file !== undefined || options.backing_fmt !== undefined) {
    refuse('backing_file', 'Cannot amend the backing file', "You can use 'qemu-img rebase' instead.")
  }
  const { compat } = options
  const versions: Readonly<Record<string, 2 | 3>> = { '0.10': 2, v2: 2, '1.1': 3, v3: 3 }
  const version = compat === undefined ? (header.version as 2 | 3) : versions[String(compat)]
  if (version === undefined) return refuse('compat', `Unknown compatibility level ${compat}`)
  const bits = Number(options.refcount_bits ?? 2 ** header.refcountOrder)
  const refcountOrder = Math.log2(bits)
  if (!Number.isInteger(refcountOrder) || refcountOrder < 0 || refcountOrder > bounds.refcountOrder) {
    refuse('refcount_bits', 'Refcount width must be a power of two and may not exceed 64 bits')
  }
  if (version < 3 && refcountOrder !== 4 && options.refcount_bits !== undefined) {
    const words =
      'Refcount widths other than 16 bits require compatibility level 1.1 or above (use compat=1.1 or greater)'
    refuse('refcount_bits', words)
  }
  const data = options.data_file
  if (data !== undefined && !hasDataFile(image)) {
    refuse('data_file', 'data-file can only be set for images that use an external data file')
  }
  const isRaw = (header.autoclearFeatures & autoclear.rawDataFile) !== 0n
  if (options.data_file_raw === true && !isRaw) {
    refuse('data_file_raw', 'data-file-raw cannot be set on existing images')
  }
  const lazy = options.lazy_refcounts
  if (lazy === true && version < 3) {
    const words = 'Lazy refcounts only supported with compatibility level 1.1 and above (use compat=1.1 or greater)'
    refuse('lazy_refcounts', words)
  }
  return {
    version,
    refcountOrder,
    lazyRefcounts: typeof lazy === 'boolean' ? lazy : undefined,
    dataFile: typeof data === 'string' ? data : undefined,
    size: typeof options.size === 'bigint' ? Number(options.size) : undefined,
  }
}

async function upgrade(disk: WritableQcow2Disk): Promise<void> {
  await disk.writer.writeBack()
  await disk.writer.replaceHeader({ ...disk.image.header, version: 3 })
}

async function nameDataFile(disk: WritableQcow2Disk, name: string): Promise<void> {
  await disk.writer.writeBack()
  await disk.writer.replaceHeader({ ...disk.image.header, dataFileName: name === '' ? undefined : name })
}

async function setLazy(disk: WritableQcow2Disk, on: boolean): Promise<void> {
  const { header } = disk.image
  if (((header.compatibleFeatures & compatible.lazyRefcounts) !== 0n) === on) return
  await disk.writer.writeBack()
  const features = header.compatibleFeatures & ~compatible.lazyRefcounts
  const compatibleFeatures = on ? features | compatible.lazyRefcounts : features
  await disk.writer.replaceHeader({ ...header, compatibleFeatures })
}

/** Version 2 knows no zero clusters, bitmaps or features: zeros become zeros that are stored, the rest is given up where it means nothing to the guest.
 *  Returns what the header is to say then. */
async function prepareDowngrade(
  disk: WritableQcow2Disk,
  { refcountOrder }: Change,
  signal: AbortSignal | undefined,
): Promise<Partial<Header>> {
  const { image } = disk
  const { header } = image
  const refuse = (reason: string, field: string): never => {
    throw fault(image, 'unsupported', reason, field)
  }
  if (refcountOrder !== 4) refuse('compat=0.10 requires refcount_bits=16', 'refcount_bits')
  if (hasDataFile(image)) refuse('Cannot downgrade an image with a data file', 'data file')
  // Snapshots without the facts that version 3 adds, and tables that are shared, are not rewritten.
  for (const { diskSize, vmStateSize } of image.snapshots) {
    if (diskSize !== image.size) refuse('Internal snapshots prevent downgrade of image', 'snapshots')
    if (vmStateSize > 0xffff_ffff) refuse('Internal snapshots prevent downgrade of image', 'snapshots')
  }
  if (header.compressionType !== 0 && (await hasPackedClusters(disk, signal))) {
    refuse('Cannot downgrade an image with zstd compression type and existing compressed clusters', 'compression_type')
  }
  const unknown = header.incompatibleFeatures & ~(incompatible.dirty | incompatible.compression)
  if (unknown !== 0n) {
    refuse(
      `Cannot downgrade an image with incompatible features 0x${unknown.toString(16)} set`,
      'incompatible_features',
    )
  }
  if (image.snapshots.length > 0 && (await hasZeroClusters(disk, signal))) {
    refuse('an image with internal snapshots and zero clusters cannot be downgraded', 'snapshots')
  }
  if (image.bitmapList.length > 0) {
    for (const { name } of [...image.bitmapList]) await disk.bitmaps?.remove(name)
  }
  await storeZeros(disk, signal)
  return {
    version: 2,
    compressionType: 0,
    incompatibleFeatures: 0n,
    compatibleFeatures: 0n,
    autoclearFeatures: 0n,
    bitmaps: undefined,
  }
}

function hasPackedClusters(disk: WritableQcow2Disk, signal: AbortSignal | undefined): Promise<boolean> {
  return hasOwn(disk, ({ encoded }) => encoded === 'compressed', signal)
}

function hasZeroClusters(disk: WritableQcow2Disk, signal: AbortSignal | undefined): Promise<boolean> {
  return hasOwn(disk, ({ zero, allocated }) => zero && allocated, signal)
}

/** Whether the image itself, as it is now or in a snapshot, has such an extent. */
async function hasOwn(
  disk: WritableQcow2Disk,
  isSuch: (extent: Extent) => boolean,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  for await (const view of views(disk)) {
    for await (const batch of view.extents(0, view.size, signal)) {
      if (batch.some((extent) => extent.depth === 0 && isSuch(extent))) return true
    }
  }
  return false
}

/** The disk, and what each snapshot shows: one at a time, as their tables may be large and many; those that share a table once. */
async function* views(disk: WritableQcow2Disk): AsyncIterable<Disk> {
  yield disk
  const seen = new Set<string>()
  for (const snapshot of disk.image.snapshots) {
    const table = `${snapshot.l1Offset} ${snapshot.l1Size} ${snapshot.diskSize}`
    if (seen.has(table)) continue
    seen.add(table)
    yield await disk.openSnapshotEntry(snapshot)
  }
}

/** Turns every zero cluster into one that is not there, where nothing shows through, or into one with zeros in it. */
async function storeZeros(disk: WritableQcow2Disk, signal: AbortSignal | undefined): Promise<void> {
  const { clusterSize } = disk.image.geometry
  for await (const batch of disk.extents(0, disk.size, signal)) {
    for (const { offset, length, zero, allocated, depth } of batch) {
      if (!zero || !allocated || depth > 0) continue
      for (let at = offset - (offset % clusterSize); at < offset + length; at += clusterSize) {
        throwIfCancelled(signal, disk.name)
        await storeZeroCluster(disk, at)
      }
    }
  }
}

async function storeZeroCluster(disk: WritableQcow2Disk, guest: number): Promise<void> {
  const { writer, image } = disk
  const { clusterSize } = image.geometry
  await disk.alone(async () => {
    const place = await writer.entryOf(guest)
    const { view } = place.page
    const upper = view.getUint32(place.at)
    const lower = view.getUint32(place.at + 4)
    if ((upper & entry.compressed) !== 0 || (lower & entry.zero) === 0) return
    const host = (upper & entry.offsetHigh) * 2 ** 32 + ((lower & entry.offsetLow) >>> 0)
    const shows = disk.parent !== undefined && guest < disk.parent.size
    if (host === 0 && !shows) {
      writer.setEntry(place, 0, 0)
      return
    }
    const target = host === 0 ? await writer.refcounts.allocate(clusterSize) : host
    await writer.store.write(target, new Uint8Array(clusterSize))
    await writer.store.flush()
    writer.setEntry(place, (Math.floor(target / 2 ** 32) | entry.copied) >>> 0, target % 2 ** 32)
  })
}

/** Writes counts of another width behind the file, then points the header at them, which says what `changes` say from then on. The old ones are counted as
 *  free in the new. */
async function changeWidth(
  disk: WritableQcow2Disk,
  order: number,
  changes: Partial<Header>,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { writer, image } = disk
  const { clusterSize, refcountsPerBlock } = image.geometry
  await writer.writeBack()
  const perBlock = (clusterSize * 8) / 2 ** order
  const first = divideUp(writer.store.size, clusterSize)
  const plan = placeStructures(first, perBlock, clusterSize)
  if (plan.tableClusters * clusterSize > bounds.refcountTableBytes) {
    throw fault(image, 'limit', 'File too large', 'refcount table', { value: plan.tableClusters * clusterSize })
  }
  const old = new Set<number>()
  for (const block of writer.refcounts.table) if (block > 0) old.add(block / clusterSize)
  const { refcountTableOffset, refcountTableClusters } = image.header
  for (let at = 0; at < refcountTableClusters; at++) old.add(refcountTableOffset / clusterSize + at)
  const most = order >= 6 ? Number.POSITIVE_INFINITY : 2 ** (2 ** order) - 1
  const table = new Uint8Array(plan.tableClusters * clusterSize)
  for (let index = 0; index < plan.blocks; index++) {
    throwIfCancelled(signal, disk.name)
    const bytes = new Uint8Array(clusterSize)
    const view = viewOf(bytes)
    for (let at = 0; at < perBlock && index * perBlock + at < plan.end; at++) {
      const cluster = index * perBlock + at
      const count = cluster >= first ? 1 : old.has(cluster) ? 0 : await countOf(disk, cluster, refcountsPerBlock)
      if (count > most) {
        const bits = 2 ** order
        const words = `Cannot decrease refcount entry width to ${bits} bits: Cluster at offset 0x${(cluster * clusterSize).toString(16)} has a refcount of ${count}`
        throw fault(image, 'invalid', words, 'refcount_bits', { value: bits })
      }
      if (count > 0) setCountAt(bytes, view, order, at, count)
    }
    const offset = (first + index) * clusterSize
    await writer.store.write(offset, bytes)
    setU64be(viewOf(table), index * 8, offset)
  }
  const tableOffset = (first + plan.blocks) * clusterSize
  await writer.store.write(tableOffset, table)
  await writer.store.flush()
  await writer.replaceHeader({
    ...image.header,
    ...changes,
    refcountOrder: order,
    refcountTableOffset: tableOffset,
    refcountTableClusters: plan.tableClusters,
  })
  const store: ByteStore = writer.store
  await store.flush()
}

async function countOf(disk: WritableQcow2Disk, cluster: number, perBlock: number): Promise<number> {
  const { refcounts } = disk.writer
  if ((refcounts.table[Math.floor(cluster / perBlock)] ?? 0) === 0) return 0
  return await refcounts.get(cluster)
}

/** How many blocks and clusters of table count everything up to their own end. */
function placeStructures(first: number, perBlock: number, clusterSize: number) {
  let blocks = 0
  let tableClusters = 1
  for (;;) {
    const end = first + blocks + tableClusters
    const needed = divideUp(end, perBlock)
    const table = divideUp(needed * 8, clusterSize)
    if (needed === blocks && table === tableClusters) return { blocks, tableClusters, end }
    blocks = Math.max(blocks, needed)
    tableClusters = Math.max(tableClusters, table)
  }
}
