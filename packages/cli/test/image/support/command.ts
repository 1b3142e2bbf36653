/** Runs `moraine image` in tests: from the sources (with MORAINE_COMMAND as built, or the standalone executable), in a home of its own, with none of the caller's OS_ variables. */
import { spawn } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import type { Folder } from '../../../../engine/test/support/folder.ts'
import { type RunResult, run } from '../../../../engine/test/support/process.ts'
import { moraine } from '../../support/differential.ts'

export interface ImageCommand {
  /** The environment of each run; what is put in stays. */
  env: NodeJS.ProcessEnv
  /** The current folder of each run. */
  cwd: string
  /** Runs it, whatever its exit code. */
  run(...args: string[]): Promise<RunResult>
  /** Runs it and must succeed; its standard output. */
  ok(...args: string[]): Promise<string>
  /** The same, with `--output=json`. */
  json<Shape = Record<string, unknown>>(...args: string[]): Promise<Shape>
  /** Starts it and sends a signal once `when` resolves; how it ended. */
  stopped(args: readonly string[], when: Promise<unknown>, signal?: NodeJS.Signals): Promise<string | number | null>
}

/** A command with a fresh home under `folder`. */
export function imageCommand(folder: Folder, access: Record<string, string> = {}): ImageCommand {
  const home = folder.fresh('home')
  mkdirSync(home, { recursive: true })
  const env: NodeJS.ProcessEnv = { PATH: process.env.PATH, HOME: home, LC_ALL: 'C.UTF-8', ...access }
  const command: ImageCommand = {
    env,
    cwd: home,
    run: (...args) => run(moraine, ['image', ...args], { env, cwd: command.cwd }),
    async ok(...args) {
      const result = await command.run(...args)
      if (result.code !== 0)
        throw new Error(`image ${args.join(' ')}: exit ${result.code}\n${result.stdout}${result.stderr}`)
      return result.stdout
    },
    async json<Shape>(...args: string[]) {
      return JSON.parse(await command.ok(...args, '--output=json')) as Shape
    },
    async stopped(args, when, signal = 'SIGINT') {
      const child = spawn(moraine, ['image', ...args], { env, cwd: command.cwd, stdio: 'ignore' })
      const ended = new Promise<string | number | null>((resolve) =>
        child.once('exit', (code, by) => resolve(by ?? code)),
      )
      await when
      child.kill(signal)
      return await ended
    },
  }
  return command
}

/** The command for a shell. */
export function imageShell(): string {
  return `'${moraine}' 'image'`
}
