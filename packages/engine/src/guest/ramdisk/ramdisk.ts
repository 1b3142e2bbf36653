/** Ramdisks: archives and packed archives in a row, as distributions make them (early microcode first, then the packed rest). Facts: Linux,
 *  Documentation/driver-api/early-userspace/buffer-format.rst and init/initramfs.c. */
import { ByteFeed } from '../../bytes/byte-feed.ts'
import { unpackBeginning } from '../../codec/beginning.ts'
import {
  type ByteSource,
  type DetailValue,
  isMoraineError,
  type StreamCodecs,
  throwIfCancelled,
} from '../../core/index.ts'
import { factsOf, type GuestContent } from '../content.ts'
import { type GuestPacking, packingOf } from '../kernel/packing.ts'
import { type Reading, readBytes, readFrom, readingHead, regionAt } from '../reading.ts'
import { type Archives, isCpio, readArchives } from './cpio.ts'

/** One segment: archives that are not packed, or one packed stream of them. */
interface Segment {
  offset: number
  packing?: GuestPacking | undefined
  /** Undefined where nothing can be unpacked here. */
  archives?: Archives | undefined
  /** All of it was looked at. */
  complete: boolean
  /** Why not, and what is wrong with it. */
  remark?: string | undefined
}

/** Members and segments that are looked at. */
const mostMembers = 1000
const mostMembersInFull = 1_000_000
const mostSegments = 64
/** Bytes of a packed segment that a look takes, and what they may unpack to. */
const packedBytes = 256 * 1024
/** A block of bzip2 is packed as a whole. */
const packedBlockBytes = 1024 * 1024
const unpackedBytes = 1024 * 1024

/** Looks at a ramdisk: archives by the headers of their members, a packed one by its beginning. Undefined where the bytes are none: of packed bytes, those count that
 *  begin with an archive when unpacked. */
export function* readRamdisk(): Reading<GuestContent | undefined> {
  const segments: Segment[] = []
  let members = mostMembers
  for (let at = 0; segments.length < mostSegments; ) {
    const head = yield* regionAt(at, 64)
    if (isCpio(head)) {
      const archives = yield* readArchives(at, members)
      segments.push({ offset: at, archives, complete: archives.complete, remark: archives.fault })
      members -= archives.members
      if (!archives.more || !archives.complete) break
      at = archives.end
      continue
    }
    const packing = packingOf(head)
    if (packing === undefined) {
      if (segments.length > 0) segments.push(strange(at))
      break
    }
    const segment = yield* readPacked(at, packing)
    // Packed bytes alone may be anything.
    if (segments.length > 0 || segment.archives !== undefined) segments.push(segment)
    break
  }
  return segments.length === 0 ? undefined : contentOf(segments)
}

function* readPacked(offset: number, packing: GuestPacking): Reading<Segment> {
  const packed = yield* regionAt(offset, packing === 'bzip2' ? packedBlockBytes : packedBytes)
  const part = unpackBeginning(packing, packed, unpackedBytes)
  if (part === undefined || !isCpio(part.bytes)) return { offset, packing, complete: false, remark: 'not looked into' }
  const archives = readBytes(readArchives(0, mostMembers), part.bytes)
  if (part.ended) return { offset, packing, archives, complete: archives.complete, remark: archives.fault }
  // What a cut archive lacks is no fault of it.
  return {
    offset,
    packing,
    archives: { ...archives, complete: false },
    complete: false,
    remark: 'only its beginning was looked at',
  }
}

const strange = (offset: number): Segment => ({
  offset,
  complete: false,
  remark: 'neither an archive nor packed as Linux knows it',
})

/** How much of a ramdisk is read. */
export interface RamdiskOptions {
  /** Those that are missing leave a segment closed. */
  codecs: StreamCodecs
  /** Bytes that all segments together may unpack to before they are left. Default 512 MiB. */
  mostUnpacked?: number | undefined
  signal?: AbortSignal | undefined
}

/** Reads all of a ramdisk, segment after segment, packed ones unpacked on the way and not kept. Undefined where the bytes are none. What is damaged or passes the bounds is a remark of
 *  its segment, not an error.
 *  @throws MoraineError `io` when the source fails; `cancelled`. */
export async function describeRamdisk(source: ByteSource, options: RamdiskOptions): Promise<GuestContent | undefined> {
  const { signal } = options
  const segments: Segment[] = []
  let left = options.mostUnpacked ?? 512 * 1024 * 1024
  for (let at: number | undefined = 0; at !== undefined && segments.length < mostSegments; ) {
    throwIfCancelled(signal, source.name)
    const offset: number = at
    const head = await readFrom(source, regionAt(offset, 64), { signal })
    const packing = packingOf(head)
    if (isCpio(head)) {
      const archives = await readFrom(source, readArchives(offset, mostMembersInFull), { signal })
      segments.push({ offset, archives, complete: archives.complete, remark: archives.fault })
      at = archives.more && archives.complete ? archives.end : undefined
    } else if (packing !== undefined) {
      const { segment, unpacked, next } = await unpackSegment(source, offset, packing, left, options)
      if (segments.length === 0 && segment.archives === undefined) return undefined
      segments.push(segment)
      left -= unpacked
      at = next === undefined ? undefined : await nextSegment(source, next, signal)
    } else {
      if (segments.length > 0) segments.push(strange(offset))
      break
    }
  }
  return segments.length === 0 ? undefined : contentOf(segments)
}

