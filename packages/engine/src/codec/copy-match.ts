/** Copying what was decoded before: the innermost work of both decoders. */

/** Copies to `output[at, end)` from `distance` bytes before (1 to `at`), front to back, so that a short distance repeats itself.
 *  `view` is over the same bytes. It may also overwrite up to 7 bytes behind `end`, within the output: those are yet to be decoded. */
export function copyMatch(output: Uint8Array, view: DataView, at: number, distance: number, end: number): void {
  let from = at - distance
  if (end - at > 32) {
    // The call costs about as much as 30 bytes; zero runs come this way.
    if (distance === 1) {
      output.fill(output[from] as number, at, end)
      return
    }
    if (distance >= end - at) {
      output.copyWithin(at, from, from + end - at)
      return
    }
  }
  let to = at
  if (distance >= 4 && end + 8 <= output.length) {
    do {
      view.setInt32(to, view.getInt32(from, true), true)
      view.setInt32(to + 4, view.getInt32(from + 4, true), true)
      to += 8
      from += 8
    } while (to < end)
    return
  }
  while (to < end) output[to++] = output[from++] as number
}
