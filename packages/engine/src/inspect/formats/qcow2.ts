/** qcow2, versions 2 and 3. Facts: QEMU's docs/interop/qcow2.txt; bounds as QEMU 7.2 has them. */

import { fields, isPower, nameAt, stands } from '../../bytes/header.ts'
import { roundUp, u64be, viewOf } from '../../bytes/integers.ts'
import { atEnd, type Inspector, type Look, type View } from '../contract.ts'
import type { Report } from '../finding.ts'

const KiB = 1024
const MiB = 1024 * KiB
const mostL1Bytes = 32 * MiB
const mostRefcountTableBytes = 8 * MiB
const mostSnapshots = 65536
const mostNameBytes = 1023
const mostBitmaps = 65535
const mostBitmapDirectoryBytes = 64 * MiB

/** Dirty, corrupt, data file, compression type, extended L2. */
const knownFeatures = 0b11111n
const dataFileBit = 1n << 2n
const compressionBit = 1n << 3n
const extendedBit = 1n << 4n

/** The qcow2 inspector. Any version of the magic but 1 is qcow2's; what is neither 2 nor 3 fails rather than being taken for raw. */
export const qcow2: Inspector = { name: 'qcow2', budget: 0, inspect }

function* inspect({ head, found }: View): Look {
  if (!stands(head, 'QFI\xfb') || head.length < 8) return
  const header = fields(head, 0, 112)
  const version = header.getUint32(4)
  if (version === 1) return
  const report = found('qcow2', 'disk', `magic "QFI\\xfb" at 0, version ${version}`)
  if (version !== 2 && version !== 3) {
    report.failed('header', `qcow2 version ${version} is not known`, {
      field: 'version',
      value: version,
      rule: '2 or 3',
    })
    return
  }
  report.fact('version', version)
  const needed = version === 2 ? 72 : 104
  if (head.length < needed) {
    report.failed('header', 'the header is cut', { field: 'bytes', value: head.length, rule: `at least ${needed}` })
    return
  }
  report.virtualSize(u64be(header, 24))
  checkFeatures(report, header, version)
  checkBacking(report, head, header)
  checkExtensions(report, head, header, version)
  const sound = checkHeader(report, header, version)
  if (!sound) return
  checkTables(report, header)
  const { size } = yield* atEnd()
  const clusterBytes = 2 ** header.getUint32(20)
  const l1End = u64be(header, 40) + header.getUint32(36) * 8
  report.need(l1End <= roundUp(size, clusterBytes), 'table-sizes', 'the L1 table passes the end of the file', {
    field: 'l1_table_offset + 8 * l1_size',
    value: l1End,
    rule: `at most ${size}`,
  })
  report.passed('table-sizes', 'its tables are within bounds', { field: 'l1_size', value: header.getUint32(36) })
}

function checkFeatures(report: Report, header: DataView, version: number): void {
  if (version === 2) {
    report.passed('data-file', 'version 2 has no external data file')
    report.passed('unknown-features', 'version 2 has no feature bits')
    return
  }
  const features = header.getBigUint64(72)
  const place = { field: 'incompatible_features', value: `0x${features.toString(16)}` }
  if ((features & dataFileBit) !== 0n) {
    report.failed('data-file', 'it names an external data file', { ...place, rule: 'bit 2 is 0' })
  } else report.passed('data-file', 'it has no external data file')
  const unknown = features & ~knownFeatures
  if (unknown !== 0n) {
    const said = `it has unknown incompatible features (${unknown.toString(16)} hexadecimal)`
    report.failed('unknown-features', said, { ...place, rule: 'no bit above 4' })
  } else report.passed('unknown-features', 'it needs no unknown feature', place)
  if ((features & 1n) !== 0n) report.fact('dirty', true)
  if ((features & 2n) !== 0n) report.fact('corrupt', true)
  if ((features & extendedBit) !== 0n) report.fact('extendedL2', true)
}

function checkBacking(report: Report, head: Uint8Array, header: DataView): void {
  const offset = u64be(header, 8)
  if (offset === 0) {
    report.passed('backing-file', 'it names no backing file')
    return
  }
  report.fact('backingFile', nameAt(head, offset, Math.min(header.getUint32(16), mostNameBytes)))
  const value = header.getBigUint64(8)
  report.failed('backing-file', 'it names a backing file', { field: 'backing_file_offset', value, rule: '0' })
}

/** Walks the header extensions, as far as the head holds them. */
function checkExtensions(report: Report, head: Uint8Array, header: DataView, version: number): void {
  const bits = header.getUint32(20)
  const backing = u64be(header, 8)
  const cluster = bits >= 9 && bits <= 21 ? 2 ** bits : 512
  const end = Math.min(cluster, backing === 0 ? cluster : backing, head.length)
  const view = viewOf(head)
  let at = version === 2 ? 72 : header.getUint32(100)
  while (at + 8 <= end) {
    const type = view.getUint32(at)
    const length = view.getUint32(at + 4)
    if (type === 0) return
    const field = `header extension 0x${type.toString(16)}`
    if (at + 8 + length > Math.min(cluster, backing === 0 ? cluster : backing)) {
      report.failed('header', 'a header extension is too long', {
        field,
        value: length,
        rule: 'it ends within the header',
      })
      return
    }
    if (type === 0x44415441) report.fact('dataFile', nameAt(head, at + 8, length))
    if (type === 0xe2792aca) report.fact('backingFormat', nameAt(head, at + 8, length))
    if (type === 0x23852875 && length >= 24 && at + 32 <= head.length) {
      const count = view.getUint32(at + 8)
      const bytes = u64be(view, at + 16)
      report.fact('bitmaps', count)
      const rule = `at most ${mostBitmaps}`
      report.need(count <= mostBitmaps, 'table-sizes', 'there are too many bitmaps', {
        field: 'nb_bitmaps',
        value: count,
        rule,
      })
      report.need(bytes <= mostBitmapDirectoryBytes, 'table-sizes', 'the bitmap directory is too large', {
        field: 'bitmap_directory_size',
        value: bytes,
        rule: `at most ${mostBitmapDirectoryBytes}`,
      })
    }
    at += 8 + roundUp(length, 8)
  }
}

