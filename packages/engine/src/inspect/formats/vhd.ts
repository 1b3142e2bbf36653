/** VHD: fixed (a footer at the end alone), dynamic and differencing (a copy of it in front). Facts: Microsoft's Virtual Hard Disk Image Format
 *  Specification 1.0; whose sizes are believed as QEMU 7.2 reads them. */

import { cut, fields, isPower, latin1, name, stands } from '../../bytes/header.ts'
import { u64be } from '../../bytes/integers.ts'
import { atEnd, type Inspector, type Look, region, type View } from '../contract.ts'
import type { Report } from '../finding.ts'

const footerBytes = 512
const headerBytes = 1024
const mostEntries = 2 ** 29
const mostGeometry = 65535 * 16 * 255
/** Creators whose size is that of the field, not that of the geometry. */
const exactCreators = ['win ', 'qem2', 'd2v', 'tap', 'CTXS', 'wa', 'vbox']
const typeNames: Record<number, string> = { 2: 'fixed', 3: 'dynamic', 4: 'differencing' }

/** A footer, or its copy. */
interface Footer {
  bytes: Uint8Array
  sound: boolean
  type: number
  dataOffset: number
  originalSize: number
  currentSize: number
  geometrySize: number
  virtualSize: number
  creator: string
}

/** The VHD inspector. */
export const vhd: Inspector = { name: 'vhd', budget: headerBytes, inspect }

function* inspect(view: View): Look {
  if (stands(view.head, 'conectix')) yield* inspectLeading(view)
  else yield* inspectTrailing(view)
}

/** Ones' complement of the sum of all bytes but the checksum's own.
 *  @param at Where the checksum stands. */
function isSummed(bytes: Uint8Array, at: number): boolean {
  let sum = 0
  for (const [index, byte] of bytes.entries()) if (index < at || index > at + 3) sum += byte
  return ~sum >>> 0 === fields(bytes, at, 4).getUint32(0)
}

function readFooter(bytes: Uint8Array): Footer {
  const view = fields(bytes, 0, footerBytes)
  const geometry = view.getUint16(56) * view.getUint8(58) * view.getUint8(59)
  const creator = latin1(bytes, 28, 32)
  const currentSize = u64be(view, 48)
  const exact = geometry === mostGeometry || exactCreators.some((known) => creator.startsWith(known))
  // Citrix sums the footer before it sets its own "hidden" byte.
  const hidden = creator.startsWith('tap') && (bytes[85] ?? 0) !== 0
  const summed = hidden ? bytes.map((byte, index) => (index === 85 ? 0 : byte)) : bytes
  return {
    bytes,
    sound: isSummed(bytes, 64) || (hidden && isSummed(summed, 64)),
    type: view.getUint32(60),
    dataOffset: u64be(view, 16),
    originalSize: u64be(view, 40),
    currentSize,
    geometrySize: geometry * 512,
    virtualSize: exact ? currentSize : geometry * 512,
    creator,
  }
}

function describe(report: Report, footer: Footer): void {
  report.virtualSize(footer.virtualSize)
  report.finding.subformat = typeNames[footer.type] ?? `type ${footer.type}`
  report.fact('creator', name(footer.creator))
}

function* inspectLeading({ head, found }: View): Look {
  const report = found('vhd', 'disk', 'cookie "conectix" at 0')
  if (head.length < footerBytes) {
    report.failed('header', 'the header is cut', {
      field: 'bytes',
      value: head.length,
      rule: `at least ${footerBytes}`,
    })
    return
  }
  const copy = readFooter(head.subarray(0, footerBytes))
  describe(report, copy)
  if (copy.type === 4) {
    const said = 'it is a differencing disk: it names a parent'
    report.failed('parent-locator', said, { field: 'disk type', value: 4, rule: '2 or 3' })
  }
  report.need(copy.sound, 'header', 'the checksum of the footer copy is wrong', {
    field: 'checksum',
    rule: 'that of the 512 bytes',
  })
  report.need(copy.type === 3 || copy.type === 4, 'header', 'its type is not one that begins with a footer copy', {
    field: 'disk type',
    value: copy.type,
    rule: '3 or 4',
  })
  const { bytes: header, missing } = yield* region(copy.dataOffset, headerBytes)
  if (header.length < headerBytes) {
    const rule = 'a dynamic disk header in the file'
    const place = { field: 'data offset', value: fields(copy.bytes, 16, 8).getBigUint64(0), rule }
    if (missing === 'end') report.failed('header', 'the dynamic disk header is cut or missing', place)
    else report.unknown('header', 'the dynamic disk header lies where it cannot be seen', place)
  } else checkDynamic(report, header, copy)
  const end = yield* atEnd()
  checkTrailing(report, end.tail, copy)
  const bat = fields(header, 16, 16)
  const batEnd = u64be(bat, 0) + bat.getUint32(12) * 4
  report.need(batEnd <= end.size, 'table-sizes', 'the block table passes the end of the file', {
    field: 'table offset + 4 * max table entries',
    value: batEnd,
    rule: `at most ${end.size}`,
  })
  report.passed('header', 'its header is sound', { field: 'disk type', value: copy.type })
  report.passed('parent-locator', 'it belongs to no parent', { field: 'disk type', value: copy.type })
  report.passed('table-sizes', 'its block table is within bounds', {
    field: 'max table entries',
    value: bat.getUint32(12),
  })
}

