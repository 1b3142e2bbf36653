/** VMDK: hosted sparse files, stream-optimized ones with their footer, ESX's COWD and seSparse extents, and descriptors on their own. Facts: VMware's Virtual
 *  Disk Format 5.0; bounds as QEMU 7.2 `block/vmdk.c` has them. */

import { fields, isPower, nameAt, stands } from '../../bytes/header.ts'
import { u64le } from '../../bytes/integers.ts'
import { atEnd, type End, type Inspector, type Look, region, type View } from '../contract.ts'
import type { Report } from '../finding.ts'
import { judgeEmbedded, judgeText, textEvidence } from './vmdk-descriptor.ts'

const sector = 512
const mostDescriptorBytes = 1024 * 1024 - 1
const footerBytes = 3 * sector
const mostGrainSectors = 0x200000
const mostDirectoryEntries = 32 * 1024 * 1024
const mostTableEntries = 512
const atEndMark = 0xffff_ffff_ffff_ffffn
/** Newline test, redundant directory, zeroed grains, compressed, markers. */
const knownFlags = 0x30007

/** The VMDK inspector. */
export const vmdk: Inspector = { name: 'vmdk', budget: mostDescriptorBytes, inspect }

function* inspect(view: View): Look {
  const { head, found } = view
  if (stands(head, 'KDMV')) {
    yield* inspectSparse(view)
    return
  }
  if (stands(head, 'COWD')) {
    inspectCowd(found('vmdk', 'disk', 'magic "COWD" at 0'), head)
    return
  }
  if (stands(head, '\xbe\xba\xfe\xca\0\0\0\0')) {
    const report = found('vmdk', 'disk', 'magic 0xcafebabe at 0')
    report.finding.subformat = 'seSparse'
    report.virtualSize(u64le(fields(head, 16, 8), 0) * sector)
    const rule = 'a file that stands alone'
    report.failed('descriptor', 'there is no descriptor in it: the subformat seSparse is not taken', {
      field: 'magic',
      rule,
    })
    return
  }
  const evidence = textEvidence(head)
  if (evidence !== undefined) {
    judgeText(found('vmdk', 'disk', evidence), head)
    return
  }
  const end = yield* atEnd()
  if (!hasFooter(end)) return
  const report = found('vmdk', 'disk', 'a footer marker, magic "KDMV" and an end marker in the last 1536 bytes', 'tail')
  report.virtualSize(u64le(fields(end.tail, end.tail.length - 1024 + 12, 8), 0) * sector)
  report.failed('header', 'it has a footer only', { field: 'magic', rule: '"KDMV" at 0 too' })
}

function inspectCowd(report: Report, head: Uint8Array): void {
  report.finding.subformat = 'vmfsSparse'
  report.virtualSize(fields(head, 12, 4).getUint32(0, true) * sector)
  const rule = 'a file that stands alone'
  report.failed('descriptor', 'there is no descriptor in it: the subformat COWD is not taken', { field: 'magic', rule })
  const parent = nameAt(head, 32, 1024)
  if (/[\w-]{3}/.test(parent)) {
    report.fact('parent', parent)
    report.failed('parent-locator', 'it names a parent', { field: 'parent file name', value: parent, rule: 'none' })
  }
}

function* inspectSparse({ head, found }: View): Look {
  const report = found('vmdk', 'disk', 'magic "KDMV" at 0')
  if (head.length < sector) {
    report.failed('header', 'the header is cut', { field: 'bytes', value: head.length, rule: `at least ${sector}` })
    return
  }
  const header = fields(head, 0, sector)
  report.virtualSize(u64le(header, 12) * sector)
  checkHeader(report, header)
  const descriptorAt = u64le(header, 28)
  const sectors = header.getBigUint64(36, true)
  if (descriptorAt === 1) {
    const length = Math.min(u64le(header, 36) * sector, mostDescriptorBytes)
    const { bytes, missing } = yield* region(sector, length)
    judgeEmbedded(report, bytes)
    const place = { field: 'descriptorSize', value: sectors, rule: 'sectors that are there' }
    if (length > 0 && bytes.length < length && missing === 'end')
      report.failed('descriptor', 'the descriptor is cut', place)
  } else if (descriptorAt === 0) {
    const rule = 'the sector of one, which is 1'
    report.failed('descriptor', 'there is no descriptor in it: it is a part of another image', {
      field: 'descriptorOffset',
      value: 0,
      rule,
    })
  } else {
    const value = header.getBigUint64(28, true)
    report.failed('descriptor', 'the descriptor is not in sector 1', { field: 'descriptorOffset', value, rule: '1' })
  }
  const end = yield* atEnd()
  checkPlaces(report, header, end.size)
  checkFooter(report, header, end)
  report.passed('header', 'its header is sound', { field: 'version', value: header.getUint32(4, true) })
  report.passed('table-sizes', 'its tables are within bounds')
}

