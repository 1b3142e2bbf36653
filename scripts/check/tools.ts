/** The checks that other tools make: the compiler, Biome and knip, their findings brought into one shape. */
import { join, relative } from 'node:path'
import { type Ended, run } from '../support/run.ts'
import type { Problem } from './problem.ts'

const tool = (root: string, name: string) => join(root, 'node_modules', '.bin', name)

/** Types, by the TypeScript compiler, of the project at `config` (relative to `root`). */
export async function checkTypes(root: string, config: string, folder = root): Promise<Problem[]> {
  const ended = await run(tool(root, 'tsc'), ['-p', config, '--noEmit', '--pretty', 'false'], folder)
  return orRaw('types', ended, readCompilerOutput(ended.stdout))
}

/** Reads lines such as `src/a.ts(3,23): error TS2307: …`, and errors of a configuration, which have no place. */
export function readCompilerOutput(text: string): Problem[] {
  return text.split('\n').flatMap((line) => {
    const match = /^(?:(.+?)\((\d+),\d+\): )?error (TS\d+): (.*)$/.exec(line)
    if (match === null) return []
    const [, file = 'tsconfig.json', at = '1', code, message = ''] = match
    return [{ file, line: Number(at), rule: `types ${code}`, message }]
  })
}

/** Format and lint, by Biome; warnings count as errors. */
export async function checkBiome(root: string, folder = root): Promise<Problem[]> {
  const ended = await run(
    tool(root, 'biome'),
    ['check', '--reporter=github', '--error-on-warnings', '--max-diagnostics=none', '.'],
    folder,
  )
  return orRaw('biome', ended, readBiomeOutput(ended.stdout, folder))
}

/** Reads GitHub annotations: `::error title=RULE,file=PATH,line=N,…::MESSAGE`. Notices are left out. */
export function readBiomeOutput(text: string, root: string): Problem[] {
  return text.split('\n').flatMap((line) => {
    const match = /^::(?:error|warning) title=([^,]*),file=([^,]*),line=(\d+)[^:]*::(.*)$/.exec(line)
    if (match === null) return []
    const [, rule = '', path = '', at, message = ''] = match
    const said = rule === 'format' ? 'not formatted: run `npm run format`' : message
    return [
      {
        file: path.startsWith('/') ? relative(root, path) : path,
        line: Number(at),
        rule: `biome ${rule}`,
        message: said,
      },
    ]
  })
}

/** Files, exports and dependencies that nothing uses, by knip. */
export async function checkKnip(root: string, folder = root): Promise<Problem[]> {
  const ended = await run(tool(root, 'knip'), ['--reporter', 'json', '--no-progress'], folder)
  return orRaw('knip', ended, ended.stdout.trim() === '' ? [] : readKnipOutput(ended.stdout))
}

/** Reads knip's JSON: for each file, a list for each kind of finding. */
export function readKnipOutput(text: string): Problem[] {
  const { issues } = JSON.parse(text) as { issues: ({ file: string } & Record<string, unknown>)[] }
  return issues.flatMap(({ file, ...kinds }) =>
    Object.entries(kinds).flatMap(([kind, found]) =>
      (Array.isArray(found) ? found.flat() : []).map((item: { name?: string; line?: number }) => ({
        file,
        line: item.line ?? 1,
        rule: `knip ${kind}`,
        message: kind === 'files' ? 'nothing uses this file' : `\`${item.name ?? ''}\``,
      })),
    ),
  )
}

/** A tool that failed without a finding that could be read must not pass. */
function orRaw(name: string, { code, stdout, stderr }: Ended, problems: Problem[]): Problem[] {
  if (code === 0 || problems.length > 0) return problems
  const said = `${stderr}\n${stdout}`.trim().split('\n').slice(-5).join(' / ')
  return [{ file: 'package.json', line: 1, rule: name, message: `ended with ${code ?? 'a signal'}: ${said}` }]
}
