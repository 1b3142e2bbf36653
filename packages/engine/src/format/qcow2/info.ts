/** The facts of a qcow2 image, in the terms and order of QEMU's `ImageInfo` and `ImageInfoSpecificQCow2`. */
import type { DetailValue, DiskInfo, SnapshotInfo } from '../../core/index.ts'
import type { Qcow2Image } from './image.ts'
import { autoclear, compatible, incompatible } from './layout.ts'
import type { Snapshot } from './snapshot-table.ts'

/** What `info` shows. */
export function qcow2Info(image: Qcow2Image): DiskInfo {
  const { header, geometry } = image
  const info: DiskInfo = {
    format: 'qcow2',
    virtualSize: image.size,
    clusterSize: geometry.clusterSize,
    dirty: (header.incompatibleFeatures & incompatible.dirty) !== 0n,
    snapshots: image.snapshots.map(snapshotInfo),
    details: { type: 'qcow2', data: details(image) },
  }
  if (header.cryptMethod !== 0) info.encrypted = true
  if (header.backingFile !== undefined) info.backing = { name: header.backingFile, format: header.backingFormat }
  return info
}

function details({ header, geometry, bitmapList, cryptDetails }: Qcow2Image): Record<string, DetailValue> {
  const compression = header.compressionType === 1 ? 'zstd' : 'zlib'
  if (header.version < 3) {
    const old = { compat: '0.10', 'compression-type': compression, 'refcount-bits': geometry.refcountBits }
    return cryptDetails === undefined ? old : { ...old, encrypt: cryptDetails }
  }
  const data: Record<string, DetailValue> = {
    compat: '1.1',
    'compression-type': compression,
    'lazy-refcounts': (header.compatibleFeatures & compatible.lazyRefcounts) !== 0n,
  }
  if (bitmapList.length > 0) {
    data.bitmaps = bitmapList.map(({ name, granularityBits, flags }) => ({
      flags: [...((flags & 1) !== 0 ? ['in-use'] : []), ...((flags & 2) !== 0 ? ['auto'] : [])],
      name,
      granularity: 2 ** granularityBits,
    }))
  }
  data['refcount-bits'] = geometry.refcountBits
  if (cryptDetails !== undefined) data.encrypt = cryptDetails
  data.corrupt = (header.incompatibleFeatures & incompatible.corrupt) !== 0n
  if ((header.incompatibleFeatures & incompatible.dataFile) !== 0n) {
    if (header.dataFileName !== undefined) data['data-file'] = header.dataFileName
    data['data-file-raw'] = (header.autoclearFeatures & autoclear.rawDataFile) !== 0n
  }
  data['extended-l2'] = geometry.extended
  return data
}

/** A snapshot as `info` and `snapshot -l` show it. */
export function snapshotInfo(snapshot: Snapshot): SnapshotInfo {
  const { id, name, vmStateSize, dateSeconds, dateNanoseconds, vmClockNanoseconds, icount, diskSize } = snapshot
  return { id, name, vmStateSize, dateSeconds, dateNanoseconds, vmClockNanoseconds, icount, diskSize }
}
