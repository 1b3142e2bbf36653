/** Replacing the header of an image in use. The host writes sectors whole, not clusters: a header whose extensions have moved must not be
 *  found half old and half new. */
import { roundDown, roundUp, setU64be, viewOf } from '../../bytes/integers.ts'
import { type ByteStore, readPadded } from '../../core/index.ts'
import { autoclear, extension, field, type Header } from './layout.ts'

/** What the host writes whole, in bytes. */
const sector = 512

/** Writes `after` (a whole cluster, the encoding of `header`) over the first cluster so that a power cut at any moment leaves an image that
 *  opens. A cut may cost the bitmaps, and extensions that mean nothing to this engine. */
export async function switchHeader(store: ByteStore, header: Header, after: Uint8Array): Promise<void> {
  const before = new Uint8Array(after.length)
  await readPadded(store, 0, before)
  const changed = changedSectors(before, after)
  if (changed === undefined) return
  const { from, to } = changed
  const copy = to - from > sector ? placeForName(header, before, after, to) : undefined
  if (copy !== undefined) {
    await writeAlone(store, header, after, copy)
    await store.write(sector, after.slice(sector, to))
    await store.flush()
  }
  await store.write(from, after.slice(from, to))
  await store.flush()
  // Nobody looks for the second copy of the name any more.
  if (copy !== undefined && copy < after.length) await store.write(copy, after.slice(copy))
}

/** The range of whole sectors in which two headers differ. */
function changedSectors(before: Uint8Array, after: Uint8Array): { from: number; to: number } | undefined {
  let first = 0
  while (first < after.length && before[first] === after[first]) first++
  if (first === after.length) return undefined
  let last = after.length - 1
  while (before[last] === after[last]) last--
  return { from: roundDown(first, sector), to: roundUp(last + 1, sector) }
}

/** Where the name of the backing file can stand meanwhile, at the end of the cluster; the cluster's end itself when there is no name. Undefined
 *  where the headers leave no room: they are a few hundred bytes long, and their clusters as a rule 64 KiB. */
function placeForName(header: Header, before: Uint8Array, after: Uint8Array, end: number): number | undefined {
  const place = after.length - roundUp(header.backingFileSize, sector)
  const free = place >= end && before.subarray(place).every((byte) => byte === 0)
  return free && header.headerLength + 8 <= sector ? place : undefined
}

/** Writes a first sector that needs no other: it has the extensions that lie wholly in it, except the bitmaps, and names the backing file by
 *  a copy at `copy`. */
async function writeAlone(store: ByteStore, header: Header, after: Uint8Array, copy: number): Promise<void> {
  const alone = after.slice(0, sector)
  const view = viewOf(alone)
  if (header.backingFileSize > 0) {
    await store.write(copy, after.slice(header.backingFileOffset, header.backingFileOffset + header.backingFileSize))
    await store.flush()
    setU64be(view, field.backingFileOffset, copy)
  }
  if (header.version > 2) view.setBigUint64(field.autoclearFeatures, header.autoclearFeatures & ~autoclear.bitmaps)
  let at = header.headerLength
  for (;;) {
    const type = view.getUint32(at)
    if (type === extension.end || type === extension.bitmaps) break
    const next = at + 8 + roundUp(view.getUint32(at + 4), 8)
    if (next + 8 > sector) break
    at = next
  }
  alone.fill(0, at)
  await store.write(0, alone)
  await store.flush()
}
