/** Runs programs under a clock, with the most memory they held as the kernel counted it. */
import { spawn } from 'node:child_process'
import { readFile, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Contender, Sample } from './job.ts'

/** How a program ended. */
export interface Run {
  code: number | null
  stdout: string
  stderr: string
  seconds: number
}

/** Runs a program to its end. `quiet`: its standard output is thrown away unread, as for measurements. */
export function runProgram(argv: readonly string[], options: { quiet?: boolean } = {}): Promise<Run> {
  const [command = '', ...args] = argv
  return new Promise((resolve, reject) => {
    const started = performance.now()
    const child = spawn(command, args, { stdio: ['ignore', options.quiet === true ? 'ignore' : 'pipe', 'pipe'] })
    let stdout = ''
    let stderr = ''
    child.stdout?.on('data', (chunk) => {
      stdout += chunk
    })
    child.stderr?.on('data', (chunk) => {
      stderr += chunk
    })
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, stdout, stderr, seconds: (performance.now() - started) / 1000 }))
  })
}

/** Runs a program that must end with 0; its standard output. */
export async function must(...argv: string[]): Promise<string> {
  const { code, stdout, stderr } = await runProgram(argv)
  if (code !== 0) throw new Error(`${argv.join(' ')}: exit ${code}\n${stderr}${stdout}`)
  return stdout
}

/** A contender that is a program. `target` is removed before each run and measured after it; `scratch` is a folder for the clock's notes. */
export function program(
  name: string,
  argv: readonly string[],
  options: { scratch: string; target?: string; codes?: readonly number[] },
): Contender {
  return {
    name,
    async run(): Promise<Sample> {
      const { scratch, target, codes = [0] } = options
      if (target !== undefined) await rm(target, { force: true })
      const notes = join(scratch, 'time')
      // GNU time waits for the program and prints the kernel's ru_maxrss, in KiB.
      const run = await runProgram(['time', '--quiet', '--format=%M', `--output=${notes}`, ...argv], { quiet: true })
      if (run.code === null || !codes.includes(run.code)) {
        throw new Error(`${argv.join(' ')}: exit ${run.code}\n${run.stderr}`)
      }
      const peakBytes = Number((await readFile(notes, 'utf8')).trim().split('\n').at(-1)) * 1024
      const outputBytes = target === undefined ? undefined : (await stat(target)).blocks * 512
      return { seconds: run.seconds, peakBytes, outputBytes }
    },
  }
}
