/** Parallels HDD images, both magics. Facts: QEMU's docs/interop/parallels.txt. */

import { fields, stands } from '../../bytes/header.ts'
import { u64le } from '../../bytes/integers.ts'
import { atEnd, type Inspector, type Look, region, type View } from '../contract.ts'
import type { Report } from '../finding.ts'

const headerBytes = 64
const sector = 512
/** QEMU's bound: a table of 2 GiB. */
const mostEntries = (2 ** 31 - 512) / 4
const extensionBytes = 4096
const extensionMagic = 0xab234cef23dcea87n
/** Dirty bitmaps. */
const knownSections = new Set([0x20385fae252cb34an])

/** The Parallels inspector. */
export const parallels: Inspector = { name: 'parallels', budget: extensionBytes, inspect }

function* inspect({ head, found }: View): Look {
  const old = stands(head, 'WithoutFreeSpace')
  if (!old && !stands(head, 'WithouFreSpacExt')) return
  const report = found('parallels', 'disk', `magic "${old ? 'WithoutFreeSpace' : 'WithouFreSpacExt'}" at 0`)
  if (head.length < headerBytes) {
    report.failed('header', 'the header is cut', {
      field: 'bytes',
      value: head.length,
      rule: `at least ${headerBytes}`,
    })
    return
  }
  const header = fields(head, 0, headerBytes)
  const [version, tracks, entries] = [16, 28, 32].map((at) => header.getUint32(at, true)) as [number, number, number]
  const sectors = old ? header.getUint32(36, true) : u64le(header, 36)
  report.virtualSize(sectors * sector)
  report.need(version === 2, 'header', 'its version is not known', { field: 'version', value: version, rule: '2' })
  report.need(tracks > 0, 'header', 'its clusters have an impossible size', {
    field: 'tracks',
    value: tracks,
    rule: 'at least 1',
  })
  const need = (holds: boolean, said: string, value: number, rule: string) =>
    report.need(holds, 'table-sizes', said, { field: 'BAT entries', value, rule })
  const wanted = Math.ceil(sectors / Math.max(1, tracks))
  need(entries >= wanted, 'its block table does not cover the disk', entries, `at least ${wanted}`)
  need(entries <= mostEntries, 'its block table is too large', entries, `at most ${mostEntries}`)
  yield* inspectExtension(report, u64le(header, 56) * sector)
  const { size } = yield* atEnd()
  need(headerBytes + entries * 4 <= size, 'its block table passes the end of the file', entries, `within ${size} bytes`)
  report.passed('header', 'its header is sound', { field: 'version', value: version })
  report.passed('table-sizes', 'its block table is within bounds', { field: 'BAT entries', value: entries })
}

/** The sections of a format extension, as far as its first page goes. */
function* inspectExtension(report: Report, offset: number): Look {
  if (offset === 0) {
    report.passed('unknown-features', 'it needs no unknown feature', { field: 'ext_off', value: 0 })
    return
  }
  const place = { field: 'ext_off', value: offset, rule: 'a format extension that can be seen' }
  const { bytes, missing } = yield* region(offset, extensionBytes)
  const view = fields(bytes, 0, extensionBytes)
  if (bytes.length < 64 || view.getBigUint64(0, true) !== extensionMagic) {
    if (missing === 'behind') report.unknown('unknown-features', 'its format extension cannot be seen', place)
    else report.failed('header', 'its format extension is missing', place)
    return
  }
  for (let at = 24; at + 24 <= bytes.length; ) {
    const magic = view.getBigUint64(at, true)
    if (magic === 0n) break
    const needed = (view.getBigUint64(at + 8, true) & 1n) !== 0n
    report.need(
      knownSections.has(magic) || !needed,
      'unknown-features',
      'it has an unknown feature that is necessary',
      {
        field: 'feature section',
        value: `0x${magic.toString(16)}`,
        rule: 'known, or not necessary',
      },
    )
    at += 24 + Math.ceil(view.getUint32(at + 16, true) / 8) * 8
  }
  report.passed('unknown-features', 'it needs no unknown feature', { field: 'ext_off', value: offset })
}
