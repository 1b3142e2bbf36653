/** One run for all tests: the packages', and those of the repository's own scripts. */
import { defineConfig } from 'vitest/config'
import { skipReporter } from './scripts/report/skip-reasons.ts'

/** Where CI and the soak run want the results as JSON. */
const report = process.env.MORAINE_TEST_REPORT

/** With `MORAINE_NATIVE=off`, the tests that can tell whether the portable way works. The others compare holes with those that
 *  qemu-img sees, or read terabytes of them. */
const portable = [
  'packages/engine/test/{platform,source,raw}/**/*.test.ts',
  'packages/engine/test/operation/{create,difference,convert-faults}.test.ts',
  'packages/engine/test/qcow2/power-cut.test.ts',
  'packages/server/test/{content,data}.test.ts',
]
const all = ['packages/*/test/**/*.test.ts', 'scripts/test/**/*.test.ts', 'bench/test/**/*.test.ts']

/** What people see: the run, then why tests were skipped. */
const told = ['default', skipReporter]

export default defineConfig({
  resolve: { conditions: ['source'] },
  ssr: { resolve: { conditions: ['source'] } },
  test: {
    include: process.env.MORAINE_NATIVE === 'off' ? portable : all,
    testTimeout: 60_000,
    hookTimeout: 60_000,
    execArgv: ['--conditions=source'],
    maxWorkers: 2,
    // Where cases are drawn, a group of them may go without any; that nothing at all was run is noticed by scripts/report.ts.
    passWithNoTests: Number(process.env.MORAINE_BUDGET ?? '1') < 1,
    reporters: report === undefined ? told : [...told, ['json', { outputFile: report }]],
  },
})
