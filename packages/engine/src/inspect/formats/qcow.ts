/** qcow version 1, the predecessor of qcow2. Facts: QEMU 7.2 `block/qcow.c` (behaviour). */

import { fields, nameAt, stands } from '../../bytes/header.ts'
import { u64be } from '../../bytes/integers.ts'
import type { Inspector, Look, View } from '../contract.ts'

const headerBytes = 48
const mostL1Bytes = 2 ** 31

/** The qcow inspector. */
export const qcow: Inspector = { name: 'qcow', budget: 0, inspect }

// biome-ignore lint/correctness/useYield: an inspector is a generator, also when the head is enough.
function* inspect({ head, found }: View): Look {
  const header = fields(head, 0, headerBytes)
  if (!stands(head, 'QFI\xfb') || head.length < 8 || header.getUint32(4) !== 1) return
  const report = found('qcow', 'disk', 'magic "QFI\\xfb" at 0, version 1')
  report.failed('obsolete-format', 'it is qcow version 1, which qcow2 replaced', {
    field: 'version',
    value: 1,
    rule: '2 or 3',
  })
  if (head.length < headerBytes) {
    report.failed('header', 'the header is cut', {
      field: 'bytes',
      value: head.length,
      rule: `at least ${headerBytes}`,
    })
    return
  }
  report.virtualSize(u64be(header, 24))
  const backing = u64be(header, 8)
  if (backing === 0) report.passed('backing-file', 'it names no backing file')
  else {
    report.fact('backingFile', nameAt(head, backing, Math.min(header.getUint32(16), 1023)))
    const value = header.getBigUint64(8)
    report.failed('backing-file', 'it names a backing file', { field: 'backing_file_offset', value, rule: '0' })
  }
  const clusterBits = header.getUint8(32)
  const l2Bits = header.getUint8(33)
  const method = header.getUint32(36)
  const sound = clusterBits >= 9 && clusterBits <= 16 && l2Bits >= 6 && l2Bits <= 13
  report.need(clusterBits >= 9 && clusterBits <= 16, 'header', 'its clusters have an impossible size', {
    field: 'cluster_bits',
    value: clusterBits,
    rule: '9 to 16',
  })
  report.need(l2Bits >= 6 && l2Bits <= 13, 'header', 'its L2 tables have an impossible size', {
    field: 'l2_bits',
    value: l2Bits,
    rule: '6 to 13',
  })
  report.need(method <= 1, 'header', 'its encryption is not known', {
    field: 'crypt_method',
    value: method,
    rule: '0 or 1',
  })
  report.passed('header', 'its header is sound', { field: 'cluster_bits', value: clusterBits })
  if (!sound) return
  const l1Bytes = Math.ceil(u64be(header, 24) / 2 ** (clusterBits + l2Bits)) * 8
  report.need(l1Bytes <= mostL1Bytes, 'table-sizes', 'the L1 table is too large', {
    field: 'size',
    value: header.getBigUint64(24),
    rule: `a table of at most ${mostL1Bytes} bytes`,
  })
  report.passed('table-sizes', 'its tables are within bounds', { field: 'L1 bytes', value: l1Bytes })
}
