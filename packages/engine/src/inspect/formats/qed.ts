/** QED, QEMU's short-lived format. Facts: QEMU's docs/interop/qed_spec.txt. */

import { fields, isPower, nameAt, stands } from '../../bytes/header.ts'
import { u64le } from '../../bytes/integers.ts'
import type { Inspector, Look, View } from '../contract.ts'

const headerBytes = 64
/** Backing file, needs a check, backing file is raw. */
const knownFeatures = 0b111n

/** The QED inspector. */
export const qed: Inspector = { name: 'qed', budget: 0, inspect }

// biome-ignore lint/correctness/useYield: an inspector is a generator, also when the head is enough.
function* inspect({ head, found }: View): Look {
  if (!stands(head, 'QED\0')) return
  const report = found('qed', 'disk', 'magic "QED\\0" at 0')
  report.failed('obsolete-format', 'QED was given up: QEMU alone opens it, and OpenStack takes none')
  if (head.length < headerBytes) {
    report.failed('header', 'the header is cut', {
      field: 'bytes',
      value: head.length,
      rule: `at least ${headerBytes}`,
    })
    return
  }
  const header = fields(head, 0, headerBytes)
  report.virtualSize(u64le(header, 48))
  const features = header.getBigUint64(16, true)
  const place = { field: 'features', value: `0x${features.toString(16)}` }
  if ((features & 1n) !== 0n) {
    report.fact('backingFile', nameAt(head, header.getUint32(56, true), Math.min(header.getUint32(60, true), 1023)))
    report.failed('backing-file', 'it names a backing file', { ...place, rule: 'bit 0 is 0' })
  } else report.passed('backing-file', 'it names no backing file')
  const unknown = features & ~knownFeatures
  if (unknown !== 0n) report.failed('unknown-features', 'it has unknown features', { ...place, rule: 'no bit above 2' })
  else report.passed('unknown-features', 'it needs no unknown feature', place)
  const cluster = header.getUint32(4, true)
  const table = header.getUint32(8, true)
  report.need(isPower(cluster, 4096, 64 * 1024 * 1024), 'header', 'its clusters have an impossible size', {
    field: 'cluster_size',
    value: cluster,
    rule: 'a power of two from 4 KiB to 64 MiB',
  })
  report.need(isPower(table, 1, 16), 'table-sizes', 'its tables have an impossible size', {
    field: 'table_size',
    value: table,
    rule: 'a power of two from 1 to 16 clusters',
  })
  const entries = (table * cluster) / 8
  const most = entries * entries * cluster
  report.need(u64le(header, 48) <= most, 'table-sizes', 'its tables do not cover the disk', {
    field: 'image_size',
    value: header.getBigUint64(48, true),
    rule: `at most ${most}`,
  })
  report.passed('header', 'its header is sound', { field: 'cluster_size', value: cluster })
  report.passed('table-sizes', 'its tables are within bounds', { field: 'table_size', value: table })
}
