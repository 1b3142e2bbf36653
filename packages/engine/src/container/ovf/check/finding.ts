/** What a check of a package finds, and how it is gathered. */

/** `error`: a rule of the standard is broken, or what is said is not so; `warning`: importers differ, or somebody will stumble; `note`: worth knowing. */
export type PackageSeverity = 'error' | 'warning' | 'note'

/** One finding. */
export interface PackageFinding {
  /** The name of the rule: `descriptor-first`, `digest` … */
  rule: string
  severity: PackageSeverity
  /** A sentence. What it quotes is a stranger's, and cut. */
  message: string
  /** The file or member that it is about. */
  file?: string | undefined
  /** Line in the descriptor or manifest. */
  line?: number | undefined
}

const mostFindings = 1000

/** Gathers findings, up to a thousand. */
export class Findings {
  readonly list: PackageFinding[] = []
  /** How many were left out. */
  leftOut = 0

  add(
    severity: PackageSeverity,
    rule: string,
    message: string,
    place: Pick<PackageFinding, 'file' | 'line'> = {},
  ): void {
    if (this.list.length < mostFindings) this.list.push({ rule, severity, message, ...place })
    else this.leftOut++
  }

  error(rule: string, message: string, place?: Pick<PackageFinding, 'file' | 'line'>): void {
    this.add('error', rule, message, place)
  }

  warning(rule: string, message: string, place?: Pick<PackageFinding, 'file' | 'line'>): void {
    this.add('warning', rule, message, place)
  }
}

/** A stranger's text as it is quoted: short, without control characters. */
export function quoted(text: string | undefined): string {
  const plain = (text ?? '').slice(0, 120)
  return `'${Array.from(plain, (letter) => ((letter.codePointAt(0) ?? 0) < 32 || letter === '\x7f' ? '?' : letter)).join('')}'`
}

/** The values that stand more than once, each once. */
export function repeated(values: readonly string[]): string[] {
  const seen = new Set<string>()
  const twice = new Set<string>()
  for (const value of values) (seen.has(value) ? twice : seen).add(value)
  return [...twice]
}
