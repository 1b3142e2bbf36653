/** The results of test runs, as Vitest's JSON reporter writes them, added up. */

/** What is read of a report. */
export interface TestReport {
  success: boolean
  testResults: {
    name: string
    status: string
    message: string
    assertionResults: { fullName: string; status: string }[]
  }[]
}

/** Counts over all runs. A test file that could not be run counts as one failure. */
export interface Sum {
  passed: number
  failed: number
  skipped: number
  failedNames: string[]
  skippedNames: string[]
  /** Every run said of itself that it went well. */
  success: boolean
}

/** Adds up reports. */
export function addUp(reports: readonly TestReport[]): Sum {
  const sum: Sum = { passed: 0, failed: 0, skipped: 0, failedNames: [], skippedNames: [], success: true }
  for (const report of reports) {
    sum.success &&= report.success
    for (const file of report.testResults) {
      let failed = 0
      for (const { fullName, status } of file.assertionResults) {
        if (status === 'passed') sum.passed++
        else if (status === 'failed') {
          failed++
          sum.failedNames.push(fullName)
        } else {
          sum.skipped++
          sum.skippedNames.push(fullName)
        }
      }
      if (file.status === 'failed' && failed === 0) {
        failed = 1
        sum.failedNames.push(`${file.name}: ${file.message.split('\n')[0] ?? ''}`)
      }
      sum.failed += failed
    }
  }
  return sum
}

/** The last line of a CI run. */
export function closingLine({ passed, failed, skipped }: Sum): string {
  return `${passed} passed, ${failed} failed, ${skipped} skipped`
}

/** Why a run is not green; empty when it is. Tests that need an absent program say so in their title, and CI must have them all. */
export function verdict(sum: Sum, ci: boolean): string[] {
  const reasons: string[] = []
  if (sum.failed > 0) reasons.push(`${sum.failed} failed`)
  if (sum.failed === 0 && !sum.success) reasons.push('a run ended badly though no test failed')
  if (sum.passed === 0) reasons.push('no test was run')
  const absent = sum.skippedNames.filter((name) => /not installed/.test(name))
  if (ci && absent.length > 0) reasons.push(`${absent.length} skipped because a program is not installed`)
  return reasons
}
