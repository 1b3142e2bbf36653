/** LZVN, the packing of small and fast LZFSE blocks (`bvxn`): whole bytes that say how many literals follow, and how long and how far back a match is.
 *  Facts: the format as Apple's reference implementation (lzfse, version 1.0) defines it. */
import { copyMatch } from './copy-match.ts'
import { corruptLzfse } from './lzfse-workspace.ts'

/** Decodes the instructions in `input[at, end)`, which give `size` bytes, to `output[start]` and on, as far as it goes. Matches may reach back over everything
 *  before `start`. Returns where the output ends. @throws MoraineError `corrupt`. */
export function decodeLzvn(
  input: Uint8Array,
  at: number,
  end: number,
  size: number,
  output: Uint8Array,
  outputView: DataView,
  start: number,
): number {
  const stop = start + size
  let from = at
  let to = start
  let distance = 0
  while (from < end) {
    const code = input[from] as number
    let run = 0
    let match = 0
    // What follows the code besides literals. Behind the end of the input there are zeros: the length is checked below.
    const first = input[from + 1] ?? 0
    const second = input[from + 2] ?? 0
    if (code >= 0xf0) {
      // 1111mmmm, and 11110000 mmmmmmmm for matches of 16 bytes and more, as far back as the match before.
      match = code === 0xf0 ? first + 16 : code & 15
      from += code === 0xf0 ? 2 : 1
    } else if (code >= 0xe0) {
      // 1110llll, and 11100000 llllllll for 16 literals and more.
      run = code === 0xe0 ? first + 16 : code & 15
      from += code === 0xe0 ? 2 : 1
    } else if (code >= 0xa0 && code < 0xc0) {
      // 101llmmm ddddddmm dddddddd
      run = (code >> 3) & 3
      match = (((code & 7) << 2) | (first & 3)) + 3
      distance = (first >> 2) | (second << 6)
      from += 3
    } else if ((code >= 0x70 && code < 0x80) || code >= 0xd0) {
      throw corruptLzfse('an unknown instruction', from)
    } else {
      run = code >> 6
      match = ((code >> 3) & 7) + 3
      const kind = code & 7
      if (kind === 7) {
        // llmmm111 dddddddd dddddddd
        distance = first | (second << 8)
        from += 3
      } else if (kind < 6) {
        // llmmmddd dddddddd
        distance = (kind << 8) | first
        from += 2
      } else if (run > 0) {
        // llmmm110, as far back as the match before. Without literals the code means something else.
        from += 1
      } else if (code === 0x06) {
        // The last instruction: eight bytes, and nothing behind it.
        if (from + 8 !== end) throw corruptLzfse('the last instruction is not the last', from)
        if (to !== stop) throw corruptLzfse('a block holds fewer bytes than it says', from)
        return to
      } else if (code === 0x0e || code === 0x16) {
        from += 1
        continue
      } else throw corruptLzfse('an unknown instruction', from)
    }
    if (from + run >= end) throw corruptLzfse('an instruction is cut', from)
    if (to + run + match > stop) throw corruptLzfse('a block holds more bytes than it says', from)
    const literalEnd = Math.min(to + run, output.length)
    if (run > 32) output.set(input.subarray(from, from + literalEnd - to), to)
    else for (let source = from; to < literalEnd; to++) output[to] = input[source++] as number
    to = literalEnd
    from += run
    if (match > 0) {
      if (distance === 0 || distance > to) throw corruptLzfse('a match points before the beginning', from)
      const matchEnd = Math.min(to + match, output.length)
      copyMatch(output, outputView, to, distance, matchEnd)
      to = matchEnd
    }
    // At the end of the output the block may go on; at its own end the last instruction must follow.
    if (to === output.length && to < stop) return to
  }
  throw corruptLzfse('the instructions do not end', end)
}
