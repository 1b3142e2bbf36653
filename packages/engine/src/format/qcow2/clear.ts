/** Zeroing and discarding by entries alone, without touching data. Behaviour: QEMU 7.2's `qcow2_co_pwrite_zeroes` and `qcow2_co_pdiscard`. */

import { roundDown, roundUp } from '../../bytes/integers.ts'
import type { ByteStore } from '../../core/index.ts'
import { throwIfCancelled } from '../../core/index.ts'
import { hasDataFile, hasRawDataFile } from './image.ts'
import { entry } from './layout.ts'
import type { WritableQcow2Disk } from './writable-disk.ts'

/** `zero-unmap` gives clusters up, `zero-keep` keeps those that are there. */
export type ZeroHow = 'zero-unmap' | 'zero-keep'

/** Guest bytes. */
interface GuestRange {
  offset: number
  length: number
}

/** Makes a range read as zeros where entries can say so: by clusters, with extended entries by subclusters, and by parts of these when
 *  the rest of them reads as zeros too. Returns what must be written with zeros instead. */
export async function zeroRange(
  disk: WritableQcow2Disk,
  offset: number,
  length: number,
  how: ZeroHow,
  signal: AbortSignal | undefined,
): Promise<GuestRange[]> {
  const { geometry, header } = disk.image
  const { subclusterSize: unit } = geometry
  // Version 2 has no zero flag: what is unmapped shows what lies under it.
  if (header.version < 3 && disk.parent !== undefined) return [{ offset, length }]
  const rest: GuestRange[] = []
  for (const { from, to } of cutAtUnits(offset, offset + length, unit)) {
    const start = roundDown(from, unit)
    const end = roundUp(to, unit)
    if ((from > start || (to < end && to < disk.size)) && !(await readsAsZeroAround(disk, start, from, to, end))) {
      rest.push({ offset: from, length: to - from })
    } else if (header.version < 3) await discardClusters(disk, start, end, signal)
    else rest.push(...(await zeroUnits(disk, start, end, disk.size, how, signal)))
  }
  return rest
}

/** The parts of a range: what is left of its first unit, whole units, what there is of its last one. */
function cutAtUnits(from: number, to: number, unit: number): { from: number; to: number }[] {
  const first = Math.min(to, roundUp(from, unit))
  const last = Math.max(first, roundDown(to, unit))
  return [
    { from, to: first },
    { from: first, to: last },
    { from: last, to },
  ].filter((part) => part.to > part.from)
}

/** Whether a unit has no data, and what lies before `from` and after `to` in it reads as zeros. */
async function readsAsZeroAround(
  disk: WritableQcow2Disk,
  start: number,
  from: number,
  to: number,
  end: number,
): Promise<boolean> {
  const found = disk.map.resolve(start, 1)
  const { kind } = found instanceof Promise ? await found : found
  if (kind === 'data' || kind === 'packed') return false
  for (const [at, stop] of [
    [start, from],
    [to, Math.min(end, disk.size)],
  ] as const) {
    if (at >= stop) continue
    for await (const batch of disk.extents(at, stop - at)) if (batch.some(({ zero }) => !zero)) return false
  }
  return true
}

/** Zeroes whole units; the last may be cut by the disk's end, which is at `size`. Returns the parts of compressed clusters among them, which no
 *  entry can say. */
export async function zeroUnits(
  disk: WritableQcow2Disk,
  from: number,
  to: number,
  size: number,
  how: ZeroHow,
  signal?: AbortSignal,
): Promise<GuestRange[]> {
  const { clusterSize } = disk.image.geometry
  if (hasRawDataFile(disk.image)) {
    const mode = how === 'zero-keep' ? 'allocate' : 'unmap'
    await (disk.image.data as ByteStore).zero(from, Math.min(to, size) - from, mode, signal)
  }
  const rest: GuestRange[] = []
  const part = async (start: number, end: number): Promise<void> => {
    if (start >= end || (await zeroSubclusters(disk, start, end))) return
    rest.push({ offset: start, length: Math.min(end, size) - start })
  }
  const first = Math.min(to, roundUp(from, clusterSize))
  const wholeEnd = to >= size ? roundUp(to, clusterSize) : roundDown(to, clusterSize)
  const last = first < to ? wholeEnd : first
  await part(from, first)
  for (let at = first; at < last; ) {
    throwIfCancelled(signal, disk.name)
    const found = disk.map.resolve(at, last - at)
    const run = found instanceof Promise ? await found : found
    const whole = Math.max(clusterSize, roundDown(run.length, clusterSize))
    const isSo = run.kind === 'zero' && (how === 'zero-keep' || run.host < 0) && run.length >= clusterSize
    if (!isSo) for (let guest = at; guest < at + whole; guest += clusterSize) await zeroCluster(disk, guest, how)
    at += whole
  }
  await part(last, to)
  return rest
}

