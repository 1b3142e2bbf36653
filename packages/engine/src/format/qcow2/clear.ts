/** Zeroing and discarding: whole clusters by their entries, without touching data. Behaviour: QEMU 7.2's `zero_in_l2_slice` and `discard_in_l2_slice`. */

import type { ByteStore } from '../../core/index.ts'
import { throwIfCancelled } from '../../core/index.ts'
import { hasRawDataFile } from './image.ts'
import { entry } from './layout.ts'
import type { WritableQcow2Disk } from './writable-disk.ts'

/** `zero-unmap` gives clusters up, `zero-keep` keeps those that are there, `discard` reads as zeros where the format can say so. */
export type ClearMode = 'zero-unmap' | 'zero-keep' | 'discard'

/** Clears the whole clusters (subclusters, with extended entries) of a range. Returns the parts at its edges that are none. */
export async function clearRange(
  disk: WritableQcow2Disk,
  offset: number,
  length: number,
  how: ClearMode,
  signal: AbortSignal | undefined,
): Promise<{ offset: number; length: number }[]> {
  const { geometry, header } = disk.image
  const end = offset + length
  const { clusterSize } = geometry
  // A cluster cut by the disk's end is a whole one.
  const wholeEnd = end === disk.size ? Math.ceil(end / clusterSize) * clusterSize : end
  const first = Math.ceil(offset / clusterSize) * clusterSize
  const last = Math.floor(wholeEnd / clusterSize) * clusterSize
  const everything = { offset, length }
  // Version 2 has no zero flag: only what nothing lies under can be unmapped.
  if (header.version < 3 && (how === 'zero-keep' || disk.parent !== undefined))
    return how === 'discard' ? [] : [everything]
  if (first >= last) return [everything]
  if (hasRawDataFile(disk.image))
    await (disk.image.data as ByteStore).zero(
      first,
      Math.min(last, disk.size) - first,
      how === 'zero-keep' ? 'allocate' : 'unmap',
    )
  for (let at = first; at < last; ) {
    throwIfCancelled(signal, disk.name)
    const found = disk.map.resolve(at, last - at)
    const run = found instanceof Promise ? await found : found
    const whole = Math.max(clusterSize, Math.floor(run.length / clusterSize) * clusterSize)
    const nothingToDo =
      !geometry.extended &&
      ((run.kind === 'unallocated' && (how === 'discard' || header.version < 3) && disk.parent === undefined) ||
        (run.kind === 'zero' && run.host < 0))
    if (!nothingToDo)
      for (let cluster = at; cluster < at + whole; cluster += clusterSize) await clearCluster(disk, cluster, how)
    at += whole
  }
  const rest: { offset: number; length: number }[] = []
  if (first > offset) rest.push({ offset, length: first - offset })
  if (end > last) rest.push({ offset: last, length: end - last })
  return rest
}

/** Clears one cluster by its entry alone. */
export async function clearCluster(disk: WritableQcow2Disk, guest: number, how: ClearMode): Promise<void> {
  const { writer } = disk
  const { geometry, header } = disk.image
  const place = await writer.entryOf(guest)
  const { view } = place.page
  const upper = view.getUint32(place.at)
  const lower = view.getUint32(place.at + 4)
  const packed = (upper & entry.compressed) !== 0
  const owned = !packed && upper >= entry.copied
  const keep = (how === 'zero-keep' && owned) || (hasRawDataFile(disk.image) && owned)
  const zeroFlag = header.version >= 3 && !geometry.extended ? entry.zero : 0
  if (keep) writer.setEntry(place, upper, (lower & ~entry.zero) | zeroFlag)
  else writer.setEntry(place, 0, zeroFlag)
  if (geometry.extended) {
    view.setUint32(place.at + 8, 0xffff_ffff)
    view.setUint32(place.at + 12, 0)
  }
  if (!keep) writer.freeEntry(upper, lower)
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
