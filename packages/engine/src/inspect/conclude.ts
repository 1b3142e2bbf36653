/** From findings to one answer: what the bytes are to be taken as, and whether they are two things at once. */
import {
  addCheck,
  type Check,
  type Finding,
  type FindingKind,
  graver,
  type Inspection,
  sentenceOf,
  type Verdict,
} from './finding.ts'

/** Which kind gives the file its name, when there are several. */
const preference: FindingKind[] = ['disk', 'optical', 'wrapper', 'archive', 'descriptor']

/** Concludes from the findings so far. @param size Bytes of all; undefined while more may come. */
export function conclude(found: readonly Finding[], size: number | undefined): Inspection {
  const byTail = found.find(({ kind, by }) => kind === 'disk' && by === 'tail')
  // A packed stream in front of a trailer is what the trailer's disk holds.
  let findings = found.filter(({ kind }) => kind !== 'wrapper' || byTail === undefined)
  const named = preference.flatMap((kind) => findings.filter((finding) => finding.kind === kind))
  const rivals = rivalsAmong(named, findings)
  const main = named.find(({ kind, by }) => kind === 'disk' && by === 'head') ?? byTail ?? named[0]
  if (main === undefined && size !== undefined) findings.push(rawFinding(size))
  if (main?.kind === 'optical') findings = findings.map(onVolume)
  const checks: Check[] = []
  const names = rivals.map(({ format }) => format)
  if (rivals.length > 1) {
    const sentence = sentenceOf(`it is several formats at once: ${names.join(', ')}`, {
      field: 'formats',
      value: rivals.length,
      rule: 'one that all readers agree on',
    })
    addCheck(checks, { name: 'polyglot', verdict: 'failed', sentence })
  } else if (size !== undefined) {
    addCheck(checks, { name: 'polyglot', verdict: 'passed', sentence: 'it is one format only' })
  }
  const virtualSize = main === undefined ? size : main.virtualSize
  return {
    ...(size === undefined ? {} : { size }),
    format: main?.format ?? 'raw',
    ...(virtualSize === undefined ? {} : { virtualSize }),
    verdict: overall(checks, findings),
    checks,
    findings,
  }
}

function rawFinding(size: number): Finding {
  return {
    format: 'raw',
    kind: 'disk',
    evidence: ['no other format was recognised'],
    by: 'head',
    virtualSize: size,
    checks: [],
    facts: {},
  }
}

/** Hybrid images have partition tables that bend every rule so that firmware of all kinds boots them; a reader of the volume never looks there. */
function onVolume(finding: Finding): Finding {
  if (finding.kind !== 'partitions') return finding
  const checks = finding.checks.map((check): Check => {
    if (check.name !== 'partition-table' || check.verdict === 'passed') return check
    return { ...check, verdict: 'passed', sentence: `of no matter on an optical volume: ${check.sentence}` }
  })
  return { ...finding, checks }
}

function overall(checks: readonly Check[], findings: readonly Finding[]): Verdict {
  let verdict: Verdict = 'passed'
  for (const check of checks) verdict = graver(verdict, check.verdict)
  for (const finding of findings) {
    for (const check of finding.checks) verdict = graver(verdict, check.verdict)
    if (finding.inner !== undefined) verdict = graver(verdict, finding.inner.verdict)
  }
  return verdict
}

/** The findings that cannot all be true of an honest file; one or none when it is honest. */
function rivalsAmong(named: readonly Finding[], findings: readonly Finding[]): Finding[] {
  const inHead = named.filter(({ by }) => by === 'head')
  const inTail = named.filter(({ by }) => by === 'tail')
  // What a trailer makes a disk holds guest bytes, or packed ones, from the first byte on: a volume there is its content.
  const rivals = inTail.length > 0 ? inHead.filter(({ kind }) => kind === 'disk' || kind === 'archive') : inHead
  const all = [...rivals, ...inTail]
  const disk = inHead.find(({ kind }) => kind === 'disk')
  if (disk === undefined) return all
  // A disk image begins with its header, which has no place for a partition table or boot code; on an ISO or a raw disk both are at home.
  const boot = findings.filter(({ kind, format }) => kind === 'partitions' || format === 'boot-sector')
  return [...all, ...boot]
}