/** Makes one cluster read as zeros by its entry. */
async function zeroCluster(disk: WritableQcow2Disk, guest: number, how: ZeroHow): Promise<void> {
  const { writer } = disk
  const { extended } = disk.image.geometry
  const place = await writer.entryOf(guest)
  const { view } = place.page
  const upper = view.getUint32(place.at)
  const lower = view.getUint32(place.at + 4)
  const packed = (upper & entry.compressed) !== 0
  const keep = !packed && (how === 'zero-keep' || !isAllocated(disk, upper, lower))
  const zero = extended ? 0 : entry.zero
  if (keep) writer.setEntry(place, upper, (lower | zero) >>> 0)
  else writer.setEntry(place, 0, zero)
  if (extended) {
    view.setUint32(place.at + 8, 0xffff_ffff)
    view.setUint32(place.at + 12, 0)
  }
  if (!keep) writer.freeEntry(upper, lower)
}

/** Whether an entry holds on to a cluster. In a data file the first one lies at 0, and only its being data tells. */
function isAllocated(disk: WritableQcow2Disk, upper: number, lower: number): boolean {
  if ((upper & (entry.compressed | entry.offsetHigh)) !== 0 || (lower & entry.offsetLow) !== 0) return true
  const zero = !disk.image.geometry.extended && (lower & entry.zero) !== 0
  return hasDataFile(disk.image) && upper >= entry.copied && !zero
}

/** Marks subclusters of one cluster as zeros; false when it is compressed. */
async function zeroSubclusters(disk: WritableQcow2Disk, from: number, to: number): Promise<boolean> {
  const { clusterSize, subclusterSize } = disk.image.geometry
  const place = await disk.writer.entryOf(from)
  const { view } = place.page
  const upper = view.getUint32(place.at)
  if ((upper & entry.compressed) !== 0) return false
  const first = (from % clusterSize) / subclusterSize
  // Less than a whole cluster: the shift stays below 32.
  const bits = ((2 ** Math.ceil((to - from) / subclusterSize) - 1) << first) >>> 0
  const zeros = view.getUint32(place.at + 8)
  const allocated = view.getUint32(place.at + 12)
  view.setUint32(place.at + 8, (zeros | bits) >>> 0)
  view.setUint32(place.at + 12, (allocated & ~bits) >>> 0)
  disk.writer.setEntry(place, upper, view.getUint32(place.at + 4))
  return true
}

/** Gives up the whole clusters of a range; they read as zeros then, where the format can say so over a backing file. Parts of clusters stay. */
export async function discardRange(
  disk: WritableQcow2Disk,
  offset: number,
  length: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { clusterSize } = disk.image.geometry
  const end = offset + length
  if (disk.image.header.version < 3 && disk.parent !== undefined) return
  // A cluster cut by the disk's end is a whole one.
  const last = end === disk.size ? roundUp(end, clusterSize) : roundDown(end, clusterSize)
  const first = roundUp(offset, clusterSize)
  if (first >= last) return
  if (hasRawDataFile(disk.image)) {
    await (disk.image.data as ByteStore).zero(first, Math.min(last, disk.size) - first, 'unmap', signal)
  }
  await discardClusters(disk, first, last, signal)
}

async function discardClusters(
  disk: WritableQcow2Disk,
  from: number,
  to: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const { clusterSize } = disk.image.geometry
  for (let at = from; at < to; ) {
    throwIfCancelled(signal, disk.name)
    const found = disk.map.resolve(at, to - at)
    const run = found instanceof Promise ? await found : found
    const whole = Math.max(clusterSize, roundDown(run.length, clusterSize))
    const isSo = run.host < 0 && run.length >= clusterSize && (run.kind === 'zero' || disk.parent === undefined)
    if (!isSo) for (let guest = at; guest < at + whole; guest += clusterSize) await discardCluster(disk, guest)
    at += whole
  }
}

async function discardCluster(disk: WritableQcow2Disk, guest: number): Promise<void> {
  const { writer } = disk
  const { geometry, header } = disk.image
  const place = await writer.entryOf(guest)
  const { view } = place.page
  const upper = view.getUint32(place.at)
  const lower = view.getUint32(place.at + 4)
  if (!isAllocated(disk, upper, lower) && disk.parent === undefined) return
  writer.setEntry(place, 0, header.version >= 3 && !geometry.extended ? entry.zero : 0)
  if (geometry.extended) {
    view.setUint32(place.at + 8, 0xffff_ffff)
    view.setUint32(place.at + 12, 0)
  }
  writer.freeEntry(upper, lower)
}

/** Makes whole clusters unallocated again, so that nothing of them is left: for disks that shrink. */
export async function dropClusters(disk: WritableQcow2Disk, from: number, to: number): Promise<void> {
  const { writer } = disk
  const { clusterSize, extended } = disk.image.geometry
  for (let at = from; at < to; ) {
    const found = disk.map.resolve(at, to - at)
    const run = found instanceof Promise ? await found : found
    const whole = Math.max(clusterSize, Math.floor(run.length / clusterSize) * clusterSize)
    if (run.kind !== 'unallocated' || run.host >= 0 || extended) {
      for (let cluster = at; cluster < Math.min(to, at + whole); cluster += clusterSize) {
        const place = await writer.entryOf(cluster)
        const { view } = place.page
        const upper = view.getUint32(place.at)
        const lower = view.getUint32(place.at + 4)
        writer.setEntry(place, 0, 0)
        if (extended) {
          view.setUint32(place.at + 8, 0)
          view.setUint32(place.at + 12, 0)
        }
        writer.freeEntry(upper, lower)
      }
    }
    at += whole
  }
}