/** Where the next segment begins, behind zeros; undefined at the end. */
async function nextSegment(
  source: ByteSource,
  start: number,
  signal: AbortSignal | undefined,
): Promise<number | undefined> {
  for (let at = start; at < source.size; at += readingHead) {
    const bytes = await readFrom(source, regionAt(at, readingHead), { signal })
    const index = bytes.findIndex((byte) => byte !== 0)
    if (index >= 0) return at + index
  }
  return undefined
}

async function unpackSegment(
  source: ByteSource,
  offset: number,
  packing: GuestPacking,
  most: number,
  { codecs, signal }: RamdiskOptions,
): Promise<{ segment: Segment; unpacked: number; next: number | undefined }> {
  const codec = packing === 'lzma' || packing === 'lzo' ? undefined : codecs[packing]
  if (codec === undefined) {
    const segment = await readFrom(source, readPacked(offset, packing), { signal })
    return { segment, unpacked: segment.archives === undefined ? 0 : unpackedBytes, next: undefined }
  }
  let next: number | undefined
  let unpacked = 0
  let remark: string | undefined
  async function* plain(): AsyncGenerator<Uint8Array> {
    const pieces = codec?.unpack(packedFrom(source, offset, signal), (consumed) => {
      next = offset + consumed
    })
    try {
      for await (const piece of pieces ?? []) {
        unpacked += piece.length
        if (unpacked > most) {
          remark = `it unpacks to more than the ${most} bytes that are looked at`
          return
        }
        yield piece
      }
    } catch (error) {
      if (!isMoraineError(error) || error.kind === 'io' || error.kind === 'cancelled') throw error
      remark = error.reason
    }
  }
  const feed = new ByteFeed(plain())
  try {
    const start = await feed.take(8)
    feed.back(start)
    if (!isCpio(start))
      return {
        segment: { offset, packing, complete: false, remark: remark ?? 'it holds no archive' },
        unpacked,
        next: undefined,
      }
    const archives = await readForward(feed, readArchives(0, mostMembersInFull))
    const complete = archives.complete && remark === undefined
    const segment = { offset, packing, archives, complete, remark: remark ?? archives.fault }
    // The stream's end is known only when all of it was taken.
    if (complete) while ((await feed.next()) !== undefined);
    return { segment, unpacked, next }
  } finally {
    await feed.close()
  }
}

async function* packedFrom(
  source: ByteSource,
  start: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array> {
  for (let at = start; at < source.size; at += packedBytes) {
    const bytes = new Uint8Array(Math.min(packedBytes, source.size - at))
    await source.read(at, bytes, signal)
    yield bytes
  }
}

/** Runs a reading that only goes forward over bytes that pass by. */
async function readForward<Result>(feed: ByteFeed, reading: Reading<Result>): Promise<Result> {
  let position = 0
  let step = reading.next()
  while (step.done !== true) {
    const { offset, length } = step.value
    let bytes: Uint8Array = new Uint8Array(0)
    if (offset >= position && (await feed.skip(offset - position))) {
      position = offset
      bytes = await feed.take(length)
      feed.back(bytes)
    }
    step = reading.next(bytes)
  }
  return step.value
}

function contentOf(segments: readonly Segment[]): GuestContent {
  const all = segments.flatMap(({ archives }) => (archives === undefined ? [] : [archives]))
  const union = (of: (archives: Archives) => string[]): string[] => [...new Set(all.flatMap(of))].slice(0, 8)
  const complete = segments.every((segment) => segment.complete)
  const init = all.some((archives) => archives.init)
  const [first] = segments
  return {
    kind: 'ramdisk',
    format: 'cpio',
    evidence:
      first?.packing === undefined ? '"07070" and a cpio header at 0' : `a cpio archive, packed with ${first.packing}`,
    facts: factsOf({
      init: init || complete ? init : 'not seen yet',
      complete,
      microcode: some(union(({ microcode }) => microcode)),
      modules: some(union(({ modules }) => modules)),
      segments: segments.map(segmentFacts),
    }),
  }
}

const some = (list: string[]): string[] | undefined => (list.length === 0 ? undefined : list)

function segmentFacts({ offset, packing, archives, complete, remark }: Segment): Record<string, DetailValue> {
  return factsOf({
    offset,
    packing: packing ?? 'none',
    members: archives?.members,
    contentBytes: archives?.contentBytes,
    init: archives?.init === true ? true : undefined,
    microcode: archives === undefined ? undefined : some(archives.microcode),
    acpi: archives?.acpi === true ? true : undefined,
    outside: archives?.outside,
    complete,
    remark,
  })
}
