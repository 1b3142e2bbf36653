/** One write request: where its bytes shall go, in the order in which QEMU allocates. */

import type { ClusterMap } from './cluster-map.ts'
import { fault, hasDataFile } from './image.ts'
import { entry, type Geometry } from './layout.ts'
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
  const pieces: Piece[] = []
  const end = offset + length
  try {
    for (let at = offset; at < end; ) {
      for (const piece of await placeAdjacent(writer, map, at, end - at)) {
        pieces.push(piece)
        at = piece.guest + piece.length
      }
    }
  } catch (error) {
    await abandonPieces(writer, pieces)
    throw error
  }
  return pieces
}

/** The first pieces of a request, as far as they lie side by side in the file; at least one. QEMU allocates in such steps. */
export async function placeAdjacent(
  writer: Qcow2Writer,
  map: ClusterMap,
  offset: number,
  length: number,
): Promise<Piece[]> {
  const { geometry } = writer.image
  const { clusterSize } = geometry
  const dataFile = hasDataFile(writer.image)
  const pieces: Piece[] = []
  const end = offset + length
  let next = -1
  try {
    for (let at = offset; at < end; ) {
      const found = map.resolve(at, end - at)
      const run = found instanceof Promise ? await found : found
      if (run.host >= 0 && run.copied && run.kind !== 'packed') {
        if (next >= 0 && run.host !== next) break
        if (!dataFile) writer.guard.check(run.host, run.length)
        const kind = run.kind === 'data' ? 'in-place' : 'fill'
        pieces.push(placeInOwned(kind, at, run.length, run.host, geometry.subclusterSize))
        at += run.length
        next = run.host + run.length
        continue
      }
      const start = at - (at % clusterSize)
      const place = await writer.entryOf(at)
      let clusters = countNew(writer, place, Math.ceil((end - start) / clusterSize), dataFile)
      let host = start
      if (!dataFile && next >= 0) {
        host = next
        clusters = await writer.refcounts.allocateAt(next, clusters)
        if (clusters === 0) break
      } else if (!dataFile) {
        host = await writer.refcounts.allocate(clusters * clusterSize)
      }
      const piece = placeInNew(writer, place, at, Math.min(end, start + clusters * clusterSize) - at, host, dataFile)
      pieces.push(piece)
      at += piece.length
      next = host + clusters * clusterSize
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
  const head = heldUnits(place, 0, geometry)
  const tail = heldUnits(place, clusters - 1, geometry)
  const first = Math.min(Math.floor((guest - start) / subclusterSize), head.first) * subclusterSize
  const tailStart = start + (clusters - 1) * clusterSize
  const last = Math.max(Math.ceil((end - tailStart) / subclusterSize), tail.end) * subclusterSize
  const to = tailStart + last
  const clean = !dataFile && writer.takeClean(host, to - start)
  return {
    guest,
    length,
    host: host + (guest - start),
    kind: 'new',
    clean,
    from: start + first,
    to,
  }
}

/** The subclusters of an old cluster that must be copied: from the first that holds data to behind the last; a standard cluster is one. */
function heldUnits(
  { page, at }: EntryPlace,
  index: number,
  { l2EntrySize, extended, clusterSize, subclusterSize }: Geometry,
): { first: number; end: number } {
  const upper = page.view.getUint32(at + index * l2EntrySize)
  const lower = page.view.getUint32(at + index * l2EntrySize + 4)
  const units = clusterSize / subclusterSize
  if ((upper & (entry.compressed | entry.offsetHigh)) === 0 && (lower & entry.offsetLow) === 0) {
    return { first: units, end: 0 }
  }
  if (!extended || (upper & entry.compressed) !== 0) return { first: 0, end: units }
  const allocated = page.view.getUint32(at + index * l2EntrySize + 12)
  // The lowest bit that is set, by itself; 31 less its leading zeros is its number.
  const first = allocated === 0 ? units : 31 - Math.clz32(allocated & -allocated)
  return { first, end: 32 - Math.clz32(allocated) }
}

/** Makes the entries of a piece show its bytes; what they pointed to before is given up. With `reserve` the clusters are only assigned:
 *  extended entries keep saying that nothing is in them. */
export async function linkPiece(writer: Qcow2Writer, piece: Piece, reserve = false): Promise<void> {
  if (piece.kind === 'in-place') return
  const { geometry } = writer.image
  const { clusterSize, l2EntrySize } = geometry
  for (let guest = piece.from - (piece.from % clusterSize); guest < piece.to; ) {
    const place = await writer.entryOf(guest)
    const inPage = (place.page.bytes.length - place.at) / l2EntrySize
    const stop = Math.min(piece.to, guest + inPage * clusterSize)
    for (; guest < stop; guest += clusterSize, place.at += l2EntrySize)
      linkCluster(writer, piece, place, guest, reserve)
  }
}

function linkCluster(writer: Qcow2Writer, piece: Piece, place: EntryPlace, guest: number, reserve: boolean): void {
  const { extended, subclusterSize } = writer.image.geometry
  const { view } = place.page
  const oldUpper = view.getUint32(place.at)
  const oldLower = view.getUint32(place.at + 4)
  const host = piece.host - piece.guest + guest
  writer.setEntry(place, (Math.floor(host / 0x1_0000_0000) | entry.copied) >>> 0, host % 0x1_0000_0000)
  if (extended) {
    const first = Math.max(0, Math.floor((piece.from - guest) / subclusterSize))
    const last = Math.min(32, Math.ceil((piece.to - guest) / subclusterSize))
    const bits = reserve ? 0 : (last - first === 32 ? 0xffff_ffff : ((1 << (last - first)) - 1) << first) >>> 0
    const wasPacked = (oldUpper & entry.compressed) !== 0
    const zeros = wasPacked ? 0 : view.getUint32(place.at + 8)
    const allocated = wasPacked ? 0 : view.getUint32(place.at + 12)
    view.setUint32(place.at + 8, (zeros & ~bits) >>> 0)
    view.setUint32(place.at + 12, (allocated | bits) >>> 0)
  }
  if (piece.kind === 'new' && (oldUpper !== 0 || oldLower !== 0)) writer.freeEntry(oldUpper, oldLower)
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
