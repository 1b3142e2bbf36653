/** Changing the virtual size, with preallocation. Behaviour: QEMU 7.2's `qcow2_co_truncate`. */

import { divideUp, roundDown, roundUp } from '../../bytes/integers.ts'
import type { ByteStore, Extent, Preallocation } from '../../core/index.ts'
import { dropClusters, zeroUnits } from './clear.ts'
import { fault, hasDataFile, hasRawDataFile } from './image.ts'
import type { WritableQcow2Disk } from './writable-disk.ts'
import { linkPiece, type Piece, placeAdjacent, placeRequest } from './write-request.ts'

/** Largest piece that metadata preallocation asks for at once, as QEMU does: what fits in a signed 32-bit number. */
const mostAtOnce = 0x7fff_ffff

/** Sets the virtual size of the image; nothing else may run meanwhile. */
export async function resizeImage(
  disk: WritableQcow2Disk,
  size: number,
  preallocation: Preallocation,
  shrink: boolean,
): Promise<void> {
  const { image, writer } = disk
  const refuse = (reason: string, field: string) => fault(image, 'unsupported', reason, field, { value: size })
  if (size % 512 !== 0) throw fault(image, 'invalid', 'The new size must be a multiple of 512', 'size', { value: size })
  if (size > image.limits.virtualSize) {
    throw fault(image, 'limit', 'the virtual size is too large', 'size', {
      value: size,
      rule: `at most ${image.limits.virtualSize}`,
    })
  }
  if (image.snapshots.length > 0 && image.header.version < 3) {
    throw fault(image, 'unsupported', "Can't resize a v2 image which has snapshots", 'version', {
      value: image.header.version,
      rule: 'version 3, whose snapshots record their size',
      hint: "'amend -o compat=1.1' makes it version 3; or delete the snapshots.",
    })
  }
  const old = image.size
  if (size < old) {
    if (!shrink) {
      throw fault(image, 'denied', 'Use the --shrink option to perform a shrink operation.', 'size', { value: size })
    }
    if (preallocation !== 'off') throw refuse("Preallocation can't be used for shrinking an image", 'preallocation')
    await shrinkImage(disk, size)
    return
  }
  const { l2Cover } = image.geometry
  // A data file that is a raw image by itself has every cluster in its place from the start.
  const mode = preallocation === 'off' && hasRawDataFile(image) ? 'metadata' : preallocation
  const shows = disk.parent !== undefined && disk.parent.size > old && size > old
  // Zeros that are stored hide the parent by themselves, unless they are decrypted.
  const stores = mode !== 'off' && mode !== 'metadata' && !hasDataFile(image) && disk.noise === undefined
  const covers = shows && !stores
  if (covers && image.header.version < 3) {
    throw refuse('Failed to zero out new clusters: Operation not supported', 'size')
  }
  await writer.growL1(Math.ceil(size / l2Cover))
  if (hasDataFile(image)) await growDataFile(disk, size, mode)
  if (mode === 'metadata' || (mode !== 'off' && hasDataFile(image))) {
    await preallocateMetadata(disk, old, size)
  } else if (mode !== 'off') {
    await preallocateData(disk, old, size, mode, !(shows && stores))
  }
  if (covers) await coverParent(disk, old, size)
  await writer.writeBack()
  await writer.writeSize(size)
}

/** The data file is as long as the disk; where clusters are assigned, as long as they are. */
async function growDataFile(disk: WritableQcow2Disk, size: number, preallocation: Preallocation): Promise<void> {
  const data = disk.image.data as ByteStore
  const length = preallocation === 'off' ? size : roundUp(size, disk.image.geometry.subclusterSize)
  if (data.size < length) await data.resize(length, preallocation === 'metadata' ? 'off' : preallocation)
}

/** Assigns a cluster to every guest cluster of the range; the clusters keep reading as zeros because nobody has written them. */
async function preallocateMetadata(disk: WritableQcow2Disk, from: number, to: number): Promise<void> {
  const { writer, map, image } = disk
  const { clusterSize } = image.geometry
  const most = mostAtOnce - (mostAtOnce % clusterSize)
  for (let at = from; at < to; ) {
    for (const piece of await placeAdjacent(writer, map, at, Math.min(to - at, most))) {
      at = piece.guest + piece.length
      if (piece.kind !== 'new') continue
      const before = piece.guest % clusterSize
      if (!piece.clean && !hasDataFile(image)) {
        await writer.store.zero(piece.host - before, roundUp(before + piece.length, clusterSize), 'unmap')
      }
      const unpacked = await moveBytes(disk, piece.guest - before, piece.guest, piece.host - before)
      await linkPiece(writer, piece, true)
      if (unpacked) await linkPiece(writer, { ...piece, kind: 'fill', from: piece.guest - before, to: piece.guest })
    }
  }
}

/** Reserves (or writes) one area for all clusters of what is gained, behind refcount structures that count it. The cluster in which that begins goes there too.
 *  With `reserve` extended entries keep saying that nothing is in them. */
