/** Where two buffers differ. */

/** Index of the first byte that differs, or undefined. Both have the same length. */
export function firstDifference(a: Uint8Array, b: Uint8Array): number | undefined {
  let at = 0
  if (((a.byteOffset | b.byteOffset) & 7) === 0) {
    const count = a.length >>> 3
    const x = new BigUint64Array(a.buffer, a.byteOffset, count)
    const y = new BigUint64Array(b.buffer, b.byteOffset, count)
    let i = 0
    while (i < count && x[i] === y[i]) i++
    at = i * 8
  }
  for (; at < a.length; at++) if (a[at] !== b[at]) return at
  return undefined
}

/** Index of the first byte that is not zero, or undefined. */
export function firstNonZero(bytes: Uint8Array): number | undefined {
  let at = 0
  if ((bytes.byteOffset & 7) === 0) {
    const words = new BigUint64Array(bytes.buffer, bytes.byteOffset, bytes.length >>> 3)
    let i = 0
    while (i < words.length && words[i] === 0n) i++
    at = i * 8
  }
  for (; at < bytes.length; at++) if (bytes[at] !== 0) return at
  return undefined
}
