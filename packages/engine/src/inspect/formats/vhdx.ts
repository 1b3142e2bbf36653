/** VHDX. Facts: Microsoft's MS-VHDX; bounds as QEMU 7.2 `block/vhdx.c` has them. */
import { crc32cWithout } from '../../bytes/crc32c.ts'
import { readGuid, zeroGuid } from '../../bytes/guid.ts'
import { isPower, name, nameAt, stands } from '../../bytes/header.ts'
import { u64le, viewOf } from '../../bytes/integers.ts'
import { atEnd, type Inspector, type Look, region, type View } from '../contract.ts'
import type { Report } from '../finding.ts'

const KiB = 1024
const MiB = 1024 * KiB
const headerBytes = 4 * KiB
const tableBytes = 64 * KiB
const mostEntries = 2047
const mostSize = 64 * 1024 * 1024 * MiB

const batRegion = '2dc27766-f623-4200-9d64-115e9bfd4a08'
const metadataRegion = '8b7ca206-4790-4b9a-b8fe-575f050f886e'
const fileParameters = 'caa16737-fa36-4d43-b3b6-33f0aa44e76b'
const diskSize = '2fa54224-cd1b-4876-b211-5dbed83bf4b8'
const diskId = 'beca12ab-b2e6-4523-93ef-c309e000c746'
const logicalSector = '8141bf1d-a96f-4709-ba47-f233a8faab5f'
const physicalSector = 'cda348c7-445d-4471-9cc9-e9885251c556'
const parentLocator = 'a8d35f2d-b30b-454d-abf7-d3d84834ab0c'
const knownItems = new Set([fileParameters, diskSize, diskId, logicalSector, physicalSector, parentLocator])

/** The VHDX inspector. */
export const vhdx: Inspector = { name: 'vhdx', budget: 256 * KiB, inspect }

function* inspect({ head, found }: View): Look {
  if (!stands(head, 'vhdxfile')) return
  const report = found('vhdx', 'disk', 'signature "vhdxfile" at 0')
  const creator = name(new TextDecoder('utf-16le').decode(head.subarray(8, 520)))
  if (creator !== '') report.fact('creator', creator)
  const first = yield* region(64 * KiB, headerBytes)
  const second = yield* region(128 * KiB, headerBytes)
  checkHeaders(report, [first.bytes, second.bytes])
  const tables = [yield* region(192 * KiB, tableBytes), yield* region(256 * KiB, tableBytes)]
  const table = tables.map(({ bytes }) => bytes).find((bytes) => bytes.length === tableBytes && isTable(bytes))
  if (table === undefined) {
    const place = { field: 'region table', rule: 'one of two with "regi" and its checksum' }
    report.failed('header', 'its metadata cannot be found: there is no region table', place)
    return
  }
  const regions = readRegions(report, table)
  const metadata = regions.get(metadataRegion)
  if (metadata === undefined) {
    report.failed('header', 'its metadata cannot be found: no region has it', {
      field: 'region table',
      rule: 'a metadata region',
    })
    return
  }
  const { bytes } = yield* region(metadata.offset, Math.min(metadata.length, tableBytes))
  yield* readMetadata(report, bytes, metadata, regions.get(batRegion))
  const { size } = yield* atEnd()
  for (const [id, { offset, length }] of regions) {
    report.need(offset + length <= size, 'table-sizes', 'a region passes the end of the file', {
      field: `region ${id}`,
      value: offset + length,
      rule: `at most ${size}`,
    })
  }
  report.passed('header', 'its headers and tables are sound')
  report.passed('unknown-features', 'it needs no unknown region or metadata item')
  report.passed('table-sizes', 'its tables are within bounds')
}