async function preallocateData(
  disk: WritableQcow2Disk,
  old: number,
  size: number,
  preallocation: 'falloc' | 'full' | Preallocation,
  reserve: boolean,
): Promise<void> {
  const { writer, image } = disk
  const { clusterSize, l2Entries } = image.geometry
  const from = roundDown(old, clusterSize)
  const clusters = (roundUp(size, clusterSize) - from) / clusterSize
  await writer.writeBack()
  const fileEnd = roundUp(writer.store.size, clusterSize)
  const tables = divideUp(clusters, l2Entries) + 2
  const start = await writer.refcounts.buildArea(fileEnd, clusters + tables, true)
  const got = await writer.refcounts.allocateAt(start, clusters)
  if (got !== clusters) throw fault(image, 'corrupt', 'Failed to allocate data clusters', 'refcount')
  const length = clusters * clusterSize
  if (writer.store.size < start + length) await writer.store.resize(start + length, preallocation)
  const unpacked = await moveBytes(disk, from, old, start)
  const area: Piece = { guest: from, length, host: start, kind: 'new', clean: true, from, to: from + length }
  await linkPiece(writer, area, reserve)
  if (unpacked && reserve) await linkPiece(writer, { ...area, kind: 'fill', length: old - from, to: old })
}

/** Copies guest bytes of one cluster to a host place that holds zeros. True where they were packed: then an extended entry must be told that its subclusters have
 *  them; otherwise it goes on saying of each whether it is there. */
async function moveBytes(disk: WritableQcow2Disk, from: number, to: number, host: number): Promise<boolean> {
  if (from === to || (disk.noise === undefined && (await disk.readsAsZero(from, to - from)))) return false
  const { kind } = await disk.map.resolve(from, to - from)
  const bytes = new Uint8Array(to - from)
  await disk.readBefore(from, bytes)
  await disk.writeData(host, from, bytes)
  return kind === 'packed'
}

/** Makes what a disk gains read as zeros where a longer parent would show through, as QEMU does: by entries, and by bytes before the first
 *  whole unit. */
async function coverParent(disk: WritableQcow2Disk, old: number, size: number): Promise<void> {
  const start = Math.min(size, roundUp(old, disk.image.geometry.subclusterSize))
  const rest = start < size ? await zeroUnits(disk, start, size, size, 'zero-keep') : []
  for (const { offset, length } of [{ offset: old, length: start - old }, ...rest]) {
    await writeZeros(disk, offset, offset + length)
  }
}

/** Writes zeros into a part of one cluster, keeping the rest of it. */
async function writeZeros(disk: WritableQcow2Disk, from: number, to: number): Promise<void> {
  const { writer } = disk
  if (to <= from) return
  const pieces = await placeRequest(writer, disk.map, from, to - from)
  for (const piece of pieces) {
    const whole = new Uint8Array(piece.to - piece.from)
    await disk.readBefore(piece.from, whole)
    whole.fill(0, piece.guest - piece.from, piece.guest - piece.from + piece.length)
    await disk.writeData(piece.host - (piece.guest - piece.from), piece.from, whole)
    await linkPiece(writer, piece)
  }
}

/** Writes zeros over the bytes that the image itself has there. What a parent shows is covered when the disk grows. */
async function wipe(disk: WritableQcow2Disk, from: number, to: number): Promise<void> {
  if (to <= from) return
  const own: Extent[] = []
  for await (const batch of disk.extents(from, to - from)) {
    own.push(...batch.filter(({ depth, allocated, zero }) => depth === 0 && allocated && !zero))
  }
  for (const { offset, length } of own) await writeZeros(disk, offset, offset + length)
}

async function shrinkImage(disk: WritableQcow2Disk, size: number): Promise<void> {
  const { writer, image } = disk
  const { clusterSize, l2Cover } = image.geometry
  const old = image.size
  const from = roundUp(size, clusterSize)
  // The last cluster keeps no bytes past the end, lest they come back when the disk grows again.
  await wipe(disk, size, Math.min(from, old))
  await dropClusters(disk, from, roundUp(old, clusterSize))
  await writer.writeSize(size)
  await dropTables(disk, Math.ceil(size / l2Cover), Math.ceil(old / l2Cover))
  const data = image.data as ByteStore
  if (hasDataFile(image) && data.size > size) await data.resize(size)
  await writer.cutFile()
}

/** Gives up every cluster and table of the active disk: what lies under it shows. Nothing else may run meanwhile. */
export async function emptyImage(disk: WritableQcow2Disk): Promise<void> {
  const { writer, image } = disk
  await dropClusters(disk, 0, roundUp(image.size, image.geometry.clusterSize))
  await dropTables(disk, 0, image.l1.size)
  await writer.cutFile()
  const { header, snapshots, bitmapList } = image
  const bare = snapshots.length === 0 && bitmapList.length === 0 && header.crypto === undefined && !hasDataFile(image)
  // A new image ends inside the cluster of its L1 table. QEMU lays such an image out anew, up to the end of that cluster.
  const end = roundUp(writer.store.size, image.geometry.clusterSize)
  if (header.version >= 3 && bare && writer.store.kind !== 'device') await writer.store.resize(end)
}

/** Gives up the L2 tables of a range of L1 entries; they point at nothing any more. */
async function dropTables(disk: WritableQcow2Disk, from: number, to: number): Promise<void> {
  const { writer, image } = disk
  for (let index = from; index < image.l1.size && index < to; index++) {
    const table = image.l1.l2Offset(index)
    if (table === 0) continue
    image.l1.set(index, 0)
    writer.guard.removeTable(table)
    writer.touchL1(index)
    writer.free(table, image.geometry.clusterSize)
  }
  await writer.writeBack()
}
