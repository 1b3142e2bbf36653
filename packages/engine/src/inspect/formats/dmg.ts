/** Apple disk images: UDIF by its trailer, encrypted and sparse ones by their header. Facts: QEMU 7.2 `block/dmg.c`, public descriptions of the `koly` block. */

import { fields, stands } from '../../bytes/header.ts'
import { u64be } from '../../bytes/integers.ts'
import { atEnd, type Inspector, type Look, type View } from '../contract.ts'

const trailerBytes = 512
const mostTableBytes = 16 * 1024 * 1024

/** The DMG inspector. */
export const dmg: Inspector = { name: 'dmg', budget: 0, inspect }

function* inspect({ head, found }: View): Look {
  if (stands(head, 'encrcdsa')) {
    found('dmg', 'disk', '"encrcdsa" at 0').finding.subformat = 'encrypted'
    return
  }
  if (stands(head, 'sprs') && fields(head, 4, 4).getUint32(0) === 3) {
    found('dmg', 'disk', '"sprs" at 0, version 3').finding.subformat = 'sparseimage'
    return
  }
  const { size, tail } = yield* atEnd()
  const at = findTrailer(tail)
  if (at === undefined) return
  const trailer = fields(tail, at, trailerBytes)
  const report = found('dmg', 'disk', `"koly" at ${size - tail.length + at}, version 4`, 'tail')
  report.finding.subformat = 'udif'
  const sectors = u64be(trailer, 0x1ec)
  report.virtualSize(sectors * 512)
  const start = size - tail.length + at
  for (const [field, offsetAt, lengthAt] of [
    ['data fork', 0x18, 0x20],
    ['resource fork', 0x28, 0x30],
    ['plist', 0xd8, 0xe0],
  ] as const) {
    const [offset, length] = [u64be(trailer, offsetAt), u64be(trailer, lengthAt)]
    report.need(offset + length <= start, 'footer', 'the trailer points past itself', {
      field,
      value: trailer.getBigUint64(lengthAt),
      rule: `within ${start} bytes`,
    })
    if (field === 'data fork') continue
    report.need(length <= mostTableBytes, 'table-sizes', 'its block tables are too large', {
      field: `${field} length`,
      value: trailer.getBigUint64(lengthAt),
      rule: `at most ${mostTableBytes}`,
    })
  }
  const segments = trailer.getUint32(0x3c)
  report.need(segments <= 1, 'external-extents', 'it is one of several segments', {
    field: 'segment count',
    value: segments,
    rule: '1',
  })
  report.passed('external-extents', 'all its data is in this file', { field: 'segment count', value: segments })
  report.passed('footer', 'its trailer fits the file', { field: 'sector count', value: sectors })
  report.passed('table-sizes', 'its block tables are within bounds')
}

/** Files of odd length exist, so the trailer may begin up to 1023 bytes before the end. The latest one counts. */
function findTrailer(tail: Uint8Array): number | undefined {
  for (let at = tail.length - trailerBytes; at >= Math.max(0, tail.length - 2 * trailerBytes + 1); at--) {
    if (!stands(tail, 'koly', at)) continue
    const trailer = fields(tail, at, 12)
    if (trailer.getUint32(4) === 4 && trailer.getUint32(8) === trailerBytes) return at
  }
  return undefined
}
