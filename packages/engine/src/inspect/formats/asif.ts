/** ASIF, Apple's sparse image format of macOS 26. Facts: public reverse engineering (dissect.hypervisor). */

import { fields, isPower, stands } from '../../bytes/header.ts'
import { u64be } from '../../bytes/integers.ts'
import type { Inspector, Look, View } from '../contract.ts'

const headerBytes = 80

/** The ASIF inspector. */
export const asif: Inspector = { name: 'asif', budget: 0, inspect }

// biome-ignore lint/correctness/useYield: an inspector is a generator, also when the head is enough.
function* inspect({ head, found }: View): Look {
  const header = fields(head, 0, headerBytes)
  if (!stands(head, 'shdw') || header.getUint32(4) !== 1) return
  const report = found('asif', 'disk', 'magic "shdw" at 0, version 1')
  const block = header.getUint16(68)
  const sectors = u64be(header, 48)
  report.virtualSize(sectors * (block || 512))
  const rule = '512'
  report.need(header.getUint32(8) === 512, 'header', 'its header has an impossible size', {
    field: 'header size',
    value: header.getUint32(8),
    rule,
  })
  report.need(isPower(block, 512, 4096), 'header', 'its blocks have an impossible size', {
    field: 'block size',
    value: block,
    rule: '512 to 4096',
  })
  const most = u64be(header, 56)
  report.need(sectors <= most, 'table-sizes', 'it is larger than it may become', {
    field: 'sector count',
    value: header.getBigUint64(48),
    rule: `at most ${most}`,
  })
  report.passed('header', 'its header is sound')
  report.passed('table-sizes', 'its size is within bounds', { field: 'sector count', value: sectors })
}
