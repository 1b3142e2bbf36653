/** `npm run bench`, after `npm run build`: measures moraine beside what a user would otherwise run, and prints one table.
 *
 *  Arguments name jobs or groups (`convert`, `large/map`); without them all are run. `--list` names them. `--write` puts the results
 *  into `bench/results.md` and `results.json` also when only some were run; a full run always does. `MORAINE_BENCH_SCALE` (default 1) shrinks the inputs for a
 *  try-out, whose results are never written; `MORAINE_BENCH_ROUNDS` (default 5) sets the rounds. Inputs are kept in the temporary folder. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { mkdir, mkdtemp, rename, rm } from 'node:fs/promises'
import { arch, cpus, release, tmpdir, totalmem, type } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { convertJobs } from './jobs/convert.ts'
import { engineJobs } from './jobs/engine.ts'
import { formatJobs } from './jobs/formats.ts'
import { inspectJobs } from './jobs/inspect.ts'
import { largeJobs } from './jobs/large.ts'
import { serviceJobs } from './jobs/service.ts'
import type { Bench, Job } from './support/job.ts'
import { must, runProgram } from './support/process.ts'
import { measure, median, type Result } from './support/result.ts'
import { type Machine, page, table } from './support/table.ts'

const root = join(import.meta.dirname, '..')
const allJobs: Job[] = [...convertJobs, ...formatJobs, ...largeJobs, ...inspectJobs, ...engineJobs, ...serviceJobs]
const scale = Number(process.env.MORAINE_BENCH_SCALE ?? '1')
const rounds = Number(process.env.MORAINE_BENCH_ROUNDS ?? '5')
const asked = process.argv.slice(2).filter((argument) => !argument.startsWith('--'))
const flags = new Set(process.argv.slice(2).filter((argument) => argument.startsWith('--')))

function chosenJobs(): Job[] {
  const fits = (job: Job, name: string) => job.name === name || job.name.startsWith(`${name}/`)
  for (const name of asked) {
    if (!allJobs.some((job) => fits(job, name))) throw new Error(`no such job: ${name}; --list names them`)
  }
  return asked.length === 0 ? allJobs : allJobs.filter((job) => asked.some((name) => fits(job, name)))
}

async function prepareBench(): Promise<Bench> {
  const moraine = join(root, 'packages', 'cli', 'dist', 'main.js')
  if (!existsSync(moraine)) throw new Error('the packages are not built: npm run build')
  for (const tool of ['qemu-img', 'time', 'mke2fs', 'cp']) await must('which', tool)
  const inputs = join(tmpdir(), `moraine-bench-${scale}`)
  await mkdir(inputs, { recursive: true })
  return {
    scale,
    inputs,
    results: await mkdtemp(join(tmpdir(), 'moraine-bench-results-')),
    moraine,
    async input(name, make) {
      const path = join(inputs, name)
      if (!existsSync(path)) {
        console.error(`making ${name}`)
        await make(`${path}.part`)
        await rename(`${path}.part`, path)
      }
      return path
    },
  }
}

/** Time of a Node process that does nothing. */
async function startTime(): Promise<number> {
  const runs: number[] = []
  for (let i = 0; i < 5; i++) runs.push((await runProgram([process.execPath, '-e', '0'])).seconds)
  return median(runs)
}

async function describeMachine(folder: string): Promise<Machine> {
  const filesystem = (await must('stat', '-f', '-c', '%T', folder)).trim()
  return {
    processor: cpus()[0]?.model.trim() ?? arch(),
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    system: `${type()} ${release().split('-')[0]} ${arch()}`,
    filesystem: filesystem.replace('ext2/ext3', 'ext4'),
    node: process.versions.node,
    qemu: (await must('qemu-img', '--version')).split('\n')[0] ?? '',
  }
}

interface Written {
  machine: Machine
  rounds: number
  results: Result[]
}

/** Puts the results in the place of those of the same jobs; the others keep the commit they were measured at. */
function write(results: readonly Result[], machine: Machine): void {
  const file = join(root, 'bench', 'results.json')
  const before = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Written).results : []
  const byJob = new Map([...before, ...results].map((result) => [result.job, result]))
  const all = allJobs.flatMap(({ name }) => byJob.get(name) ?? [])
  writeFileSync(file, `${JSON.stringify({ machine, rounds, results: all } satisfies Written, undefined, 2)}\n`)
  writeFileSync(join(root, 'bench', 'results.md'), page(all, machine, rounds))
}

if (flags.has('--list')) {
  for (const { name, title } of allJobs) console.log(`${name.padEnd(22)} ${title}`)
  process.exit(0)
}
// The command starts with `#!/usr/bin/env node`: the Node that runs this is the one it gets.
process.env.PATH = `${dirname(process.execPath)}${delimiter}${process.env.PATH ?? ''}`
const bench = await prepareBench()
const results: Result[] = []
try {
  const start = await startTime()
  const date = new Date().toISOString().slice(0, 10)
  const commit = (await must('git', '-C', root, 'rev-parse', '--short=12', 'HEAD')).trim()
  for (const job of chosenJobs()) {
    const turns = Math.max(rounds, job.leastRounds ?? 0)
    console.error(`${job.name}: ${turns} rounds`)
    let close: (() => Promise<void>) | undefined
    try {
      const prepared = await job.prepare(bench)
      close = prepared.close
      results.push({ ...(await measure(job, prepared, turns, start)), date, commit })
    } catch (error) {
      // The other jobs are still worth their time.
      console.error(`${job.name} failed: ${(error as Error).message}`)
      process.exitCode = 1
    } finally {
      await close?.()
      await rm(bench.results, { recursive: true, force: true })
      await mkdir(bench.results)
    }
  }
  console.log(table(results))
  if (scale === 1 && (asked.length === 0 || flags.has('--write'))) write(results, await describeMachine(bench.inputs))
} finally {
  await rm(bench.results, { recursive: true, force: true })
}