function checkDynamic(report: Report, header: Uint8Array, copy: Footer): void {
  const view = fields(header, 0, headerBytes)
  if (!stands(header, 'cxsparse')) {
    report.failed('header', 'there is no dynamic disk header', {
      field: 'cookie',
      value: name(latin1(header, 0, 8)),
      rule: 'cxsparse',
    })
    return
  }
  report.need(isSummed(header, 36), 'header', 'the checksum of the dynamic disk header is wrong', {
    field: 'checksum',
    rule: 'that of the 1024 bytes',
  })
  const entries = view.getUint32(28)
  const block = view.getUint32(32)
  report.need(isPower(block, 512, 2 ** 31), 'header', 'its blocks have an impossible size', {
    field: 'block size',
    value: block,
    rule: 'a power of two from 512',
  })
  const most = Math.max(1, mostEntries)
  report.need(entries <= most, 'table-sizes', 'the block table is too large', {
    field: 'max table entries',
    value: entries,
    rule: `at most ${most}`,
  })
  report.need(entries * block >= copy.virtualSize, 'table-sizes', 'the block table does not cover the disk', {
    field: 'max table entries',
    value: entries,
    rule: `at least ${Math.ceil(copy.virtualSize / Math.max(1, block))}`,
  })
  const parent = name(new TextDecoder('utf-16be').decode(header.subarray(64, 576)))
  if (copy.type === 4 && parent !== '') report.fact('parent', parent)
  const locators = Array.from({ length: 8 }, (_, index) => view.getUint32(576 + 24 * index)).filter(
    (code) => code !== 0,
  )
  if (locators.length > 0) report.fact('parentLocators', locators.length)
  report.need(
    locators.length === 0 || copy.type === 4,
    'parent-locator',
    'it has parent locators though it is no differencing disk',
    {
      field: 'parent locators',
      value: locators.length,
      rule: '0',
    },
  )
}

/** The footer that should end the file, and agree with the copy in front. */
function checkTrailing(report: Report, tail: Uint8Array, copy: Footer): void {
  const bytes = tail.subarray(-footerBytes)
  if (tail.length < footerBytes || !stands(bytes, 'conectix')) {
    report.unknown('footer', 'the footer at the end is missing, only its copy is there', {
      field: 'cookie',
      rule: 'conectix at the end',
    })
    return
  }
  const footer = readFooter(bytes)
  report.need(footer.sound, 'footer', 'the checksum of the footer is wrong', {
    field: 'checksum',
    rule: 'that of the 512 bytes',
  })
  for (const field of ['type', 'dataOffset', 'currentSize', 'geometrySize'] as const) {
    report.need(footer[field] === copy[field], 'footer', 'the footer and its copy do not agree', {
      field,
      value: footer[field],
      rule: `${copy[field]}, as in the copy`,
    })
  }
  report.passed('footer', 'the footer and its copy agree')
}

/** A fixed disk shows itself at the end alone. A cookie could be left over from something else: checksum, type and size must fit too. */
function* inspectTrailing({ head, found }: View): Look {
  const { size, tail } = yield* atEnd()
  for (const length of [footerBytes, footerBytes - 1]) {
    // Virtual PC before 2004 wrote 511 bytes.
    if (length === footerBytes - 1 && size % 512 !== footerBytes - 1) continue
    const written = tail.subarray(-length)
    if (tail.length < length || !stands(written, 'conectix')) continue
    const footer = readFooter(cut(written, 0, footerBytes))
    if (!footer.sound) continue
    const data = size - length
    if (footer.type === 2) {
      if (![footer.currentSize, footer.originalSize, footer.geometrySize].includes(data)) continue
      const report = found(
        'vhd',
        'disk',
        `cookie "conectix" in the last ${length} bytes, checksum, type and size fit`,
        'tail',
      )
      describe(report, footer)
      report.virtualSize(Math.min(data, Math.max(footer.currentSize, footer.virtualSize)))
      report.passed('footer', 'the footer fits the file', { field: 'current size', value: footer.currentSize })
      report.passed('parent-locator', 'it belongs to no parent', { field: 'disk type', value: 2 })
      return
    }
    if (Number.isSafeInteger(footer.dataOffset) && stands(head, 'cxsparse', footer.dataOffset)) {
      const report = found(
        'vhd',
        'disk',
        `cookie "conectix" in the last ${length} bytes, "cxsparse" at ${footer.dataOffset}`,
        'tail',
      )
      describe(report, footer)
      report.failed('footer', 'the copy of the footer in front is missing', { field: 'cookie', rule: 'conectix at 0' })
      return
    }
  }
}
