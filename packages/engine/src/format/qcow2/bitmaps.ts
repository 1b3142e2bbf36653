/** The persistent dirty bitmaps of an image, for reading. */
import { divideUp, viewOf } from '../../bytes/integers.ts'
import { type BitmapInfo, type Bitmaps, type DirtyRange, readPadded, throwIfCancelled } from '../../core/index.ts'
import { eachRun, readBitmapPart } from './bitmap-bits.ts'
import { type BitmapEntry, bitmapFlag } from './bitmap-directory.ts'
import { fault, type Qcow2Image } from './image.ts'

/** Bytes of a bitmap's table that are read at once. */
const tableBytes = 65_536

/** Ranges in one batch. */
const batchSize = 1024

/** The bitmaps that somebody vouches for. */
export class Qcow2Bitmaps implements Bitmaps {
  protected readonly image: Qcow2Image

  constructor(image: Qcow2Image) {
    this.image = image
  }

  get size(): number {
    return this.image.size
  }

  list(): readonly BitmapInfo[] {
    return this.image.bitmapList.map(({ name, granularityBits, flags }) => ({
      name,
      granularity: 2 ** granularityBits,
      enabled: (flags & bitmapFlag.auto) !== 0,
      inconsistent: (flags & bitmapFlag.inUse) !== 0,
    }))
  }

  async *ranges(name: string, signal?: AbortSignal): AsyncIterable<DirtyRange[]> {
    const bitmap = this.image.bitmapList.find((other) => other.name === name)
    if (bitmap === undefined) throw fault(this.image, 'missing', `Dirty bitmap '${name}' not found`, 'bitmap')
    if ((bitmap.flags & bitmapFlag.inUse) !== 0) {
      throw fault(this.image, 'invalid', `Bitmap '${name}' is inconsistent and cannot be used`, 'bitmap')
    }
    yield* readRanges(this.image, bitmap, signal)
  }
}

/** What a bitmap's bits say, a cluster of them in memory at a time. */
async function* readRanges(
  image: Qcow2Image,
  { name, granularityBits, tableOffset }: BitmapEntry,
  signal: AbortSignal | undefined,
): AsyncIterable<DirtyRange[]> {
  const { file, geometry, size } = image
  const granularity = 2 ** granularityBits
  const bits = divideUp(size, granularity)
  const bitsPerPart = geometry.clusterSize * 8
  const parts = divideUp(bits, bitsPerPart)
  const table = new Uint8Array(Math.min(tableBytes, parts * 8))
  const part = new Uint8Array(geometry.clusterSize)
  let batch: DirtyRange[] = []
  const found = (from: number, to: number): void => {
    const offset = from * granularity
    const end = Math.min(size, to * granularity)
    const last = batch[batch.length - 1]
    if (last !== undefined && last.offset + last.length === offset) last.length = end - last.offset
    else batch.push({ offset, length: end - offset })
  }
  for (let index = 0; index < parts; index++) {
    const inTable = (index * 8) % tableBytes
    if (inTable === 0) {
      throwIfCancelled(signal, file.name)
      await readPadded(file, tableOffset + index * 8, table.subarray(0, Math.min(tableBytes, (parts - index) * 8)))
    }
    const { offset, ones } = readBitmapPart(image, viewOf(table), inTable / 8, name)
    const first = index * bitsPerPart
    const count = Math.min(bitsPerPart, bits - first)
    if (offset > 0) {
      await readPadded(file, offset, part)
      eachRun(part, count, (from, to) => found(first + from, first + to))
    } else if (ones) found(first, first + count)
    if (batch.length <= batchSize) continue
    // The last range may go on.
    const last = batch.pop()
    yield batch
    batch = last === undefined ? [] : [last]
  }
  if (batch.length > 0) yield batch
}