function checkHeaders(report: Report, headers: Uint8Array[]): void {
  let best: DataView | undefined
  for (const bytes of headers) {
    if (bytes.length < headerBytes || !stands(bytes, 'head')) continue
    const view = viewOf(bytes)
    if (crc32cWithout(bytes, 4) !== view.getUint32(4, true) || view.getUint16(66, true) !== 1) continue
    if (best === undefined || view.getBigUint64(8, true) > best.getBigUint64(8, true)) best = view
  }
  if (best === undefined) {
    report.failed('header', 'neither of its two headers is valid', {
      field: 'header',
      rule: '"head", version 1 and a fitting CRC-32C',
    })
    return
  }
  const log = readGuid(new Uint8Array(best.buffer, best.byteOffset, headerBytes), 48)
  if (log === zeroGuid) report.passed('log', 'its log is empty', { field: 'LogGuid', value: log })
  else {
    const said = 'its log was not replayed: what it will change, metadata perhaps, is not seen'
    report.unknown('log', said, { field: 'LogGuid', value: log, rule: 'zero' })
  }
}

function isTable(bytes: Uint8Array): boolean {
  return stands(bytes, 'regi') && crc32cWithout(bytes, 4) === viewOf(bytes).getUint32(4, true)
}

function readRegions(report: Report, bytes: Uint8Array): Map<string, { offset: number; length: number }> {
  const regions = new Map<string, { offset: number; length: number }>()
  const view = viewOf(bytes)
  const count = view.getUint32(8, true)
  const rule = `at most ${mostEntries}`
  report.need(count <= mostEntries, 'table-sizes', 'there are too many regions', {
    field: 'EntryCount',
    value: count,
    rule,
  })
  for (let index = 0; index < Math.min(count, mostEntries); index++) {
    const at = 16 + 32 * index
    const id = readGuid(bytes, at)
    const place = { field: 'region', value: id }
    if (id !== batRegion && id !== metadataRegion) {
      const required = (view.getUint32(at + 28, true) & 1) !== 0
      report.need(!required, 'unknown-features', 'it needs a region of unknown kind', {
        ...place,
        rule: 'none that is required',
      })
      continue
    }
    report.need(!regions.has(id), 'header', 'it has a region twice', { ...place, rule: 'once' })
    const offset = u64le(view, at + 16)
    const length = view.getUint32(at + 24, true)
    report.need(
      offset >= MiB && offset % MiB === 0 && length % MiB === 0,
      'header',
      'a region lies at an impossible place',
      {
        field: `offset of region ${id}`,
        value: view.getBigUint64(at + 16, true),
        rule: 'whole MiB, not the first',
      },
    )
    if (!regions.has(id)) regions.set(id, { offset, length })
  }
  return regions
}

function* readMetadata(
  report: Report,
  bytes: Uint8Array,
  place: { offset: number; length: number },
  bat: { offset: number; length: number } | undefined,
): Look {
  if (bytes.length < tableBytes || !stands(bytes, 'metadata')) {
    report.failed('header', 'its metadata is cut or missing', {
      field: 'metadata region',
      value: place.offset,
      rule: '"metadata"',
    })
    return
  }
  const view = viewOf(bytes)
  const count = view.getUint16(10, true)
  const rule = `at most ${mostEntries}`
  report.need(count <= mostEntries, 'table-sizes', 'there are too many metadata items', {
    field: 'EntryCount',
    value: count,
    rule,
  })
  const items = new Map<string, { offset: number; length: number }>()
  for (let index = 0; index < Math.min(count, mostEntries); index++) {
    const at = 32 + 32 * index
    const id = readGuid(bytes, at)
    const flags = view.getUint32(at + 24, true)
    if (!knownItems.has(id)) {
      const said = 'it needs a metadata item of unknown kind'
      report.need((flags & 4) === 0, 'unknown-features', said, {
        field: 'metadata item',
        value: id,
        rule: 'none that is required',
      })
      continue
    }
    report.need(!items.has(id), 'header', 'it has a metadata item twice', {
      field: 'metadata item',
      value: id,
      rule: 'once',
    })
    const item = { offset: view.getUint32(at + 16, true), length: view.getUint32(at + 20, true) }
    const fits = item.offset >= tableBytes && item.offset + item.length <= place.length && item.length <= MiB
    report.need(fits, 'table-sizes', 'a metadata item passes its region', {
      field: 'metadata item',
      value: id,
      rule: 'within its region',
    })
    if (!items.has(id) && fits) items.set(id, item)
  }
  // In the order in which they lie, as they come by.
  const values = new Map<string, Uint8Array>()
  for (const [id, { offset, length }] of [...items].sort(([, a], [, b]) => a.offset - b.offset)) {
    const { bytes: value, whole } = yield* region(
      place.offset + offset,
      Math.min(length, id === parentLocator ? 4 * KiB : 16),
    )
    if (whole) values.set(id, value)
  }
  judgeMetadata(report, values, items.has(parentLocator), bat)
}

