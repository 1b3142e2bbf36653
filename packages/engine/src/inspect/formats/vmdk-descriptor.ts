/** The text of a VMDK descriptor, and what may stand in it (CVE-2022-47951: it can name any file of the host). Facts: VMware's Virtual Disk Format 5.0;
 *  rules as OpenStack's format inspector has them, and those that it lacks. */
import { latin1, name } from '../../bytes/header.ts'
import type { Report } from '../finding.ts'

const single = new Set(['monolithicsparse', 'streamoptimized'])
const noParent = 'ffffffff'

interface Lines {
  /** Header values by lower-case key, in quotes no more. */
  values: Map<string, string[]>
  /** Extent lines as written. */
  extents: string[]
  /** A line that is of no known kind. */
  strange: string | undefined
}

/** Reads the lines: values, extents, and anything else. Comments and blank lines are left out. */
function readLines(text: string): Lines {
  const lines: Lines = { values: new Map(), extents: [], strange: undefined }
  for (const line of text.split('\n').map((each) => each.trim())) {
    if (line === '' || line.startsWith('#')) continue
    const value = /^([\w.]+)([ \t]*)=[ \t]*(.*)$/.exec(line)
    if (/^(?:rw|rdonly|noaccess)\s/i.test(line)) {
      lines.extents.push(line)
      // Readers differ about other blanks than spaces.
      if (line.includes('\t')) lines.strange ??= line
    } else if (value !== null) {
      const [, key = '', blank, text = ''] = value
      const unquoted = /^"?([^"]*)"?$/.exec(text)?.[1] ?? text
      lines.values.set(key.toLowerCase(), [...(lines.values.get(key.toLowerCase()) ?? []), unquoted])
      // And about blanks before the sign, outside of the database.
      if (blank !== '' && !/^ddb\./i.test(key)) lines.strange ??= line
    } else lines.strange ??= line
  }
  return lines
}

/** The first value of a key. */
function first(lines: Lines, key: string): string | undefined {
  return lines.values.get(key)?.[0]
}

/** The names in extent lines, safe to print. */
function extentNames(lines: Lines): string[] {
  return lines.extents.flatMap((line) => /"([^"]*)"/.exec(line)?.[1] ?? []).map(name)
}

/** Judges the descriptor inside of a sparse file: it may speak of this file alone.
 *  @param bytes The descriptor's sectors, as far as they are there. */
export function judgeEmbedded(report: Report, bytes: Uint8Array): void {
  const nul = bytes.indexOf(0)
  const content = nul < 0 ? bytes : bytes.subarray(0, nul)
  const failed = (said: string, field: string, rule: string, value?: string | number) =>
    report.failed('descriptor', said, value === undefined ? { field, rule } : { field, value, rule })
  if (content.length === 0) {
    failed('there is no descriptor', 'descriptor', 'text in sector 1')
    return
  }
  if (content.some((byte) => byte > 126 || (byte < 32 && (byte < 9 || byte > 13)))) {
    failed('the descriptor is not plain text', 'descriptor', 'ASCII')
    return
  }
  // Readers that go past a NUL would see another descriptor.
  if (nul >= 0 && bytes.subarray(nul).some((byte) => byte !== 0)) {
    failed('more text follows the end of the descriptor', 'descriptor', 'NULs up to its end')
  }
  const lines = readLines(latin1(content))
  const types = lines.values.get('createtype') ?? []
  const type = types[0]
  if (type === undefined || types.length > 1) {
    failed('the descriptor does not say what it is', 'createType', 'once', types.length)
  }
  for (const key of ['version', 'cid', 'parentcid', 'parentfilenamehint']) {
    const times = lines.values.get(key)?.length ?? 0
    if (times > 1) failed('the descriptor says something twice', key, 'once', times)
  }
  if (lines.strange !== undefined) {
    failed('the descriptor has a line of no known kind', 'line', 'a comment, a value or an extent', name(lines.strange))
  }
  if (lines.extents.length === 0) failed('the descriptor has no extent', 'extents', 'one')
  report.passed('descriptor', 'its descriptor is sound')
  if (type !== undefined) report.finding.subformat = name(type)
  judgeExtents(report, lines, type)
  judgeParent(report, lines)
}

