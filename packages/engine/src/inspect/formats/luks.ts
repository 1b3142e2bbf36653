/** LUKS containers, versions 1 and 2. Facts: the LUKS1 On-Disk Format Specification 1.2.3, the LUKS2 On-Disk Format Specification 1.1. */

import { fields, latin1, nameAt, stands } from '../../bytes/header.ts'
import { u64be } from '../../bytes/integers.ts'
import { atEnd, type Inspector, type Look, type View } from '../contract.ts'
import type { Report } from '../finding.ts'

const firstBytes = 592
const secondBytes = 4096
const mostJsonBytes = 4 * 1024 * 1024
/** Twelve million rounds of PBKDF2 take some seconds; OpenStack's bound. */
const mostIterations = 12_000_000
const activeSlot = 0x00ac71f3

/** The LUKS inspector. */
export const luks: Inspector = { name: 'luks', budget: 0, inspect }

function* inspect({ head, found }: View): Look {
  if (!stands(head, 'LUKS\xba\xbe') || head.length < 8) return
  const version = fields(head, 6, 2).getUint16(0)
  const report = found('luks', 'disk', `magic "LUKS\\xba\\xbe" at 0, version ${version}`)
  report.finding.subformat = `luks${version}`
  if (version !== 1 && version !== 2) {
    report.failed('header', `LUKS version ${version} is not known`, {
      field: 'version',
      value: version,
      rule: '1 or 2',
    })
    return
  }
  const needed = version === 1 ? firstBytes : secondBytes
  if (head.length < needed) {
    report.unknown('header', 'the header is cut', { field: 'bytes', value: head.length, rule: `at least ${needed}` })
    return
  }
  report.fact('uuid', nameAt(head, 168, 40))
  const payload = version === 1 ? inspectFirst(report, head) : inspectSecond(report, head)
  if (payload === undefined) return
  report.fact('payloadOffset', payload)
  const { size } = yield* atEnd()
  if (payload > size) {
    report.unknown('header', 'its payload lies elsewhere', {
      field: 'payload offset',
      value: payload,
      rule: `at most ${size}`,
    })
  } else report.virtualSize(size - payload)
  report.passed('header', 'its header is sound', { field: 'version', value: version })
}

/** @returns Bytes before the payload. */
function inspectFirst(report: Report, head: Uint8Array): number {
  const header = fields(head, 0, firstBytes)
  report.fact('cipher', `${nameAt(head, 8, 32)}-${nameAt(head, 40, 32)}`)
  report.fact('hash', nameAt(head, 72, 32))
  const costs = [header.getUint32(164)]
  for (let slot = 0; slot < 8; slot++) {
    if (header.getUint32(208 + 48 * slot) === activeSlot) costs.push(header.getUint32(212 + 48 * slot))
  }
  report.fact('keySlots', costs.length - 1)
  const dearest = Math.max(...costs)
  report.need(dearest <= mostIterations, 'table-sizes', 'its key derivation is too dear', {
    field: 'iterations',
    value: dearest,
    rule: `at most ${mostIterations}`,
  })
  report.passed('table-sizes', 'its key derivation is within bounds', { field: 'iterations', value: dearest })
  const payload = header.getUint32(104)
  return payload * 512
}

function inspectSecond(report: Report, head: Uint8Array): number | undefined {
  const header = fields(head, 0, 512)
  const area = u64be(header, 8)
  const label = nameAt(head, 24, 48)
  if (label !== '') report.fact('label', label)
  report.need(area >= 16384 && area <= mostJsonBytes, 'table-sizes', 'its metadata has an impossible size', {
    field: 'hdr_size',
    value: header.getBigUint64(8),
    rule: '16 KiB to 4 MiB',
  })
  if (area > head.length) {
    report.unknown('unknown-features', 'its metadata is larger than what is looked at', {
      field: 'hdr_size',
      value: area,
    })
    return undefined
  }
  const text = latin1(head, secondBytes, area)
  const json = parse(text.slice(0, Math.max(0, text.indexOf('\0'))))
  if (json === undefined) {
    report.failed('header', 'its metadata is no JSON', { field: 'JSON area', rule: 'an object' })
    return undefined
  }
  const needs = Object.keys(objectAt(objectAt(json, 'config'), 'requirements'))
  const mandatory = objectAt(objectAt(json, 'config'), 'requirements').mandatory
  if (needs.length > 0 && Array.isArray(mandatory) && mandatory.length > 0) {
    const value = mandatory.map(String).join(', ').slice(0, 200)
    report.unknown('unknown-features', 'it needs features that are not known here', {
      field: 'requirements',
      value,
      rule: 'none',
    })
  } else report.passed('unknown-features', 'it needs no unknown feature')
  const segment = objectAt(objectAt(json, 'segments'), '0')
  const offset = Number(segment.offset)
  if (typeof segment.encryption === 'string') report.fact('cipher', segment.encryption.slice(0, 64))
  return typeof segment.offset === 'string' && Number.isSafeInteger(offset) && offset >= 0 ? offset : undefined
}

function parse(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}

function objectAt(of: Record<string, unknown>, key: string): Record<string, unknown> {
  const value = of[key]
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {}
}
