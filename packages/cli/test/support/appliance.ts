/** Running moraine on appliances, and other programs on what it made. */
import { execFileSync } from 'node:child_process'
import { expect } from 'vitest'
import { run, tool } from '../../../engine/test/support/process.ts'
import { moraine } from './differential.ts'

/** Exit code, then all that was printed. */
export async function command(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(moraine, args)
  return `${code}\n${stdout}${stderr}`
}

/** Runs moraine, which must end with 0; its standard output. */
export async function ok(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(moraine, args)
  expect(code, stderr).toBe(0)
  return stdout
}

/** Runs another program. */
export function other(program: string, args: string[], options: { cwd?: string; input?: string } = {}): string {
  return execFileSync(tool(program).path ?? program, args, {
    encoding: 'utf8',
    stdio: ['pipe', 'pipe', 'ignore'],
    ...options,
  })
}

/** Unpacks with tar into a new folder. */
export function unpackInto(path: string, archive: string): { path: string; names: string[] } {
  execFileSync('mkdir', [path])
  execFileSync('tar', ['-C', path, '-xf', archive])
  const names = execFileSync('tar', ['-tf', archive], { encoding: 'utf8' }).trimEnd().split('\n')
  return { path, names }
}
