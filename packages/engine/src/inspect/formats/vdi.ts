/** VDI, VirtualBox's format. Facts: VirtualBox's public headers (VDI core), QEMU 7.2 `block/vdi.c` (bounds). */

import { fields, isPower, stands } from '../../bytes/header.ts'
import { divideUp, u64le } from '../../bytes/integers.ts'
import { atEnd, type Inspector, type Look, type View } from '../contract.ts'

const headerBytes = 0x178
const mostBlocks = 0x1fff_ff80
const types: Record<number, string> = { 1: 'dynamic', 2: 'fixed', 3: 'undo', 4: 'differencing' }

/** The VDI inspector. */
export const vdi: Inspector = { name: 'vdi', budget: 0, inspect }

function* inspect({ head, found }: View): Look {
  if (!stands(head, '\x7f\x10\xda\xbe', 64)) return
  const report = found('vdi', 'disk', 'signature 0xbeda107f at 64')
  if (head.length < headerBytes) {
    report.failed('header', 'the header is cut', {
      field: 'bytes',
      value: head.length,
      rule: `at least ${headerBytes}`,
    })
    return
  }
  const header = fields(head, 0, 512)
  const u32 = (at: number) => header.getUint32(at, true)
  const size = u64le(header, 368)
  report.virtualSize(size)
  const type = u32(76)
  report.finding.subformat = types[type] ?? `type ${type}`
  const linked = cutIsZero(head, 424, 32)
  if (type === 3 || type === 4) {
    const said = 'it is an undo or differencing image: it belongs to a parent'
    report.failed('parent-locator', said, { field: 'image type', value: type, rule: '1 or 2' })
  } else if (!linked) report.failed('parent-locator', 'it names a parent', { field: 'UUID link', rule: 'zero' })
  else report.passed('parent-locator', 'it belongs to no parent', { field: 'image type', value: type })
  const version = u32(68)
  const need = (holds: boolean, said: string, field: string, value: number, rule: string) =>
    report.need(holds, 'header', said, { field, value, rule })
  need(type >= 1 && type <= 4, 'its type is not known', 'image type', type, '1 to 4')
  need(version === 0x10001, 'its version is not known', 'version', version, '0x00010001')
  const block = u32(376)
  const sane = isPower(block, 512, 2 ** 31)
  need(sane, 'its blocks have an impossible size', 'block size', block, 'a power of two, usually 1 MiB')
  const sector = u32(360)
  need(sector === 512 || sector === 0, 'its sectors have an impossible size', 'sector size', sector, '512')
  const [map, data, blocks] = [u32(340), u32(344), u32(384)]
  need(
    map >= 0x180 && map % 512 === 0,
    'its block map lies at an impossible place',
    'block map offset',
    map,
    'a multiple of 512',
  )
  need(data % 512 === 0, 'its data lies at an impossible place', 'data offset', data, 'a multiple of 512')
  report.passed('header', 'its header is sound', { field: 'version', value: version })
  if (!sane) return
  const wanted = divideUp(size, block)
  report.need(blocks >= wanted, 'table-sizes', 'its block map does not cover the disk', {
    field: 'blocks',
    value: blocks,
    rule: `at least ${wanted}`,
  })
  report.need(blocks <= mostBlocks, 'table-sizes', 'its block map is too large', {
    field: 'blocks',
    value: blocks,
    rule: `at most ${mostBlocks}`,
  })
  const end = yield* atEnd()
  report.need(map + blocks * 4 <= end.size, 'table-sizes', 'its block map passes the end of the file', {
    field: 'block map offset + 4 * blocks',
    value: map + blocks * 4,
    rule: `at most ${end.size}`,
  })
  report.passed('table-sizes', 'its block map is within bounds', { field: 'blocks', value: blocks })
}

function cutIsZero(bytes: Uint8Array, offset: number, length: number): boolean {
  return bytes.subarray(offset, offset + length).every((byte) => byte === 0)
}
