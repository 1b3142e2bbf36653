/** `npm run bench`, after `npm run build` and `npm run build:binary`: measures moraine beside what a user would otherwise run, and prints one table.
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
import { imageServiceParts, measureImageService } from './jobs/image-service.ts'
import { inspectJobs } from './jobs/inspect.ts'
import { largeJobs } from './jobs/large.ts'
import { nbdJobs } from './jobs/nbd.ts'
import { serviceJobs } from './jobs/service.ts'
import { startJobs } from './jobs/start.ts'
import { versionsOf } from './support/glance.ts'
import type { Bench, Job } from './support/job.ts'
import { must, runProgram } from './support/process.ts'
import { measure, median, type Result } from './support/result.ts'
import { holds, type ServiceRow, serviceSection, serviceTable } from './support/service-result.ts'
import { type Machine, page, table } from './support/table.ts'

const root = join(import.meta.dirname, '..')
const allJobs: Job[] = [
  ...startJobs,
  ...convertJobs,
  ...formatJobs,
  ...largeJobs,
  ...nbdJobs,
  ...inspectJobs,
  ...engineJobs,
  ...serviceJobs,
]
const scale = Number(process.env.MORAINE_BENCH_SCALE ?? '1')
const rounds = Number(process.env.MORAINE_BENCH_ROUNDS ?? '5')
const asked = process.argv.slice(2).filter((argument) => !argument.startsWith('--'))
const flags = new Set(process.argv.slice(2).filter((argument) => argument.startsWith('--')))

const names = [...allJobs.map(({ name }) => name), ...Object.keys(imageServiceParts)]

/** The names of what was asked for. */
function chosenNames(): Set<string> {
  const fits = (job: string, name: string) => job === name || job.startsWith(`${name}/`)
  for (const name of asked) {
    if (!names.some((job) => fits(job, name))) throw new Error(`no such job: ${name}; --list names them`)
  }
  return new Set(asked.length === 0 ? names : names.filter((job) => asked.some((name) => fits(job, name))))
}

async function prepareBench(): Promise<Bench> {
  const moraine = join(root, 'packages', 'cli', 'dist', 'main.js')
  if (!existsSync(moraine)) throw new Error('the packages are not built: npm run build')
  const standalone = join(root, 'dist', `moraine-${process.platform}-${process.arch}`)
  if (!existsSync(standalone)) throw new Error('the standalone executable is not built: npm run build:binary')
  for (const tool of ['qemu-img', 'time', 'mke2fs', 'cp']) await must('which', tool)
  const inputs = join(tmpdir(), `moraine-bench-${scale}`)
  await mkdir(inputs, { recursive: true })
  return {
    scale,
    inputs,
    results: await mkdtemp(join(tmpdir(), 'moraine-bench-results-')),
    moraine,
    standalone,
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
  /** The image service beside Glance. */
  service?: { versions: string; rows: ServiceRow[] } | undefined
}

/** Puts the results in the place of those of the same jobs; the others keep the commit they were measured at. */
function write(results: readonly Result[], rows: readonly ServiceRow[], versions: string, machine: Machine): void {
  const file = join(root, 'bench', 'results.json')
  const before = existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as Written) : undefined
  const byJob = new Map([...(before?.results ?? []), ...results].map((result) => [result.job, result]))
  const all = allJobs.flatMap(({ name }) => byJob.get(name) ?? [])
  const byName = new Map([...(before?.service?.rows ?? []), ...rows].map((row) => [row.name, row]))
  const service =
    byName.size === 0
      ? undefined
      : { versions: versions || (before?.service?.versions ?? ''), rows: [...byName.values()] }
  writeFileSync(file, `${JSON.stringify({ machine, rounds, results: all, service } satisfies Written, undefined, 2)}\n`)
  const section = service === undefined ? '' : serviceSection(service.rows, service.versions)
  writeFileSync(join(root, 'bench', 'results.md'), page(all, machine, rounds) + section)
}

if (flags.has('--list')) {
  const titles = [...allJobs.map(({ name, title }) => [name, title] as const), ...Object.entries(imageServiceParts)]
  for (const [name, title] of titles) console.log(`${name.padEnd(24)} ${title}`)
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
  const chosen = chosenNames()
  for (const job of allJobs.filter(({ name }) => chosen.has(name))) {
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
  if (results.length > 0) console.log(table(results))
  let rows: ServiceRow[] = []
  if (Object.keys(imageServiceParts).some((name) => chosen.has(name))) {
    try {
      rows = (await measureImageService(bench, chosen, Math.min(rounds, 3))).map((row) => ({ ...row, date, commit }))
      console.log(serviceTable(rows))
      if (!rows.every(holds)) console.error('image-service: not every row holds')
    } catch (error) {
      console.error(`image-service failed: ${(error as Error).message}`)
      process.exitCode = 1
    }
  }
  if (scale === 1 && (asked.length === 0 || flags.has('--write'))) {
    const versions =
      rows.length === 0
        ? ''
        : await versionsOf('python3-glance', 'python3-keystone', 'mariadb-server-core', 'uwsgi-core')
    write(results, rows, versions, await describeMachine(bench.inputs))
  }
} finally {
  await rm(bench.results, { recursive: true, force: true })
}
