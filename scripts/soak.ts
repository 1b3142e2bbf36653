/** `npm run soak`: the whole suites with large budgets, several seeds, native calls on and off; rewrites `docs/soak.md`.
 *
 *  The last round runs the command's tests with the standalone executable, all generated command lines among them. `MORAINE_BUDGET` multiplies every long loop's time (default 2 here, nearly
 *  six times that of CI), `MORAINE_SEED` fixes the first seed (the next ones follow it); arguments narrow the test files as Vitest's do (then the page is not rewritten, since not all was run). */
import { spawn } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { arch, cpus, tmpdir, type } from 'node:os'
import { join } from 'node:path'
import { root } from './build/workspace.ts'
import { addUp, closingLine, type TestReport, verdict } from './report/add-up.ts'
import { type SoakRound, soakPage } from './report/soak-page.ts'
import { run } from './support/run.ts'

const budget = process.env.MORAINE_BUDGET ?? '2'
const first = Number(process.env.MORAINE_SEED ?? randomInt(2 ** 30))
const filters = process.argv.slice(2)
const rounds: { seed: number; native: boolean; standalone?: boolean }[] = [
  { seed: first, native: true },
  { seed: first + 1, native: false },
  { seed: first + 2, native: true, standalone: true },
]

function vitest(env: NodeJS.ProcessEnv, files: readonly string[]): Promise<void> {
  const child = spawn(join(root, 'node_modules', '.bin', 'vitest'), ['run', ...files], {
    cwd: root,
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, CI: 'true', ...env },
  })
  // What went wrong stands in the report.
  return new Promise((resolve, reject) => child.on('error', reject).on('close', () => resolve()))
}

const git = async (...args: string[]) => (await run('git', args, root)).stdout.trim()

const started = new Date()
const commit = await git('rev-parse', '--short=12', 'HEAD')
const changed = (await git('status', '--porcelain', '--untracked-files=no')) !== ''
const folder = mkdtempSync(join(tmpdir(), 'moraine-soak-'))
const done: SoakRound[] = []
const reports: TestReport[] = []
// What was built starts faster than the sources, thousands of times; and tests of the executable are part of every round.
for (const script of ['build', 'build:binary']) {
  const built = await run('npm', ['run', '--silent', script], root)
  if (built.code !== 0) throw new Error(`npm run ${script} ended with ${built.code}\n${built.stderr}`)
}
for (const [index, { seed, native, standalone = false }] of rounds.entries()) {
  const path = join(folder, `${index}.json`)
  const at = performance.now()
  await vitest(
    {
      MORAINE_BUDGET: budget,
      MORAINE_SEED: String(seed),
      MORAINE_NATIVE: native ? 'on' : 'off',
      MORAINE_TEST_REPORT: path,
      MORAINE_COMMAND: standalone ? 'binary' : 'built',
    },
    standalone && filters.length === 0 ? ['packages/cli/test'] : filters,
  )
  const report = JSON.parse(readFileSync(path, 'utf8')) as TestReport
  reports.push(report)
  done.push({
    seed,
    native,
    standalone,
    line: closingLine(addUp([report])),
    minutes: (performance.now() - at) / 60_000,
  })
}
rmSync(folder, { recursive: true, force: true })

const sum = addUp(reports)
const qemu = (await run('qemu-img', ['--version'], root)).stdout.split('\n')[0] ?? ''
const page = soakPage({
  date: started.toISOString().slice(0, 10),
  commit: changed ? `${commit}, with changes` : commit,
  machine: `${type()} ${arch()}, ${cpus().length} cores, Node ${process.versions.node}, ${qemu}`,
  budget: Number(budget),
  rounds: done,
  failed: sum.failedNames,
  skipped: [...new Set(sum.skippedNames)],
})
if (filters.length === 0) writeFileSync(join(root, 'docs', 'soak.md'), page)
console.log(page)
console.log(closingLine(sum))
process.exitCode = verdict(sum, true).length === 0 ? 0 : 1
