/** Dirty ranges of two bitmaps as those of one. */
import type { DirtyRange } from '../../core/index.ts'

/** Ranges in one batch. */
const batchSize = 1024

/** What either side says is dirty, widened to whole granules of `2 ** granularityBits` bytes (the last cut at `size`), ascending and without overlap. Both sides ascend. */
export async function* joinRanges(
  a: AsyncIterable<DirtyRange[]>,
  b: AsyncIterable<DirtyRange[]>,
  granularityBits: number,
  size: number,
): AsyncIterable<DirtyRange[]> {
  const unit = 2 ** granularityBits
  const sides = [oneByOne(a), oneByOne(b)] as const
  const heads = [await sides[0].next(), await sides[1].next()]
  let batch: DirtyRange[] = []
  for (;;) {
    const [left, right] = heads
    const first = left?.done === true || (right?.done !== true && starts(right) < starts(left)) ? 1 : 0
    const head = heads[first]
    if (head === undefined || head.done === true) break
    const from = Math.floor(head.value.offset / unit) * unit
    const to = Math.min(size, Math.ceil((head.value.offset + head.value.length) / unit) * unit)
    const last = batch[batch.length - 1]
    if (last !== undefined && from <= last.offset + last.length) {
      last.length = Math.max(last.length, to - last.offset)
    } else {
      if (batch.length >= batchSize) {
        yield batch
        batch = []
      }
      batch.push({ offset: from, length: to - from })
    }
    heads[first] = await sides[first].next()
  }
  if (batch.length > 0) yield batch
}

function starts(head: IteratorResult<DirtyRange> | undefined): number {
  return head === undefined || head.done === true ? Number.POSITIVE_INFINITY : head.value.offset
}

async function* oneByOne(batches: AsyncIterable<DirtyRange[]>): AsyncGenerator<DirtyRange, undefined> {
  for await (const batch of batches) yield* batch
  return undefined
}
