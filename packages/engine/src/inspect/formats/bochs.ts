/** Bochs redologs. Facts: QEMU 7.2 `block/bochs.c` (behaviour and bounds). */

import { fields, isPower, latin1, name, stands } from '../../bytes/header.ts'
import { u64le } from '../../bytes/integers.ts'
import { atEnd, type Inspector, type Look, type View } from '../contract.ts'

const headerBytes = 512
const mostCatalog = 0x10_0000

/** The Bochs inspector. */
export const bochs: Inspector = { name: 'bochs', budget: 0, inspect }

function* inspect({ head, found }: View): Look {
  if (!stands(head, 'Bochs Virtual HD Image')) return
  const report = found('bochs', 'disk', '"Bochs Virtual HD Image" at 0')
  if (head.length < headerBytes) {
    report.failed('header', 'the header is cut', {
      field: 'bytes',
      value: head.length,
      rule: `at least ${headerBytes}`,
    })
    return
  }
  const header = fields(head, 0, headerBytes)
  const subtype = name(latin1(head, 48, 64))
  report.finding.subformat = subtype.toLowerCase()
  const version = header.getUint32(64, true)
  report.virtualSize(u64le(header, version === 0x10000 ? 84 : 88))
  const [catalogAt, catalog, bitmap, extent] = [68, 72, 76, 80].map((at) => header.getUint32(at, true)) as [
    number,
    number,
    number,
    number,
  ]
  const type = name(latin1(head, 32, 48))
  report.need(type === 'Redolog' && subtype === 'Growing', 'header', 'it is of another type', {
    field: 'type and subtype',
    value: `${type} ${subtype}`,
    rule: 'Redolog Growing',
  })
  // An undoable or volatile redolog is only the difference to another file.
  if (subtype === 'Undoable' || subtype === 'Volatile') {
    report.failed('parent-locator', 'it belongs to a parent', { field: 'subtype', value: subtype, rule: 'Growing' })
  } else report.passed('parent-locator', 'it belongs to no parent', { field: 'subtype', value: subtype })
  const known = version === 0x10000 || version === 0x20000
  report.need(known, 'header', 'its version is not known', {
    field: 'version',
    value: version,
    rule: '0x00010000 or 0x00020000',
  })
  report.need(isPower(extent, 512, 8 * 1024 * 1024), 'table-sizes', 'its extents have an impossible size', {
    field: 'extent size',
    value: extent,
    rule: 'a power of two from 512 to 8 MiB',
  })
  report.need(bitmap * 8 * 512 >= extent, 'table-sizes', 'its bitmaps do not cover an extent', {
    field: 'bitmap size',
    value: bitmap,
    rule: `at least ${Math.ceil(extent / 4096)}`,
  })
  report.need(catalog <= mostCatalog, 'table-sizes', 'its catalog is too large', {
    field: 'catalog entries',
    value: catalog,
    rule: `at most ${mostCatalog}`,
  })
  const wanted = Math.ceil((report.finding.virtualSize ?? 0) / Math.max(1, extent))
  report.need(catalog >= wanted, 'table-sizes', 'its catalog does not cover the disk', {
    field: 'catalog entries',
    value: catalog,
    rule: `at least ${wanted}`,
  })
  const { size } = yield* atEnd()
  report.need(catalogAt + catalog * 4 <= size, 'table-sizes', 'its catalog passes the end of the file', {
    field: 'header size + 4 * catalog entries',
    value: catalogAt + catalog * 4,
    rule: `at most ${size}`,
  })
  report.passed('header', 'its header is sound', { field: 'version', value: version })
  report.passed('table-sizes', 'its catalog is within bounds', { field: 'catalog entries', value: catalog })
}
