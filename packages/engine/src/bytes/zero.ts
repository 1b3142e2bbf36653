/** Finding zeros: what conversions, writers and comparisons ask of every buffer. Pure, and as fast as memory allows
 *  (64-bit words, several to a step; BigInt words compile to machine words here). */

/** Whether every byte of `bytes[start, end)` is zero. An empty range is. */
export function isZero(bytes: Uint8Array, start = 0, end: number = bytes.length): boolean {
  // A first look at both ends settles most data without setting up a word view.
  if (start < end && (bytes[start] !== 0 || bytes[end - 1] !== 0)) return false
  if (end - start < 64) return bytesAreZero(bytes, start, end)
  const misaligned = (bytes.byteOffset + start) & 7
  const head = misaligned === 0 ? start : start + 8 - misaligned
  const count = (end - head) >>> 3
  const words = new BigUint64Array(bytes.buffer, bytes.byteOffset + head, count)
  return bytesAreZero(bytes, start, head) && wordsAreZero(words, 0, count) && bytesAreZero(bytes, head + count * 8, end)
}

/** How many bytes from `start` on are alike, in whole sectors counted from `start`: all zero, or none of them all zero.
 *  `sectorBytes` is 1 or more; the last sector may be cut by `end`. `length` is 0 only when the range is empty. */
export function allocatedRun(
  bytes: Uint8Array,
  start: number,
  end: number,
  sectorBytes: number,
): { zero: boolean; length: number } {
  if (start >= end) return { zero: true, length: 0 }
  // Aligned sectors share one word view; making one for each sector would cost as much as looking at it.
  const aligned = ((bytes.byteOffset + start) & 7) === 0 && (sectorBytes & 7) === 0
  const words = aligned ? new BigUint64Array(bytes.buffer, bytes.byteOffset + start, (end - start) >>> 3) : undefined
  const sectorIsZero = (at: number): boolean => {
    const stop = Math.min(at + sectorBytes, end)
    if (words === undefined) return isZero(bytes, at, stop)
    const lastWord = (stop - start) >>> 3
    return wordsAreZero(words, (at - start) >>> 3, lastWord) && bytesAreZero(bytes, start + lastWord * 8, stop)
  }
  const zero = sectorIsZero(start)
  let at = Math.min(start + sectorBytes, end)
  while (at < end && sectorIsZero(at) === zero) at = Math.min(at + sectorBytes, end)
  return { zero, length: at - start }
}

function bytesAreZero(bytes: Uint8Array, start: number, end: number): boolean {
  for (let i = start; i < end; i++) if (bytes[i] !== 0) return false
  return true
}

function wordsAreZero(words: BigUint64Array, start: number, end: number): boolean {
  let i = start
  for (; i + 4 <= end; i += 4) {
    const four = word(words, i) | word(words, i + 1) | word(words, i + 2) | word(words, i + 3)
    if (four !== 0n) return false
  }
  for (; i < end; i++) if (words[i] !== 0n) return false
  return true
}

/** `noUncheckedIndexedAccess` without a branch: the callers stay inside the view. */
function word(words: BigUint64Array, index: number): bigint {
  return words[index] as bigint
}
