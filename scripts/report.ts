/** Adds up the JSON reports of test runs (files as arguments): names what failed or was skipped, and ends with one line of counts.
 *  Exit code 1 when a test failed, when a file could not be run, when nothing passed, or, with `CI=true`, when a test was
 *  skipped because a program is absent. */
import { readFileSync } from 'node:fs'
import { addUp, closingLine, type TestReport, verdict } from './report/add-up.ts'

const reports = process.argv.slice(2).map(read)
/** A run that wrote no report broke down before its end. */
function read(path: string): TestReport {
  try {
    return JSON.parse(readFileSync(path, 'utf8')) as TestReport
  } catch (error) {
    const message = (error as Error).message
    return { success: false, testResults: [{ name: path, status: 'failed', message, assertionResults: [] }] }
  }
}

const sum = addUp(reports)
for (const name of sum.failedNames) console.log(`failed: ${name}`)
for (const name of sum.skippedNames) console.log(`skipped: ${name}`)
const reasons = verdict(sum, process.env.CI === 'true')
for (const reason of reasons) console.log(`not green: ${reason}`)
console.log(closingLine(sum))
process.exitCode = reasons.length === 0 ? 0 : 1
