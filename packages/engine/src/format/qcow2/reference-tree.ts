/** Everything an L1 table refers to, as a whole: counts go up or down together when snapshots come and go, and COPIED flags follow. */
import { isMoraineError } from '../../core/index.ts'
import { fault, hasDataFile, type L1Table } from './image.ts'
import { entry, hexOf, readPackedSpan } from './layout.ts'
import type { HostRange } from './refcounts.ts'
import type { Qcow2Writer } from './writer.ts'

/** Adds `change` (−1, 0 or 1) to the count of every L2 table and cluster that `l1` refers to, and sets each COPIED flag in the tables (and in `l1`, in
 *  memory) to whether the count is now exactly one. With −1 the flags are left alone: the tables are on their way out. When a count
 *  cannot go up, all of them are again what they were.
 *  @throws MoraineError `limit` when a count would leave its width, `corrupt`. */
export async function countTree(writer: Qcow2Writer, l1: L1Table, change: -1 | 0 | 1): Promise<void> {
  const done = { references: 0 }
  const freed: HostRange[] = []
  try {
    await walkTree(writer, l1, change, freed, done)
  } catch (error) {
    if (change === 1 && isMoraineError(error, 'limit')) {
      // The same references in the same order, as far as they were counted; then the flags follow the counts.
      await walkTree(writer, l1, -1, freed, { references: 0, most: done.references })
      await walkTree(writer, l1, 0, freed, { references: 0 })
    }
    throw error
  }
  await writer.giveBack(freed)
}

/** How many references a walk has counted, and after how many it shall end. */
interface Progress {
  references: number
  most?: number
}

async function walkTree(
  writer: Qcow2Writer,
  l1: L1Table,
  change: -1 | 0 | 1,
  freed: HostRange[],
  progress: Progress,
): Promise<void> {
  const { image, refcounts } = writer
  const { clusterSize, pageSize } = image.geometry
  for (let index = 0; index < l1.size; index++) {
    const table = l1.l2Offset(index)
    if (table === 0) continue
    if (table % clusterSize !== 0) {
      throw fault(image, 'corrupt', `L2 table offset ${hexOf(table)} unaligned (L1 index: ${hexOf(index)})`, 'L1 entry')
    }
    for (let at = 0; at < clusterSize; at += pageSize) {
      if (image.cache.crowded) await writer.writeBack()
      if (change !== 0) await countPage(writer, table + at, change, freed, progress)
      if (progress.references === progress.most) return
      if (change >= 0) await flagPage(writer, table + at)
    }
    if (change !== 0) await addTo(writer, table, clusterSize, change, freed, progress)
    if (progress.references === progress.most) return
    if (change >= 0) {
      const count = await refcounts.get(table / clusterSize)
      const upper = l1.view.getUint32(index * 8)
      const flagged = (count === 1 ? upper | entry.copied : upper & ~entry.copied) >>> 0
      if (flagged !== upper) {
        l1.view.setUint32(index * 8, flagged)
        if (l1 === image.l1) writer.touchL1(index)
      }
    }
  }
}

/** Adds to the counts of what one page of entries refers to; neighbours go together. */
async function countPage(
  writer: Qcow2Writer,
  pageOffset: number,
  change: -1 | 1,
  freed: HostRange[],
  progress: Progress,
): Promise<void> {
  const { image } = writer
  const { clusterSize, l2EntrySize, clusterBits } = image.geometry
  const dataFile = hasDataFile(image)
  const ranges: { offset: number; length: number }[] = []
  const { view, bytes } = await image.cache.load(pageOffset, 'l2')
  for (let at = 0; at < bytes.length; at += l2EntrySize) {
    const upper = view.getUint32(at)
    const lower = view.getUint32(at + 4)
    if (upper === 0 && lower === 0) continue
    if ((upper & entry.compressed) !== 0) {
      ranges.push(readPackedSpan(upper, lower, clusterBits))
      continue
    }
    const offset = (upper & entry.offsetHigh) * 0x1_0000_0000 + ((lower & entry.offsetLow) >>> 0)
    if (offset === 0 || dataFile) continue
    if (offset % clusterSize !== 0) {
      throw fault(image, 'corrupt', 'a cluster offset is unaligned', 'L2 entry', { offset: pageOffset + at })
    }
    const last = ranges[ranges.length - 1]
    if (last !== undefined && last.offset + last.length === offset && last.offset % clusterSize === 0)
      last.length += clusterSize
    else ranges.push({ offset, length: clusterSize })
  }
  for (const { offset, length } of ranges) {
    if (progress.references === progress.most) return
    await addTo(writer, offset, length, change, freed, progress)
  }
}

async function addTo(
  writer: Qcow2Writer,
  offset: number,
  length: number,
  change: -1 | 1,
  freed: HostRange[],
  progress: Progress,
): Promise<void> {
  // A refcount block may have to be made on the way; then the range is counted again from the start.
  while (!(await writer.refcounts.update(offset, length, change, freed)));
  progress.references++
}

/** Sets the COPIED flags of one page by the counts. */
async function flagPage(writer: Qcow2Writer, pageOffset: number): Promise<void> {
  const { image, refcounts } = writer
  const { clusterSize, l2EntrySize } = image.geometry
  if (hasDataFile(image)) return
  const page = await image.cache.load(pageOffset, 'l2')
  const { view, bytes } = page
  for (let at = 0; at < bytes.length; at += l2EntrySize) {
    const upper = view.getUint32(at)
    const lower = view.getUint32(at + 4)
    if ((upper & entry.compressed) !== 0) continue
    const offset = (upper & entry.offsetHigh) * 0x1_0000_0000 + ((lower & entry.offsetLow) >>> 0)
    if (offset === 0) continue
    const found = refcounts.get(offset / clusterSize)
    const count = found instanceof Promise ? await found : found
    const flagged = (count === 1 ? upper | entry.copied : upper & ~entry.copied) >>> 0
    if (flagged !== upper) {
      view.setUint32(at, flagged)
      image.cache.touch(page)
    }
  }
}
