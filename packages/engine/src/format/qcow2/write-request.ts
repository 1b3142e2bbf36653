/** One write request: where its bytes shall go, in the order in which QEMU allocates. */

import type { ClusterMap } from './cluster-map.ts'
import { fault, hasDataFile } from './image.ts'
import { entry } from './layout.ts'
import type { EntryPlace, Qcow2Writer } from './writer.ts'

/** A part of a request whose bytes lie together in the file. */
export interface Piece {
  /** Guest byte offset and length of the request's bytes. */
  guest: number
  length: number
  /** Host byte offset of the first of them. */
  host: number
  /** `in-place`: nothing but the bytes changes. `fill`: the clusters are there, but subclusters or a zero flag change. `new`: the clusters
   *  were allocated just now. */
  kind: 'in-place' | 'fill' | 'new'
  /** The new clusters read as zeros already. */
  clean: boolean
  /** Guest range that the entries will show as data afterwards: the bytes, and around them what is copied from before. */
  from: number
  to: number
}

/** Whether a write must give the cluster of this entry a new host cluster. */
function needsCluster(upper: number, lower: number, dataFile: boolean): boolean {
  if ((upper & entry.compressed) !== 0) return true
  const host = (upper & entry.offsetHigh) !== 0 || (lower & entry.offsetLow) !== 0
  if (!host && !dataFile) return true
  return upper < entry.copied
}

/** Decides where the bytes of `[offset, offset + length)` go, and allocates what is missing. Entries are not changed yet. */
export async function placeRequest(
  writer: Qcow2Writer,
  map: ClusterMap,
  offset: number,
  length: number,
): Promise<Piece[]> {
  const { image } = writer
  const { geometry } = image
  const { clusterSize } = geometry
  const dataFile = hasDataFile(image)
  const pieces: Piece[] = []
  const end = offset + length
  let hint = -1
  try {
    for (let at = offset; at < end; ) {
      const found = map.resolve(at, end - at)
      const run = found instanceof Promise ? await found : found
      if (run.host >= 0 && run.copied && run.kind !== 'packed') {
        if (!dataFile) writer.guard.check(run.host, run.length)
        pieces.push(
          placeInOwned(run.kind === 'data' ? 'in-place' : 'fill', at, run.length, run.host, geometry.subclusterSize),
        )
        at += run.length
        hint = run.host + run.length
        continue
      }
      const start = at - (at % clusterSize)
      const place = await writer.entryOf(at)
      let clusters = countNew(writer, place, Math.ceil((end - start) / clusterSize), dataFile)
      let host = start
      if (!dataFile) {
        if (hint >= 0) {
          clusters = await writer.refcounts.allocateAt(hint, clusters)
          host = hint
          hint = -1
          if (clusters === 0) continue
        } else {
          host = await writer.refcounts.allocate(clusters * clusterSize)
        }
      }
      const piece = placeInNew(writer, place, at, Math.min(end, start + clusters * clusterSize) - at, host, dataFile)
      pieces.push(piece)
      at += piece.length
      hint = dataFile ? -1 : host + clusters * clusterSize
    }
  } catch (error) {
    await abandonPieces(writer, pieces)
    throw error
  }
  return pieces
}

/** How many entries from `place` on, within its page, need a new cluster. */
function countNew(writer: Qcow2Writer, { page, at }: EntryPlace, most: number, dataFile: boolean): number {
  const { l2EntrySize } = writer.image.geometry
  let clusters = 0
  for (let i = at; clusters < most && i < page.bytes.length; i += l2EntrySize, clusters++) {
    if (!needsCluster(page.view.getUint32(i), page.view.getUint32(i + 4), dataFile)) break
  }
  if (clusters === 0)
    throw fault(writer.image, 'corrupt', 'an L2 entry says two things at once', 'L2 entry', {
      offset: page.offset + at,
    })
  return clusters
}

function placeInOwned(kind: 'in-place' | 'fill', guest: number, length: number, host: number, unit: number): Piece {
  const from = kind === 'fill' ? guest - (guest % unit) : guest
  const to = kind === 'fill' ? Math.ceil((guest + length) / unit) * unit : guest + length
  return { guest, length, host, kind, clean: false, from, to }
}

function placeInNew(
  writer: Qcow2Writer,
  place: EntryPlace,
  guest: number,
  length: number,
  host: number,
  dataFile: boolean,
): Piece {
  const { geometry } = writer.image
  const { clusterSize, subclusterSize } = geometry
  const start = guest - (guest % clusterSize)
  const end = guest + length
  const clusters = Math.ceil((end - start) / clusterSize)
  // A cluster that held data is copied whole; of one that held none, only the subclusters around the bytes.
  const holdsData = (index: number) => {
    const at = place.at + index * geometry.l2EntrySize
    const upper = place.page.view.getUint32(at)
    const lower = place.page.view.getUint32(at + 4)
    return (upper & (entry.compressed | entry.offsetHigh)) !== 0 || (lower & entry.offsetLow) !== 0
  }
  const headUnit = holdsData(0) ? clusterSize : subclusterSize
  const tailUnit = holdsData(clusters - 1) ? clusterSize : subclusterSize
  const to = Math.ceil(end / tailUnit) * tailUnit
  const clean = !dataFile && writer.takeClean(host, to - start)
  return {
    guest,
    length,
    host: host + (guest - start),
    kind: 'new',
    clean,
    from: guest - (guest % headUnit),
    to,
  }
}

/** Makes the entries of a piece show its bytes; what they pointed to before is given up. With `reserve` the clusters are only assigned:
 *  extended entries keep saying that nothing is in them. */
export async function linkPiece(writer: Qcow2Writer, piece: Piece, reserve = false): Promise<void> {
  if (piece.kind === 'in-place') return
  const { geometry } = writer.image
  const { clusterSize, subclusterSize } = geometry
  const shift = piece.host - piece.guest
  for (let guest = piece.from - (piece.from % clusterSize); guest < piece.to; guest += clusterSize) {
    const place = await writer.entryOf(guest)
    const { view } = place.page
    const oldUpper = view.getUint32(place.at)
    const oldLower = view.getUint32(place.at + 4)
    const host = guest + shift
    const wasPacked = (oldUpper & entry.compressed) !== 0
    writer.setEntry(place, (Math.floor(host / 0x1_0000_0000) | entry.copied) >>> 0, host % 0x1_0000_0000)
    if (geometry.extended) {
      const first = Math.max(0, Math.floor((piece.from - guest) / subclusterSize))
      const last = Math.min(32, Math.ceil((piece.to - guest) / subclusterSize))
      const bits = reserve ? 0 : (last - first === 32 ? 0xffff_ffff : ((1 << (last - first)) - 1) << first) >>> 0
      const zeros = wasPacked ? 0 : view.getUint32(place.at + 8)
      const allocated = wasPacked ? 0 : view.getUint32(place.at + 12)
      view.setUint32(place.at + 8, (zeros & ~bits) >>> 0)
      view.setUint32(place.at + 12, (allocated | bits) >>> 0)
    }
    if (piece.kind === 'new') writer.freeEntry(oldUpper, oldLower)
  }
}

/** Gives back the clusters of pieces that were never linked. */
export async function abandonPieces(writer: Qcow2Writer, pieces: readonly Piece[]): Promise<void> {
  if (hasDataFile(writer.image)) return
  const { clusterSize } = writer.image.geometry
  for (const piece of pieces) {
    if (piece.kind !== 'new') continue
    const start = piece.host - (piece.host % clusterSize)
    const end = Math.ceil((piece.host + piece.length) / clusterSize) * clusterSize
    await writer.abandon(start, end - start)
  }
}
