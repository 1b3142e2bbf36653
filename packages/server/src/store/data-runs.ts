/** Finds what of a piece of data is worth a place on the disk. */

/** Runs of zeros of this many bytes, aligned, become holes. */
export const holeBytes = 64 * 1024

const zeros = Buffer.alloc(holeBytes)

/** The parts of `bytes` that are not blocks of zeros, as pairs of start and end. */
export function* dataRuns(bytes: Uint8Array): Generator<[number, number]> {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let start = -1
  for (let at = 0; at < view.length; at += holeBytes) {
    const end = Math.min(at + holeBytes, view.length)
    const isZero = view[at] === 0 && view.compare(zeros, 0, end - at, at, end) === 0
    if (isZero && start >= 0) yield [start, at]
    if (isZero) start = -1
    else if (start < 0) start = at
  }
  if (start >= 0) yield [start, view.length]
}
