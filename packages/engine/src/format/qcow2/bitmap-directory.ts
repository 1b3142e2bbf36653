/** The directory of persistent dirty bitmaps. Source: qcow2.txt, "Bitmaps". */

import { roundUp, setU64be, u64be, viewOf } from '../../bytes/integers.ts'
import { decodeName, encodeName } from '../../bytes/name-text.ts'
import { MoraineError, readPadded } from '../../core/index.ts'
import type { Qcow2Image } from './image.ts'
import { autoclear, bounds } from './layout.ts'

/** Flags of a directory entry. */
export const bitmapFlag = { inUse: 1, auto: 2, extraCompatible: 4 } as const

/** One bitmap, as its directory entry says. */
export interface BitmapEntry {
  name: string
  /** 1: dirty tracking bitmap. */
  type: number
  /** One bit covers 2^this bytes. */
  granularityBits: number
  flags: number
  tableOffset: number
  /** Entries of 8 bytes. */
  tableSize: number
  extra: Uint8Array
}

const fixedBytes = 24

/** Reads the directory, or gives an empty list when there is none or nobody vouches for it (autoclear bit 0 clear).
 *  @throws MoraineError `invalid` when an entry breaks the format's rules, or QEMU's: it opens no image with extra data, unknown flags, or two
 *  bitmaps of one name. */
export async function readBitmapDirectory(image: Pick<Qcow2Image, 'file' | 'header' | 'size'>): Promise<BitmapEntry[]> {
  const { header, file } = image
  const { bitmaps } = header
  if (bitmaps === undefined || (header.autoclearFeatures & autoclear.bitmaps) === 0n) return []
  const there = Math.max(0, Math.min(bitmaps.directorySize, file.size - bitmaps.directoryOffset))
  const bad = (at: number, field: string) =>
    new MoraineError('invalid', 'Could not read the bitmap directory: an entry is broken', {
      path: file.name,
      format: 'qcow2',
      field: `bitmap directory: ${field}`,
      offset: bitmaps.directoryOffset + at,
    })
  // The file may end inside the last cluster, not before it.
  if (bitmaps.directorySize - there > 2 ** header.clusterBits) throw bad(there, 'size')
  const bytes = new Uint8Array(bitmaps.directorySize)
  await readPadded(file, bitmaps.directoryOffset, bytes)
  const view = viewOf(bytes)
  const list: BitmapEntry[] = []
  const names = new Set<string>()
  for (let at = 0; at < bytes.length; ) {
    if (at + fixedBytes > bytes.length || list.length === bitmaps.count) throw bad(at, 'count')
    const nameLength = view.getUint16(at + 18)
    const extraLength = view.getUint32(at + 20)
    const end = at + fixedBytes + extraLength + nameLength
    const granularityBits = view.getUint8(at + 17)
    if (end > bytes.length || nameLength === 0 || nameLength > 1023) throw bad(at, 'name_size')
    if (granularityBits < 9 || granularityBits > 31) throw bad(at, 'granularity_bits')
    const tableOffset = u64be(view, at)
    if (tableOffset % 2 ** header.clusterBits !== 0 || tableOffset === 0) throw bad(at, 'bitmap_table_offset')
    const flags = view.getUint32(at + 12)
    const tableSize = view.getUint32(at + 8)
    const type = view.getUint8(at + 16)
    if (type !== 1) throw bad(at, 'type')
    if ((flags & ~(bitmapFlag.inUse | bitmapFlag.auto)) !== 0) throw bad(at, 'flags')
    if (extraLength !== 0) throw bad(at, 'extra_data_size')
    const bitBytes = tableSize * 2 ** header.clusterBits
    const covers = bitBytes * 8 * 2 ** granularityBits >= image.size
    if (tableSize === 0 || bitBytes > bounds.bitmapBytes || (!covers && (flags & bitmapFlag.inUse) === 0)) {
      throw bad(at, 'bitmap_table_size')
    }
    const name = decodeName(bytes.subarray(end - nameLength, end))
    if (names.has(name)) throw bad(at, 'name')
    names.add(name)
    list.push({ name, type, granularityBits, flags, tableOffset, tableSize, extra: new Uint8Array() })
    at = roundUp(end, 8)
  }
  if (list.length !== bitmaps.count) throw bad(bytes.length, 'count')
  if (bitmaps.directorySize > bounds.bitmapDirectoryBytes) throw bad(0, 'size')
  return list
}

/** Encodes a directory. */
export function encodeBitmapDirectory(list: readonly BitmapEntry[]): Uint8Array {
  const names = list.map(({ name }) => encodeName(name))
  const lengths = list.map(({ extra }, index) => roundUp(fixedBytes + extra.length + (names[index]?.length ?? 0), 8))
  const bytes = new Uint8Array(lengths.reduce((sum, length) => sum + length, 0))
  const view = viewOf(bytes)
  let at = 0
  list.forEach((bitmap, index) => {
    const name = names[index] ?? new Uint8Array()
    setU64be(view, at, bitmap.tableOffset)
    view.setUint32(at + 8, bitmap.tableSize)
    view.setUint32(at + 12, bitmap.flags)
    view.setUint8(at + 16, bitmap.type)
    view.setUint8(at + 17, bitmap.granularityBits)
    view.setUint16(at + 18, name.length)
    view.setUint32(at + 20, bitmap.extra.length)
    bytes.set(bitmap.extra, at + fixedBytes)
    bytes.set(name, at + fixedBytes + bitmap.extra.length)
    at += lengths[index] ?? 0
  })
  return bytes
}
