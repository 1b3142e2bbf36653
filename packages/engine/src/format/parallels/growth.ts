/** Room for more clusters in a Parallels image. The table stands behind the header, and nowhere else: clusters in the way of a longer one move to the end of the file first. */
import { roundUp } from '../../bytes/integers.ts'
import { copyAside } from '../growth.ts'
import { tableOf } from './disk.ts'
import { encodeHeader, headerBytes, parallelsFault } from './layout.ts'
import type { WritableParallelsDisk } from './writable-disk.ts'

/** What growing needs of a disk that is being written: a new cluster at the end of the file, not before `least`, and the table in the file. */
export interface GrowthTools {
  take(least: number): Promise<number>
  writeBack(): Promise<void>
}

/** Makes the table one of `entries`. Nothing else may run meanwhile; the header says that the image is open.
 *  @throws MoraineError `corrupt` for a table that a check should see first. */
export async function growTable(disk: WritableParallelsDisk, entries: number, tools: GrowthTools): Promise<void> {
  const { image, store } = disk
  const { header } = image
  if (entries <= header.entries) return
  const tableEnd = headerBytes + entries * 4
  const dataOffset = Math.max(header.dataOffset, roundUp(tableEnd, header.entryUnit))
  const inTheWay = await clustersBefore(disk, dataOffset)
  for (const { cluster, host } of inTheWay) {
    const to = await tools.take(dataOffset)
    await copyAside(store, host, to, header.clusterSize)
    await image.table.set(cluster, to / header.entryUnit)
  }
  // The copies reach the disk, then what points at them.
  await tools.writeBack()
  const from = headerBytes + header.entries * 4
  if (store.kind !== 'device' && store.size < dataOffset) await store.resize(dataOffset)
  await store.zero(from, tableEnd - from, 'allocate')
  await store.flush()
  const before = { ...header }
  Object.assign(header, { entries, dataOffset })
  try {
    await store.write(0, encodeHeader(header).slice())
    await store.flush()
  } catch (error) {
    Object.assign(header, before)
    throw error
  }
  image.table = tableOf(image.file, header, image.context)
}

async function clustersBefore(
  { image, name }: WritableParallelsDisk,
  end: number,
): Promise<{ cluster: number; host: number }[]> {
  const { header } = image
  const found: { cluster: number; host: number }[] = []
  // No more of them have room there.
  const most = Math.ceil(end / header.clusterSize)
  for await (const { first, entries } of image.table.all()) {
    for (let i = 0; i < entries.length; i++) {
      const host = (entries[i] as number) * header.entryUnit
      if (host === 0 || host >= end) continue
      found.push({ cluster: first + i, host })
      if (host >= headerBytes + header.entries * 4 && found.length <= most) continue
      throw parallelsFault(name, 'corrupt', `cluster ${first + i} lies over the table or another cluster`, {
        field: 'BAT entry',
        value: entries[i] as number,
        hint: 'check says what is wrong with it',
      })
    }
  }
  return found
}
