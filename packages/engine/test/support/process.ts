/** Running other programs in tests: where they are, what they answer, and visible skips when they are absent. */
import { spawn } from 'node:child_process'
import { accessSync, constants, existsSync } from 'node:fs'
import { delimiter, isAbsolute, join, resolve } from 'node:path'
import { describe } from 'vitest'

/** The project's root, from where this file stands. */
export const projectRoot = resolve(import.meta.dirname, '../../../..')

/** A program that a test needs. */
export interface Tool {
  name: string
  /** Its absolute path; undefined when it is not installed. */
  path: string | undefined
}

/** Finds an installed program on the path, or a file by its absolute name. The project's own commands do not count: `bin/qemu-img` is what is tested, never the oracle.
 *  With `CI=true` in the environment an absent program is an error, so that no check is skipped there. */
export function tool(name: string): Tool {
  if (isAbsolute(name) && existsSync(name)) return { name, path: name }
  const folders = (process.env.PATH ?? '').split(delimiter).concat('/usr/sbin', '/sbin')
  for (const folder of folders) {
    if (folder === '' || resolve(folder).startsWith(projectRoot)) continue
    const path = join(folder, name)
    try {
      accessSync(path, constants.X_OK)
      return { name, path }
    } catch {
      // not in this folder
    }
  }
  if (process.env.CI === 'true') throw new Error(`${name} is not installed, and with CI=true no test may be skipped`)
  return { name, path: undefined }
}

/** `describe` for tests that need programs: skipped, with their names in the title, when one is absent. */
export function describeWith(names: readonly string[], title: string, tests: () => void): void {
  const absent = names.filter((name) => tool(name).path === undefined)
  if (absent.length === 0) describe(title, tests)
  else describe.skip(`${title} [skipped: ${absent.join(', ')} not installed]`, tests)
}

/** What a program answered. */
export interface RunResult {
  /** Exit code; -1 when a signal ended it. */
  code: number
  signal: NodeJS.Signals | null
  stdout: string
  stderr: string
  /** It was ended because it took longer than allowed. */
  timedOut: boolean
}

/** How a program is run. */
export interface RunSettings {
  cwd?: string
  /** Milliseconds, default 60,000; then it is killed. */
  timeout?: number
  env?: NodeJS.ProcessEnv
  /** Text for its standard input. */
  input?: string
}

/** Runs a program to its end, whatever its exit code. */
export function run(command: string, args: readonly string[], settings: RunSettings = {}): Promise<RunResult> {
  return new Promise((done, fail) => {
    const child = spawn(command, args, {
      cwd: settings.cwd,
      env: settings.env ?? { ...process.env, LC_ALL: 'C' },
      stdio: [settings.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    })
    let stdout = ''
    let stderr = ''
    let timedOut = false
    const timer = setTimeout(() => {
      timedOut = true
      child.kill('SIGKILL')
    }, settings.timeout ?? 60_000)
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
    })
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    child.on('error', (error) => {
      clearTimeout(timer)
      fail(error)
    })
    child.on('close', (code, signal) => {
      clearTimeout(timer)
      done({ code: code ?? -1, signal, stdout, stderr, timedOut })
    })
    if (settings.input === undefined) return
    // A program may end without reading it.
    child.stdin?.on('error', () => {})
    child.stdin?.end(settings.input)
  })
}

/** Runs a program that must end with 0; its standard output. */
export async function runOk(command: string, args: readonly string[], settings: RunSettings = {}): Promise<string> {
  const result = await run(command, args, settings)
  if (result.code !== 0) {
    throw new Error(
      `${command} ${args.join(' ')}: exit ${result.code} ${result.signal ?? ''}\n${result.stdout}${result.stderr}`,
    )
  }
  return result.stdout
}
