/** What a check finds, and how it is printed. */

/** One finding. `file` is relative to the root of the repository; `line` counts from 1. */
export interface Problem {
  file: string
  line: number
  rule: string
  message: string
}

/** One line for a person or an editor: `file:line rule: message`. */
export function formatProblem({ file, line, rule, message }: Problem): string {
  return `${file}:${line} ${rule}: ${message}`
}

/** Sorted by file, line and rule, each once. */
export function tidy(problems: readonly Problem[]): Problem[] {
  const byText = new Map(problems.map((problem) => [formatProblem(problem), problem]))
  return [...byText.values()].sort(
    (a, b) => compare(a.file, b.file) || a.line - b.line || compare(a.rule, b.rule) || compare(a.message, b.message),
  )
}

function compare(a: string, b: string): number {
  if (a === b) return 0
  return a < b ? -1 : 1
}
