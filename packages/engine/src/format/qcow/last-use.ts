/** How far a qcow image reaches on a device, which does not tell by its length. */
import { viewOf } from '../../bytes/integers.ts'
import { placeOf, type TableKind } from '../entry-tables.ts'
import type { QcowImage } from './disk.ts'
import { packedFlag } from './layout.ts'

/** Byte offset behind everything that the tables point at. All of them are read. */
export async function lastUse({ header, geometry, tables }: QcowImage): Promise<number> {
  const { clusterSize, l1Entries, l2Entries, l2Bytes } = geometry
  async function* pagesOf(kind: TableKind, table: number, entries: number): AsyncIterable<DataView> {
    for (let index = 0; index < entries; ) {
      const { page, bytes } = placeOf(kind, table, entries, index)
      yield viewOf(await tables.read(page, bytes))
      index += bytes / 8
    }
  }
  let end = header.l1Offset + l1Entries * 8
  for await (const l1 of pagesOf('l1', header.l1Offset, l1Entries)) {
    for (let at = 0; at < l1.byteLength; at += 8) {
      const table = l1.getUint32(at) * 2 ** 32 + l1.getUint32(at + 4)
      if (table === 0) continue
      end = Math.max(end, table + l2Bytes)
      for await (const l2 of pagesOf('l2', table, l2Entries)) end = Math.max(end, lastIn(l2))
    }
  }
  return end

  function lastIn(l2: DataView): number {
    let last = 0
    for (let at = 0; at < l2.byteLength; at += 8) {
      const upper = l2.getUint32(at)
      // A packed cluster is shorter than a plain one, and has its length in the bits above its place.
      const high = upper >= packedFlag ? upper & (2 ** (31 - header.clusterBits) - 1) : upper
      last = Math.max(last, high * 2 ** 32 + l2.getUint32(at + 4) + clusterSize)
    }
    return last
  }
}