function checkHeader(report: Report, header: DataView): void {
  const version = header.getUint32(4, true)
  const flags = header.getUint32(8, true)
  const capacity = u64le(header, 12)
  const grain = u64le(header, 20)
  const entries = header.getUint32(44, true)
  const need = (holds: boolean, said: string, field: string, value: number | bigint | string, rule: string) =>
    report.need(holds, 'header', said, { field, value, rule })
  need(version >= 1 && version <= 3, `version ${version} is not known`, 'version', version, '1, 2 or 3')
  need(
    Number.isSafeInteger(capacity * sector),
    'its size is beyond what a disk can have',
    'capacity',
    header.getBigUint64(12, true),
    'at most 2^44',
  )
  need(
    isPower(grain, 1, mostGrainSectors),
    'its grains have an impossible size',
    'grainSize',
    header.getBigUint64(20, true),
    'a power of two to 2097152 sectors',
  )
  need(
    entries >= 1 && entries <= mostTableEntries,
    'its grain tables have an impossible size',
    'numGTEsPerGT',
    entries,
    '1 to 512',
  )
  const newlines = header.getUint32(73)
  need(
    (flags & 1) === 0 || newlines === 0x0a200d0a,
    'its line ends were converted',
    'newline test',
    newlines,
    '0a 20 0d 0a',
  )
  const method = header.getUint16(77, true)
  const packed = (flags & 0x10000) !== 0
  need(method <= 1, 'its compression is not known', 'compressAlgorithm', method, '0 or 1')
  need(
    !packed || method === 1,
    'its compression and its flags do not agree',
    'compressAlgorithm',
    method,
    '1, as flag 0x10000 says',
  )
  const unknown = (flags & ~knownFlags) >>> 16
  const place = { field: 'flags', value: `0x${flags.toString(16)}` }
  if (unknown !== 0)
    report.failed('unknown-features', 'it has unknown incompatible flags', { ...place, rule: 'none but 0x30007' })
  else report.passed('unknown-features', 'it needs no unknown feature', place)
  const directory = Math.ceil(capacity / Math.max(1, grain * entries))
  report.need(directory <= mostDirectoryEntries, 'table-sizes', 'its grain directory is too large', {
    field: 'capacity / (grainSize * numGTEsPerGT)',
    value: directory,
    rule: `at most ${mostDirectoryEntries}`,
  })
}

/** What the header points to lies within the file. */
function checkPlaces(report: Report, header: DataView, size: number): void {
  const need = (holds: boolean, field: string, value: bigint | number) =>
    report.need(holds, 'table-sizes', 'it points past the end of the file', {
      field,
      value,
      rule: `within ${size} bytes`,
    })
  const entries = Math.ceil(u64le(header, 12) / Math.max(1, u64le(header, 20) * header.getUint32(44, true)))
  need(u64le(header, 64) * sector <= size, 'overHead', header.getBigUint64(64, true))
  if (header.getBigUint64(56, true) !== atEndMark) {
    need(u64le(header, 56) * sector + entries * 4 <= size, 'gdOffset', header.getBigUint64(56, true))
  }
  if ((header.getUint32(8, true) & 2) !== 0) {
    need(u64le(header, 48) * sector + entries * 4 <= size, 'rgdOffset', header.getBigUint64(48, true))
  }
}

/** Whether the file ends in a footer marker, a footer and an end marker. */
function hasFooter({ tail }: End): boolean {
  const at = tail.length - footerBytes
  if (at < 0 || !stands(tail, 'KDMV', at + sector)) return false
  const marker = fields(tail, at, 16)
  const ends = tail.subarray(at + 2 * sector).every((byte) => byte === 0)
  return marker.getUint32(12, true) === 3 && marker.getBigUint64(0, true) === 1n && ends
}

/** The footer counts more than the header where the header says that the directory is at the end; so both must say the same. */
function checkFooter(report: Report, header: DataView, end: End): void {
  const expected = header.getBigUint64(56, true) === atEndMark
  const there = hasFooter(end)
  const place = { field: 'gdOffset', value: header.getBigUint64(56, true) }
  if (!there) {
    if (expected) {
      report.failed('footer', 'header and footer do not agree: the footer is missing', {
        ...place,
        rule: 'a footer in the last 1536 bytes',
      })
    } else report.passed('footer', 'it has no footer and needs none', place)
    return
  }
  const footer = fields(end.tail, end.tail.length - 2 * sector, sector)
  for (const [field, at, bytes] of [
    ['version', 4, 4],
    ['flags', 8, 4],
    ['capacity', 12, 8],
    ['grainSize', 20, 8],
    ['descriptorOffset', 28, 8],
    ['descriptorSize', 36, 8],
    ['numGTEsPerGT', 44, 4],
  ] as const) {
    const [a, b] = [header, footer].map((view) =>
      bytes === 4 ? view.getUint32(at, true) : view.getBigUint64(at, true),
    )
    report.need(a === b, 'footer', 'header and footer do not agree', {
      field,
      value: b as bigint,
      rule: `${a}, as in the header`,
    })
  }
  const directory = footer.getBigUint64(56, true)
  report.need(
    directory !== atEndMark,
    'footer',
    'header and footer do not agree: neither says where the directory is',
    {
      field: 'gdOffset of the footer',
      value: directory,
      rule: 'a sector',
    },
  )
  report.need(u64le(footer, 56) * sector <= end.size, 'table-sizes', 'it points past the end of the file', {
    field: 'gdOffset of the footer',
    value: directory,
    rule: `within ${end.size} bytes`,
  })
  report.passed('footer', 'header and footer agree')
}