function judgeMetadata(
  report: Report,
  values: ReadonlyMap<string, Uint8Array>,
  hasLocator: boolean,
  bat: { offset: number; length: number } | undefined,
): void {
  const number = (id: string, bytes: 4 | 8, at = 0): number | undefined => {
    const value = values.get(id)
    if (value === undefined || value.length < at + bytes) return undefined
    return bytes === 4 ? viewOf(value).getUint32(at, true) : u64le(viewOf(value), at)
  }
  const block = number(fileParameters, 4)
  const flags = number(fileParameters, 4, 4)
  const size = number(diskSize, 8)
  if (block === undefined || flags === undefined || size === undefined) {
    report.failed('header', 'its metadata is cut', {
      field: 'metadata item',
      rule: 'file parameters and virtual disk size',
    })
    return
  }
  report.virtualSize(size)
  const hasParent = (flags & 2) !== 0
  report.finding.subformat = hasParent ? 'differencing' : (flags & 1) !== 0 ? 'fixed' : 'dynamic'
  const place = { field: 'HasParent', value: hasParent ? 1 : 0, rule: '0' }
  if (hasParent) report.failed('parent-locator', 'it is a differencing disk: it names a parent', place)
  else if (hasLocator)
    report.failed('parent-locator', 'it has a parent locator though it is no differencing disk', place)
  else report.passed('parent-locator', 'it belongs to no parent', place)
  const locator = values.get(parentLocator)
  if (locator !== undefined) report.fact('parent', parentPath(locator))
  const sector = number(logicalSector, 4) ?? 512
  report.need(sector === 512 || sector === 4096, 'header', 'its sectors have an impossible size', {
    field: 'LogicalSectorSize',
    value: sector,
    rule: '512 or 4096',
  })
  report.need(isPower(block, MiB, 256 * MiB), 'table-sizes', 'its blocks have an impossible size', {
    field: 'BlockSize',
    value: block,
    rule: 'a power of two from 1 to 256 MiB',
  })
  report.need(size <= mostSize, 'table-sizes', 'its size is beyond what the format has', {
    field: 'VirtualDiskSize',
    value: size,
    rule: 'at most 64 TiB',
  })
  const blocks = Math.ceil(size / Math.max(1, block))
  const ratio = Math.max(1, Math.floor((2 ** 23 * sector) / Math.max(1, block)))
  const entries = hasParent
    ? Math.ceil(blocks / ratio) * (ratio + 1)
    : blocks + Math.floor(Math.max(0, blocks - 1) / ratio)
  report.need(
    bat !== undefined && bat.length >= entries * 8,
    'table-sizes',
    'its block table does not cover the disk',
    {
      field: 'BAT length',
      value: bat?.length ?? 0,
      rule: `at least ${entries * 8}`,
    },
  )
}

/** The first path of a parent locator: relative, then absolute. */
function parentPath(item: Uint8Array): string | undefined {
  const view = viewOf(item)
  if (item.length < 20) return undefined
  const paths = new Map<string, string>()
  for (let index = 0; index < Math.min(view.getUint16(18, true), 64); index++) {
    const at = 20 + 12 * index
    if (at + 12 > item.length) break
    const text = (offset: number, length: number): string =>
      name(new TextDecoder('utf-16le').decode(item.subarray(offset, offset + length)))
    const key = text(view.getUint32(at, true), view.getUint16(at + 8, true))
    paths.set(key, text(view.getUint32(at + 4, true), view.getUint16(at + 10, true)))
  }
  return (
    paths.get('relative_path') ?? paths.get('absolute_win32_path') ?? paths.get('volume_path') ?? nameAt(item, 0, 0)
  )
}
