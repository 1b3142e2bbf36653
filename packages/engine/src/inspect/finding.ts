/** What an inspection says: formats that match, with evidence, and a verdict for each named check. Plain data, fit for JSON. */
import type { DetailValue } from '../core/index.ts'

/** The checks, by name. `backing-file`, `data-file`, `external-extents` and `parent-locator` ask whether the image makes its reader open something else;
 *  `unknown-features` whether it needs what nobody here knows; `header`, `descriptor`, `footer` and `log` whether its own words are sound and agree;
 *  `table-sizes` whether what it claims can be paid for; `polyglot` whether it is two formats at once; `decompression-ratio` what unpacking costs, `content` whether all inside was seen;
 *  `members` whether the names in an archive stay in their folder; `partition-table` whether the table keeps its rules; `boot-code` only reports;
 *  `obsolete-format` whether anybody should still take such an image. */
export type CheckName =
  | 'backing-file'
  | 'data-file'
  | 'external-extents'
  | 'parent-locator'
  | 'unknown-features'
  | 'header'
  | 'descriptor'
  | 'footer'
  | 'log'
  | 'table-sizes'
  | 'polyglot'
  | 'decompression-ratio'
  | 'content'
  | 'members'
  | 'partition-table'
  | 'boot-code'
  | 'obsolete-format'

/** `unknown`: it could not be seen (what was needed lies outside of what an inspection looks at), so nothing is promised. */
export type Verdict = 'passed' | 'failed' | 'unknown'

/** One named check. */
export interface Check {
  name: CheckName
  verdict: Verdict
  /** For people: what was found, with the field, its value and the rule. Several faults are joined by semicolons. */
  sentence: string
}

/** What a finding is about. `disk`: a disk image. `optical`: an ISO or UDF volume. `partitions`: a partition table. `wrapper`: something compressed.
 *  `archive`: files one after the other. `descriptor`: text that describes other files. `content`: a file system, a kernel, or the like. */
export type FindingKind = 'disk' | 'optical' | 'partitions' | 'wrapper' | 'archive' | 'descriptor' | 'content'

/** One format that the bytes show. */
export interface Finding {
  /** The format's name, as in `qcow2`. */
  format: string
  kind: FindingKind
  /** A kind of it, in the format's own words, as in `streamOptimized`. */
  subformat?: string
  /** What gave it away, in words. */
  evidence: string[]
  /** Where it was recognised: by the first bytes, or only by the last ones. */
  by: 'head' | 'tail'
  /** Bytes of the disk inside, where the bytes say so and a number can hold it. */
  virtualSize?: number
  checks: Check[]
  /** What else is worth knowing: names, labels, identities. */
  facts: Record<string, DetailValue>
  /** What is inside of a wrapper, as far as its beginning tells. */
  inner?: Inspection
}

/** The result for one file or stream. */
export interface Inspection {
  /** Bytes; absent while (or where) only the beginning is known. */
  size?: number
  /** What it is to be taken as: the name of one finding, `raw` when nothing else fits. */
  format: string
  /** Bytes of the disk inside, where known. */
  virtualSize?: number
  /** `failed` when one check failed, here or inside; `unknown` when none failed and one could not be made; otherwise `passed`. */
  verdict: Verdict
  /** Checks of the file as a whole. */
  checks: Check[]
  /** Everything that matches; never empty once all bytes were seen. */
  findings: Finding[]
}

/** Where a check looked: the field (as the format's specification calls it), what stands there, and the rule for it. */
export interface Place {
  field?: string
  value?: number | bigint | string
  rule?: string
}

const weight: Record<Verdict, number> = { passed: 0, unknown: 1, failed: 2 }

/** The graver of two verdicts. */
export function graver(a: Verdict, b: Verdict): Verdict {
  return weight[a] >= weight[b] ? a : b
}

/** Puts a check on a list that has each name once: a graver verdict replaces what is there, an equally grave one of a fault joins it. */
export function addCheck(checks: Check[], check: Check): void {
  const before = checks.find(({ name }) => name === check.name)
  if (before === undefined) checks.push(check)
  else if (weight[check.verdict] > weight[before.verdict]) Object.assign(before, check)
  else if (
    check.verdict === before.verdict &&
    check.verdict !== 'passed' &&
    !before.sentence.includes(check.sentence)
  ) {
    // A hostile table may break one rule a thousand times; a few sentences are enough.
    if (before.sentence.length < 1000) before.sentence += `; ${check.sentence}`
  }
}

/** The sentence of a check. */
export function sentenceOf(said: string, place: Place = {}): string {
  const value = typeof place.value === 'string' ? JSON.stringify(place.value) : place.value
  const parts = [
    place.field === undefined ? undefined : value === undefined ? place.field : `${place.field} is ${value}`,
    place.rule === undefined ? undefined : `rule: ${place.rule}`,
  ].filter((part) => part !== undefined)
  return parts.length === 0 ? said : `${said} (${parts.join('; ')})`
}

/** Writes one finding while bytes are looked at. */
export class Report {
  readonly finding: Finding

  constructor(format: string, kind: FindingKind, evidence: string, by: Finding['by']) {
    this.finding = { format, kind, evidence: [evidence], by, checks: [], facts: {} }
  }

  /** One more thing that gave it away. */
  evidence(text: string): void {
    this.finding.evidence.push(text)
  }

  /** A fact; undefined is left out. */
  fact(name: string, value: DetailValue | undefined): void {
    if (value !== undefined) this.finding.facts[name] = value
  }

  /** Bytes of the disk inside; what no number can hold is left out. */
  virtualSize(bytes: number): void {
    if (Number.isSafeInteger(bytes) && bytes >= 0) this.finding.virtualSize = bytes
  }

  passed(name: CheckName, said: string, place?: Place): void {
    this.#add(name, 'passed', said, place)
  }

  failed(name: CheckName, said: string, place?: Place): void {
    this.#add(name, 'failed', said, place)
  }

  unknown(name: CheckName, said: string, place?: Place): void {
    this.#add(name, 'unknown', said, place)
  }

  /** Fails the check when `rule` is broken; says nothing otherwise. */
  need(holds: boolean, name: CheckName, said: string, place?: Place): void {
    if (!holds) this.#add(name, 'failed', said, place)
  }

  #add(name: CheckName, verdict: Verdict, said: string, place: Place | undefined): void {
    addCheck(this.finding.checks, { name, verdict, sentence: sentenceOf(said, place) })
  }
}
