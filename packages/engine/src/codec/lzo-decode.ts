/** The beginning of what lzop packs: blocks of LZO1X, each by itself. No library of today's brings it (those in the registry are bindings that are compiled when they are installed), and no more than
 *  a look at kernels and ramdisks is wanted, so checksums are passed over. Facts: Linux, Documentation/staging/lzo.rst and lib/decompress_unlzo.c; lzop 1.04, `conf.h`. */
import { fields, stands } from '../bytes/header.ts'

const magic = '\x89LZO\0\r\n\x1a\n'
/** Flags of the header. */
const has = { adlerOfPlain: 1, adlerOfPacked: 2, extra: 0x40, crcOfPlain: 0x100, crcOfPacked: 0x200, filter: 0x800 }
const mostBlockBytes = 64 * 1024 * 1024

/** Unpacks until input or output end, or something is wrong.
 *  @returns how many bytes came, and whether the stream ended with them */
export function lzoDecodePart(input: Uint8Array, output: Uint8Array): { filled: number; ended: boolean } {
  const header = readHeader(input)
  let filled = 0
  if (header === undefined) return { filled, ended: false }
  for (let at = header.end; at + 4 <= input.length; ) {
    const [plain, packed] = [fields(input, at, 4).getUint32(0), fields(input, at + 4, 4).getUint32(0)]
    if (plain === 0) return { filled, ended: true }
    if (packed === 0 || packed > plain || plain > mostBlockBytes) break
    const isStored = packed === plain
    const begin = at + 8 + 4 * (header.sumsOfPlain + (isStored ? 0 : header.sumsOfPacked))
    const block = input.subarray(begin, begin + packed)
    const room = output.subarray(filled, filled + plain)
    const got = isStored ? copied(block, room) : unpackBlock(block, room)
    filled += got
    if (got < plain || block.length < packed) break
    at = begin + packed
  }
  return { filled, ended: false }
}

function copied(from: Uint8Array, to: Uint8Array): number {
  const part = from.subarray(0, to.length)
  to.set(part)
  return part.length
}

const count = (...flags: boolean[]): number => flags.filter((flag) => flag).length

function readHeader(input: Uint8Array): { end: number; sumsOfPlain: number; sumsOfPacked: number } | undefined {
  if (!stands(input, magic)) return undefined
  const version = fields(input, 9, 2).getUint16(0)
  // Of old the version that is needed to unpack, the level and the upper half of the time were not there.
  const isNew = version >= 0x0940
  const flagsAt = isNew ? 17 : 14
  const flags = fields(input, flagsAt, 4).getUint32(0)
  let at = flagsAt + 4 + ((flags & has.filter) === 0 ? 0 : 4) + (isNew ? 12 : 8)
  const nameBytes = input[at]
  if (nameBytes === undefined) return undefined
  at += 1 + nameBytes + 4
  if ((flags & has.extra) !== 0) at += 8 + fields(input, at, 4).getUint32(0)
  return {
    end: at,
    sumsOfPlain: count((flags & has.adlerOfPlain) !== 0, (flags & has.crcOfPlain) !== 0),
    sumsOfPacked: count((flags & has.adlerOfPacked) !== 0, (flags & has.crcOfPacked) !== 0),
  }
}

/** How a match is written: its length, how far back it lies, and how many bytes stand behind it as they are. */
interface Match {
  length: number
  distance: number
  literals: number
}

/** After a run of bytes that stand as they are, a short match means another one. */
const afterRun = 4

/** One block of LZO1X. */
class Block {
  readonly #input: Uint8Array
  #at = 0

  constructor(input: Uint8Array) {
    this.#input = input
  }

  /** The next byte; undefined at the end. */
  byte(): number | undefined {
    return this.#input[this.#at++]
  }

  take(length: number): Uint8Array {
    this.#at += length
    return this.#input.subarray(this.#at - length, this.#at)
  }

  /** A first instruction that stands for a run. */
  opening(): number {
    const first = this.#input[0] ?? 0
    if (first <= 17) return 0
    this.#at = 1
    return first - 17
  }

  /** A length whose bits are all zeros goes on in further bytes. */
  long(bits: number, most: number): number {
    if (bits !== 0) return bits
    let length = most
    for (let next = this.byte(); next !== undefined; next = this.byte()) {
      if (next !== 0) return length + next
      length += 255
    }
    return 0
  }

  /** The match that begins with this instruction; undefined at the end of the block, or of what is there of it. */
  match(first: number, state: number): Match | undefined {
    const low = first >= 16 && first < 64 ? this.long(first & (first >= 32 ? 31 : 7), first >= 32 ? 31 : 7) : 0
    const second = this.byte()
    if (second === undefined) return undefined
    if (first >= 64) {
      return { length: (first >> 5) + 1, distance: 1 + ((first >> 2) & 7) + (second << 3), literals: first & 3 }
    }
    if (first < 16) {
      const [length, beyond] = state === afterRun ? [3, 2049] : [2, 1]
      return { length, distance: beyond + (first >> 2) + (second << 2), literals: first & 3 }
    }
    const third = this.byte()
    if (third === undefined) return undefined
    const near = (second >> 2) + (third << 6)
    if (first >= 32) return { length: low + 2, distance: 1 + near, literals: second & 3 }
    const far = ((first & 8) << 11) + near
    return far === 0 ? undefined : { length: low + 2, distance: 0x4000 + far, literals: second & 3 }
  }
}

/** Unpacks a block; the bytes that came. */
function unpackBlock(input: Uint8Array, output: Uint8Array): number {
  const block = new Block(input)
  let filled = 0
  const literals = (length: number): void => {
    filled += copied(block.take(length), output.subarray(filled))
  }
  const opening = block.opening()
  literals(opening)
  let state = Math.min(opening, afterRun)
  while (filled < output.length) {
    const first = block.byte()
    if (first === undefined) break
    if (first < 16 && state === 0) {
      literals(block.long(first, 15) + 3)
      state = afterRun
      continue
    }
    const match = block.match(first, state)
    if (match === undefined || match.distance > filled) break
    const end = Math.min(filled + match.length, output.length)
    // Byte by byte: a match may reach into what it makes.
    for (; filled < end; filled++) output[filled] = output[filled - match.distance] as number
    literals(match.literals)
    state = match.literals
  }
  return filled
}
