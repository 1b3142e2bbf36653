/** The outside of gzip: members, each with its checksum and size, one after the other. What is inside is another's to unpack. Facts: RFC 1952. */
import { ByteFeed } from '../bytes/byte-feed.ts'
import { crc32 as portableCrc32 } from '../bytes/crc32.ts'
import { viewOf } from '../bytes/integers.ts'
import { MoraineError } from '../core/index.ts'

const footerBytes = 8
/** Longest name, comment or extra field that is passed over. */
const mostHeaderBytes = 1024 * 1024

function damaged(what: string): MoraineError {
  return new MoraineError('corrupt', `the gzip stream is damaged: ${what}`)
}

/** Unpacks one raw deflate stream and leaves `feed` behind its end. */
export type InflateMember = (feed: ByteFeed) => AsyncIterable<Uint8Array>

/** Unpacks all members of a gzip file. Zeros after the last, as tapes have them, are passed over, as gzip does.
 *  With `ends`, what follows is left alone (see `StreamCodec`).
 *  @throws MoraineError `corrupt`. */
export async function* unpackGzip(
  packed: AsyncIterable<Uint8Array>,
  inflate: InflateMember,
  crc32: (bytes: Uint8Array, before: number) => number = portableCrc32,
  ends?: (consumed: number) => void,
): AsyncGenerator<Uint8Array> {
  const feed = new ByteFeed(packed)
  try {
    for (let first = true; await readHeader(feed, first, ends !== undefined); first = false) {
      let checksum = 0
      let size = 0
      for await (const piece of inflate(feed)) {
        checksum = crc32(piece, checksum)
        size += piece.length
        yield piece
      }
      const footer = await feed.take(footerBytes)
      if (footer.length < footerBytes) throw damaged('it ends early')
      const view = viewOf(footer)
      if (view.getUint32(0, true) !== checksum) throw damaged('its checksum is wrong')
      if (view.getUint32(4, true) !== size % 2 ** 32) throw damaged('its size is wrong')
    }
    ends?.(feed.consumed)
  } finally {
    await feed.close()
  }
}

/** Reads a member's header; false where there is none any more. */
async function readHeader(feed: ByteFeed, first: boolean, lenient: boolean): Promise<boolean> {
  let head = await feed.take(10)
  if (head.length === 0 && !first) return false
  if (lenient && !first && (head[0] !== 0x1f || head[1] !== 0x8b)) {
    feed.back(head)
    return false
  }
  if (!first && head[0] === 0) {
    for (let zeros: Uint8Array | undefined = head; zeros !== undefined; zeros = await feed.next()) {
      if (zeros.some((byte) => byte !== 0)) throw damaged('something else follows its end')
    }
    return false
  }
  if (head[0] !== 0x1f || head[1] !== 0x8b) {
    throw damaged(first ? 'it has no header' : 'something else follows its end')
  }
  if (head.length < 10) throw damaged('it ends early')
  const flags = head[3] as number
  if (head[2] !== 8 || (flags & 0xe0) !== 0) throw damaged('its header has no sense')
  if ((flags & 4) !== 0) {
    head = await feed.take(2)
    if (head.length < 2 || !(await feed.skip(viewOf(head).getUint16(0, true)))) throw damaged('it ends early')
  }
  for (const bit of [8, 16]) if ((flags & bit) !== 0) await skipText(feed)
  if ((flags & 2) !== 0 && !(await feed.skip(2))) throw damaged('it ends early')
  return true
}

async function skipText(feed: ByteFeed): Promise<void> {
  for (let passed = 0; passed <= mostHeaderBytes; ) {
    const piece = await feed.next()
    if (piece === undefined) throw damaged('it ends early')
    const nul = piece.indexOf(0)
    if (nul >= 0) {
      feed.back(piece.subarray(nul + 1))
      return
    }
    passed += piece.length
  }
  throw damaged('its header has no end')
}
