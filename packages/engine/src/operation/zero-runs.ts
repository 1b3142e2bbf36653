/** Which parts of a buffer are written and which are left as zeros: the decision of `qemu-img convert -S`, sector by sector.
 *  Facts: QEMU 7.2, writes traced. */
import { allocatedRun, isZero } from '../bytes/zero.ts'

const sector = 512

/** A stretch of a buffer, in bytes from its start. */
export interface ZeroRun {
  data: boolean
  start: number
  length: number
}

/** Cuts `bytes`, which belong at guest `offset`, into runs to write and runs of zeros.
 *  @param sparse least bytes of zeros that break a write (-S), a multiple of 512 and more than 0; both ends of runs are moved to multiples of
 *  the next lower power of two, so that the following write begins aligned. */
export function zeroRuns(bytes: Uint8Array, offset: number, sparse: number): ZeroRun[] {
  const alignment = 2 ** Math.floor(Math.log2(sparse / sector)) * sector
  if (alignment === sparse && offset % sparse === 0) return zeroBlocks(bytes, sparse)
  const runs: ZeroRun[] = []
  let at = 0
  while (at < bytes.length) {
    const run = nextRun(bytes, at, offset, sparse, alignment)
    runs.push(run)
    at = run.start + run.length
  }
  return runs
}

/** The same for the common case, in which runs begin and end at multiples of `block`: a block is left out when it is zeros throughout. */
function zeroBlocks(bytes: Uint8Array, block: number): ZeroRun[] {
  const runs: ZeroRun[] = []
  let last: ZeroRun | undefined
  for (let start = 0; start < bytes.length; start += block) {
    const end = Math.min(start + block, bytes.length)
    const data = bytes[start] !== 0 || !isZero(bytes, start, end)
    if (last?.data === data) last.length += end - start
    else {
      last = { data, start, length: end - start }
      runs.push(last)
    }
  }
  return runs
}

/** A run of data swallows stretches of zeros shorter than `sparse`, but not ones at its end. */
function nextRun(bytes: Uint8Array, start: number, offset: number, sparse: number, alignment: number): ZeroRun {
  const least = Math.min(sparse, bytes.length - start)
  const first = alignedRun(bytes, start, offset, alignment)
  if (!first.data) return first
  let used = first.length
  let at = start + first.length
  while (at < bytes.length) {
    const run = alignedRun(bytes, at, offset, alignment)
    at += run.length
    if (run.data) used = at - start
    else if (run.length >= least) break
  }
  return { data: true, start, length: used }
}

/** The sectors from `start` that are alike, with the end moved to the alignment: up after data, down after zeros. */
function alignedRun(bytes: Uint8Array, start: number, offset: number, alignment: number): ZeroRun {
  const { zero, length } = allocatedRun(bytes, start, bytes.length, sector)
  if (start + length === bytes.length) return { data: !zero, start, length }
  const tail = (offset + start + length) % alignment
  if (tail === 0) return { data: !zero, start, length }
  if (zero && length > tail) return { data: false, start, length: length - tail }
  return { data: true, start, length: Math.min(length + alignment - tail, bytes.length - start) }
}
