/** One run for all tests: the packages', and those of the repository's own scripts. */
import { defineConfig } from 'vitest/config'

/** Where CI and the soak run want the results as JSON. */
const report = process.env.MORAINE_TEST_REPORT

export default defineConfig({
  resolve: { conditions: ['source'] },
  ssr: { resolve: { conditions: ['source'] } },
  test: {
    include: ['packages/*/test/**/*.test.ts', 'scripts/test/**/*.test.ts', 'bench/test/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    execArgv: ['--conditions=source'],
    maxWorkers: 2,
    reporters: report === undefined ? ['default'] : ['default', ['json', { outputFile: report }]],
  },
})