/** Whether the fields that others depend on are sound. */
function checkHeader(report: Report, header: DataView, version: number): boolean {
  const faults: [boolean, string, string, number | bigint, string][] = []
  const need = (holds: boolean, said: string, field: string, value: number | bigint, rule: string) => {
    faults.push([holds, said, field, value, rule])
  }
  const bits = header.getUint32(20)
  const features = version === 2 ? 0n : header.getBigUint64(72)
  const least = (features & extendedBit) === 0n ? 9 : 14
  need(bits >= least && bits <= 21, 'its clusters have an impossible size', 'cluster_bits', bits, `${least} to 21`)
  const size = header.getBigUint64(24)
  need(
    size <= BigInt(Number.MAX_SAFE_INTEGER),
    'its size is beyond what a disk can have',
    'size',
    size,
    'at most 2^53 - 1',
  )
  const method = header.getUint32(32)
  need(method <= 2, 'its encryption is not known', 'crypt_method', method, '0, 1 or 2')
  if (method > 0) report.fact('encryption', method === 1 ? 'aes' : 'luks')
  const cluster = 2 ** Math.min(bits, 21)
  for (const [field, at] of [
    ['l1_table_offset', 40],
    ['refcount_table_offset', 48],
    ['snapshots_offset', 64],
  ] as const) {
    const offset = u64be(header, at)
    if (field === 'snapshots_offset' && header.getUint32(60) === 0) continue
    need(
      offset % cluster === 0,
      'a table lies between clusters',
      field,
      header.getBigUint64(at),
      'a multiple of the cluster',
    )
  }
  const nameBytes = u64be(header, 8) === 0 ? 0 : header.getUint32(16)
  need(
    nameBytes <= mostNameBytes,
    'the name of its backing file is too long',
    'backing_file_size',
    nameBytes,
    'at most 1023',
  )
  if (version === 3) {
    const order = header.getUint32(96)
    need(order <= 6, 'its reference counts have an impossible width', 'refcount_order', order, '0 to 6')
    const length = header.getUint32(100)
    const fits = length >= 104 && length % 8 === 0 && length <= cluster
    need(
      fits,
      'its header has an impossible length',
      'header_length',
      length,
      'a multiple of 8 from 104 to one cluster',
    )
    const type = length > 104 ? header.getUint8(104) : 0
    const said = 'the compression type and its feature bit do not agree'
    need(
      (type !== 0) === ((features & compressionBit) !== 0n),
      said,
      'compression_type',
      type,
      '0 exactly when bit 3 is 0',
    )
    need(type <= 1, 'its compression is not known', 'compression_type', type, '0 or 1')
  }
  for (const [holds, said, field, value, rule] of faults) report.need(holds, 'header', said, { field, value, rule })
  report.passed('header', 'its header is sound', { field: 'cluster_bits', value: bits })
  return faults.every(([holds]) => holds)
}

function checkTables(report: Report, header: DataView): void {
  const bits = header.getUint32(20)
  const cluster = 2 ** bits
  const extended = header.getUint32(4) === 3 && (header.getBigUint64(72) & extendedBit) !== 0n
  const l1 = header.getUint32(36)
  const covered = (cluster * cluster) / (extended ? 16 : 8)
  const wanted = Math.ceil(u64be(header, 24) / covered)
  const need = (holds: boolean, said: string, field: string, value: number, rule: string) =>
    report.need(holds, 'table-sizes', said, { field, value, rule })
  need(l1 * 8 <= mostL1Bytes, 'the L1 table is too large', 'l1_size', l1, `at most ${mostL1Bytes / 8}`)
  need(l1 >= wanted, 'the L1 table does not cover the disk', 'l1_size', l1, `at least ${wanted}`)
  const refcounts = header.getUint32(56)
  const most = mostRefcountTableBytes / cluster
  need(refcounts >= 1, 'it has no refcount table', 'refcount_table_clusters', refcounts, 'at least 1')
  need(
    refcounts <= Math.max(1, most),
    'the refcount table is too large',
    'refcount_table_clusters',
    refcounts,
    `at most ${most}`,
  )
  const snapshots = header.getUint32(60)
  if (snapshots > 0) report.fact('snapshots', snapshots)
  need(
    snapshots <= mostSnapshots,
    'there are too many snapshots',
    'nb_snapshots',
    snapshots,
    `at most ${mostSnapshots}`,
  )
  if (isPower(cluster, 512, 2 * MiB)) report.fact('clusterSize', cluster)
}
