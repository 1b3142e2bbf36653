/** tar archives, and what they are for: OVA appliances, Azure's and Google's wrapped disks. Facts: POSIX.1-2001 (ustar, pax), DSP0243 (OVA). */
import { fields, latin1, name, stands } from '../../bytes/header.ts'
import { atEnd, type Inspector, type Look, region, type View } from '../contract.ts'
import type { Report } from '../finding.ts'
import { judgeEnvelope } from './ovf.ts'

const block = 512
/** Members that are looked at. */
const mostMembers = 256
const mostEnvelopeBytes = 128 * 1024

/** The inspector of tar archives. */
export const archive: Inspector = { name: 'archive', budget: mostMembers * block + mostEnvelopeBytes, inspect }

function* inspect({ head, found }: View): Look {
  if (!stands(head, 'ustar', 257)) return
  const report = found('tar', 'archive', '"ustar" at 257')
  const members: { name: string; size: number }[] = []
  const seen = new Set<string>()
  let at = 0
  let known = true
  for (;;) {
    if (members.length === mostMembers) {
      known = false
      break
    }
    const { bytes, missing } = yield* region(at, block)
    if (bytes.length < block) {
      known = missing === 'end'
      break
    }
    if (bytes.every((byte) => byte === 0)) break
    const member = readMember(bytes)
    if (member === undefined) {
      report.failed('header', 'a member header is damaged', {
        field: 'offset',
        value: at,
        rule: '"ustar" and a fitting checksum',
      })
      break
    }
    judgeMember(report, member, seen)
    if (member.type === '0' || member.type === '\0') {
      members.push({ name: member.name, size: member.size })
      if (members.length === 1 && /\.ovf$/i.test(member.name)) {
        report.finding.format = 'ova'
        report.evidence(`the first member is ${member.name}`)
        if (member.size <= mostEnvelopeBytes) judgeEnvelope(report, (yield* region(at + block, member.size)).bytes)
        else
          report.unknown('descriptor', 'the descriptor is too large to be looked at', {
            field: 'size',
            value: member.size,
            rule: `at most ${mostEnvelopeBytes}`,
          })
      }
    }
    at += block + Math.ceil(member.size / block) * block
    if (!Number.isSafeInteger(at)) break
  }
  report.fact('members', members.slice(0, 64))
  const [only] = members
  if (members.length === 1 && only !== undefined && /\.(vhd|raw|img)$/i.test(only.name)) report.fact('disk', only.name)
  const { size } = yield* atEnd()
  report.need(at <= size, 'members', 'a member passes the end of the archive', {
    field: 'end of the last member',
    value: at,
    rule: `at most ${size}`,
  })
  if (!known)
    report.unknown('members', 'it has more members than are looked at', {
      field: 'members',
      value: members.length,
      rule: `at most ${mostMembers}`,
    })
  report.passed('members', 'the names of its members stay in its folder', { field: 'members', value: members.length })
}

interface Member {
  name: string
  size: number
  type: string
}

function readMember(bytes: Uint8Array): Member | undefined {
  if (!stands(bytes, 'ustar', 257)) return undefined
  let sum = 0
  for (const [index, byte] of bytes.entries()) sum += index >= 148 && index < 156 ? 32 : byte
  if (sum !== Number.parseInt(latin1(bytes, 148, 156).replaceAll('\0', ' ').trim(), 8)) return undefined
  // GNU writes sizes past 8 GiB in binary.
  const binary = ((bytes[124] ?? 0) & 0x80) !== 0
  const size = binary
    ? Number(fields(bytes, 128, 8).getBigUint64(0))
    : Number.parseInt(latin1(bytes, 124, 136).replaceAll('\0', ' ').trim() || '0', 8)
  if (!Number.isSafeInteger(size) || size < 0) return undefined
  const prefix = latin1(bytes, 345, 500)
  const end = prefix.indexOf('\0')
  const folder = stands(bytes, 'ustar\0', 257) ? (end < 0 ? prefix : prefix.slice(0, end)) : ''
  const own = name(latin1(bytes, 0, 100))
  return { name: folder === '' ? own : `${name(folder)}/${own}`, size, type: String.fromCharCode(bytes[156] ?? 0) }
}

function judgeMember(report: Report, member: Member, seen: Set<string>): void {
  const failed = (said: string, rule: string) =>
    report.failed('members', said, { field: 'member', value: member.name, rule })
  const parts = member.name.split(/[/\\]/)
  if (/^[/\\]|^[A-Za-z]:/.test(member.name)) failed('a member has an absolute name', 'a relative name')
  if (parts.includes('..')) failed('a member leaves the folder', 'no ".." in its name')
  if (/[1-6]/.test(member.type)) {
    // A folder is harmless.
    if (member.type !== '5') failed('a member is no plain file', 'a plain file')
    return
  }
  if (member.type !== '0' && member.type !== '\0') return
  if (seen.has(member.name)) failed('two members have one name', 'each name once')
  seen.add(member.name)
}
