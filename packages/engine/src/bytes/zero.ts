/** Finding zeros: what conversions, writers and comparisons ask of every buffer. Pure, and as fast as memory allows
 *  (32-bit words, sixteen to a step; 64-bit BigInt words are boxed wherever the compiler does not see through them, half as fast on real disks). */

/** Whether every byte of `bytes[start, end)` is zero. An empty range is. */
export function isZero(bytes: Uint8Array, start = 0, end: number = bytes.length): boolean {
  // A first look at both ends settles most data without setting up a word view.
  if (start < end && (bytes[start] !== 0 || bytes[end - 1] !== 0)) return false
  if (end - start < 64) return bytesAreZero(bytes, start, end)
  const misaligned = (bytes.byteOffset + start) & 3
  const head = misaligned === 0 ? start : start + 4 - misaligned
  const count = (end - head) >>> 2
  const words = new Int32Array(bytes.buffer, bytes.byteOffset + head, count)
  return bytesAreZero(bytes, start, head) && wordsAreZero(words, 0, count) && bytesAreZero(bytes, head + count * 4, end)
}

/** Calls `each` with the place of every number that is not zero (minus zero is). Runs of zeros cost little even in a program that has just started, whose loops are slow. */
export function eachNonZero(numbers: Float64Array, each: (at: number) => void): void {
  for (let from = 0; from < numbers.length; from += atOnce) {
    const some = numbers.subarray(from, from + atOnce)
    if (Reflect.apply(Math.max, undefined, some) === 0 && Reflect.apply(Math.min, undefined, some) === 0) continue
    for (let at = 0; at < some.length; at++) if (some[at] !== 0) each(from + at)
  }
}

/** Numbers that are looked at in one call. */
const atOnce = 256

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
  const aligned = ((bytes.byteOffset + start) & 3) === 0 && (sectorBytes & 3) === 0
  const words = aligned ? new Int32Array(bytes.buffer, bytes.byteOffset + start, (end - start) >>> 2) : undefined
  const sectorIsZero = (at: number): boolean => {
    const stop = Math.min(at + sectorBytes, end)
    if (words === undefined) return isZero(bytes, at, stop)
    const lastWord = (stop - start) >>> 2
    return wordsAreZero(words, (at - start) >>> 2, lastWord) && bytesAreZero(bytes, start + lastWord * 4, stop)
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

function wordsAreZero(words: Int32Array, start: number, end: number): boolean {
  let i = start
  for (; i + 16 <= end; i += 16) {
    const a = word(words, i) | word(words, i + 1) | word(words, i + 2) | word(words, i + 3)
    const b = word(words, i + 4) | word(words, i + 5) | word(words, i + 6) | word(words, i + 7)
    const c = word(words, i + 8) | word(words, i + 9) | word(words, i + 10) | word(words, i + 11)
    const d = word(words, i + 12) | word(words, i + 13) | word(words, i + 14) | word(words, i + 15)
    if ((a | b | c | d) !== 0) return false
  }
  for (; i < end; i++) if (words[i] !== 0) return false
  return true
}

/** `noUncheckedIndexedAccess` without a branch: the callers stay inside the view. */
function word(words: Int32Array, index: number): number {
  return words[index] as number
}
