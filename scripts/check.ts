/** `npm run check`: everything about the sources that a machine can judge without running them. The parts run at the same time; each
 *  finding is one line, `file:line rule: message`. Names of parts as arguments run only those. */
import { readdirSync, readFileSync } from 'node:fs'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { nodeProgram } from './build/workspace.ts'
import { checkDocs } from './check/docs.ts'
import { checkFloors, type Manifest, type Package } from './check/floors.ts'
import { checkLock } from './check/lock.ts'
import { formatProblem, type Problem, tidy } from './check/problem.ts'
import { listSources, readSource } from './check/sources.ts'
import { checkLengths, checkWords, type TextFile } from './check/text.ts'
import { checkBiome, checkKnip, checkTypes } from './check/tools.ts'
import { run } from './support/run.ts'

const root = join(import.meta.dirname, '..')

const parts: Record<string, () => Promise<Problem[]> | Problem[]> = {
  types: () => checkTypes(root, 'tsconfig.json'),
  browser: () => checkTypes(root, 'tsconfig.browser.json'),
  biome: () => checkBiome(root),
  knip: () => checkKnip(root),
  docs: () => checkDocs(listSources(root, 'packages/engine/src').map((path) => readSource(root, path))),
  floors: () => checkFloors(readPackages()),
  text: async () => {
    const files = await readProject()
    return [...checkLengths(files), ...checkWords(files, await machineFacts())]
  },
  formats: async () => {
    const { code } = await run(nodeProgram(), ['--conditions=source', 'scripts/formats-page.ts', '--check'], root)
    const message = 'is not what the formats declare; npm run formats-page writes it'
    return code === 0 ? [] : [{ file: 'docs/formats.md', line: 1, rule: 'formats', message }]
  },
  lock: () => checkLock('package-lock.json', readFileSync(join(root, 'package-lock.json'), 'utf8')),
}

function readPackages(): Package[] {
  return readdirSync(join(root, 'packages')).map((folder) => ({
    folder,
    manifest: JSON.parse(readFileSync(join(root, 'packages', folder, 'package.json'), 'utf8')) as Manifest,
    files: listSources(root, `packages/${folder}/src`).map((path) => readSource(root, path)),
  }))
}

/** Every text file that Git would carry, those not yet added too. */
async function readProject(): Promise<TextFile[]> {
  const { code, stdout, stderr } = await run(
    'git',
    ['ls-files', '-z', '--cached', '--others', '--exclude-standard'],
    root,
  )
  if (code !== 0) throw new Error(`git ls-files: ${stderr}`)
  return stdout
    .split('\0')
    .filter((path) => path !== '')
    .flatMap((path) => {
      const text = readIfThere(join(root, path))
      return text === undefined || text.includes('\0') ? [] : [{ path, text }]
    })
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    // Git lists what was deleted but not committed, and links.
    if (['ENOENT', 'EISDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined
    throw error
  }
}

async function machineFacts() {
  const { stdout } = await run('npm', ['config', 'get', 'registry'], root)
  const registry = URL.canParse(stdout.trim()) ? [new URL(stdout.trim()).host] : []
  return { folders: [root, homedir(), tmpdir()], hosts: registry }
}

async function runPart(name: string): Promise<number> {
  const started = performance.now()
  let problems: Problem[]
  try {
    problems = tidy(await (parts[name] as () => Promise<Problem[]>)())
  } catch (error) {
    problems = [{ file: 'scripts/check.ts', line: 1, rule: name, message: (error as Error).message }]
  }
  const seconds = ((performance.now() - started) / 1000).toFixed(1)
  const verdict = problems.length === 0 ? 'ok' : `${problems.length} problem${problems.length === 1 ? '' : 's'}`
  console.log(
    [`${name}: ${verdict} (${seconds} s)`, ...problems.map((problem) => `  ${formatProblem(problem)}`)].join('\n'),
  )
  return problems.length
}

const asked = process.argv.slice(2)
const unknown = asked.filter((name) => !Object.hasOwn(parts, name))
if (unknown.length > 0) {
  console.error(`no such part: ${unknown.join(', ')}; there are ${Object.keys(parts).join(', ')}`)
  process.exit(2)
}
const counts = await Promise.all((asked.length > 0 ? asked : Object.keys(parts)).map(runPart))
const total = counts.reduce((sum, count) => sum + count, 0)
console.log(total === 0 ? 'check: ok' : `check: ${total} problem${total === 1 ? '' : 's'}`)
process.exitCode = total === 0 ? 0 : 1