function judgeExtents(report: Report, lines: Lines, type: string | undefined): void {
  const failed = (said: string, field: string, rule: string, value?: string | number) =>
    report.failed('external-extents', said, value === undefined ? { field, rule } : { field, value, rule })
  if (type !== undefined && !single.has(type.toLowerCase())) {
    const shown = JSON.stringify(name(type.toLowerCase()))
    failed(`the subformat ${shown} is not taken`, 'createType', 'monolithicSparse or streamOptimized', name(type))
  }
  if (lines.extents.length > 1) failed('it has more extents than itself', 'extents', '1', lines.extents.length)
  for (const line of lines.extents.slice(0, 16)) {
    if (/[/\\]/.test(line)) failed('an extent names a file in another folder', 'extent', 'a plain name', name(line))
    const kind = line.split(/\s+/)[2]?.toUpperCase()
    if (kind !== 'SPARSE') failed('an extent is not in this file', 'extent type', 'SPARSE', name(kind ?? ''))
  }
  report.passed('external-extents', 'all its data is in this file')
}

function judgeParent(report: Report, lines: Lines): void {
  const hint = first(lines, 'parentfilenamehint')
  const cid = first(lines, 'parentcid')?.toLowerCase()
  if (hint !== undefined) {
    report.fact('parent', name(hint))
    report.failed('parent-locator', 'it names a parent', {
      field: 'parentFileNameHint',
      value: name(hint),
      rule: 'none',
    })
  } else if (cid !== undefined && cid !== noParent) {
    report.failed('parent-locator', 'it names a parent', { field: 'parentCID', value: name(cid), rule: noParent })
  } else report.passed('parent-locator', 'it names no parent', { field: 'parentCID', value: cid ?? noParent })
}

/** Whether the bytes are a descriptor on its own, and why: its comment, the line that QEMU looks for, or text with a `createType`, up to the end or to NULs. */
export function textEvidence(head: Uint8Array): string | undefined {
  const nul = head.indexOf(0)
  const text = latin1(head, 0, nul < 0 ? head.length : nul)
  if (text.length === 0 || /[^\t-\r -~]/.test(text.slice(0, 512))) return undefined
  if (/^# Disk DescriptorFile[ \t\r]*\n/i.test(text)) return 'the text "# Disk DescriptorFile" at 0'
  // As QEMU probes: comments and blank lines, then the version.
  if (/^(?:#[^\n]*\n| +\n)*version=[123]\r?\n/.test(text.slice(0, 512))) return 'text that begins with "version="'
  if (/(?:^|\n)[ \t]*createtype[ \t]*=[ \t]*"/i.test(text)) return 'text with a "createType"'
  return undefined
}

/** Judges a descriptor on its own: it always names other files. */
export function judgeText(report: Report, head: Uint8Array): void {
  const nul = head.indexOf(0)
  const lines = readLines(latin1(head, 0, nul < 0 ? head.length : nul))
  const type = first(lines, 'createtype')
  if (type !== undefined) report.finding.subformat = name(type)
  const names = extentNames(lines)
  if (names.length > 0) report.fact('extents', names.slice(0, 64))
  report.failed('external-extents', 'it is a descriptor that names other files', {
    field: 'extents',
    value: lines.extents.length,
    rule: 'all data in this file',
  })
  judgeParent(report, lines)
  const sectors = lines.extents.map((line) => Number(/^\S+\s+(\d+)/.exec(line)?.[1] ?? Number.NaN))
  if (sectors.length > 0) report.virtualSize(sectors.reduce((sum, count) => sum + count, 0) * 512)
  if (lines.strange !== undefined) {
    const value = name(lines.strange)
    report.failed('descriptor', 'the descriptor has a line of no known kind', {
      field: 'line',
      value,
      rule: 'a comment, a value or an extent',
    })
  } else if (type === undefined || lines.extents.length === 0) {
    report.failed('descriptor', 'the descriptor does not say what it is', {
      field: 'createType',
      rule: 'once, with an extent',
    })
  } else report.passed('descriptor', 'its descriptor is sound', { field: 'createType', value: name(type) })
}
