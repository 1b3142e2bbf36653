/** cloop version 2: a compressed loop device. Facts: QEMU 7.2 `block/cloop.c` (behaviour and bounds). */

import { fields, stands } from '../../bytes/header.ts'
import { u64be } from '../../bytes/integers.ts'
import { atEnd, type Inspector, type Look, type View } from '../contract.ts'

const headerBytes = 136
const mostBlockBytes = 64 * 1024 * 1024
const mostTableBytes = 512 * 1024 * 1024

/** The cloop inspector. */
export const cloop: Inspector = { name: 'cloop', budget: 0, inspect }

function* inspect({ head, found }: View): Look {
  if (!stands(head, '#!/bin/sh\n#V2.0 Format\nmodprobe cloop')) return
  const report = found('cloop', 'disk', 'the script of "#V2.0 Format" at 0')
  if (head.length < headerBytes) {
    report.failed('header', 'the header is cut', {
      field: 'bytes',
      value: head.length,
      rule: `at least ${headerBytes}`,
    })
    return
  }
  const header = fields(head, 128, 8)
  const block = header.getUint32(0)
  const blocks = header.getUint32(4)
  report.virtualSize(block * blocks)
  report.need(
    block > 0 && block % 512 === 0 && block <= mostBlockBytes,
    'header',
    'its blocks have an impossible size',
    {
      field: 'block size',
      value: block,
      rule: 'a multiple of 512 up to 64 MiB',
    },
  )
  const tableBytes = (blocks + 1) * 8
  report.need(tableBytes <= mostTableBytes, 'table-sizes', 'its table of offsets is too large', {
    field: 'blocks',
    value: blocks,
    rule: `at most ${mostTableBytes / 8 - 1}`,
  })
  const { size } = yield* atEnd()
  report.need(headerBytes + tableBytes <= size, 'table-sizes', 'its table of offsets passes the end of the file', {
    field: 'blocks',
    value: blocks,
    rule: `within ${size} bytes`,
  })
  // As many offsets as the head holds: they rise, by at most two blocks.
  let before = headerBytes + tableBytes
  for (let index = 0; index <= blocks; index++) {
    const at = headerBytes + index * 8
    if (at + 8 > head.length) break
    const offset = u64be(fields(head, at, 8), 0)
    const rises = index === 0 || (offset >= before && offset - before <= 2 * block)
    report.need(rises, 'table-sizes', 'its offsets do not rise by sane steps', {
      field: `offset ${index}`,
      value: offset,
      rule: 'up to two blocks more than the one before',
    })
    if (!rises) break
    before = offset
  }
  report.passed('header', 'its header is sound', { field: 'block size', value: block })
  report.passed('table-sizes', 'its table of offsets is within bounds', { field: 'blocks', value: blocks })
}
