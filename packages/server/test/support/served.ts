/** The service as a real process, which can be killed. */
import { spawn } from 'node:child_process'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll } from 'vitest'
import { projectRoot } from '../../../engine/test/support/process.ts'

const command = join(projectRoot, 'bin', 'moraine')

export interface Served {
  url: string
  pid: number
  /** Ends it at once. */
  kill(): Promise<void>
  /** Asks it to end. */
  end(): Promise<void>
}

/** Gives a function that starts `moraine serve` as people start it; what still runs after the tests of the suite is killed. */
export function servedProcesses(): (data: string, environment?: Record<string, string>) => Promise<Served> {
  const children: Served[] = []
  afterAll(async () => {
    for (const child of children) await child.kill()
  })
  return async (data, environment = {}) => {
    const child = spawn(command, ['serve', '--port', '0', '--data', data, '--log-level', 'silent'], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, ...environment },
    })
    const gone = new Promise<void>((resolve) => child.on('exit', () => resolve()))
    const stop = (signal: NodeJS.Signals) => async () => {
      child.kill(signal)
      await gone
    }
    const running = { pid: child.pid ?? 0, kill: stop('SIGKILL'), end: stop('SIGTERM'), url: '' }
    children.push(running)
    let said = ''
    for await (const part of child.stdout.setEncoding('utf8')) {
      said += part
      const url = /http:\/\/127\.0\.0\.1:\d+/.exec(said)?.[0]
      if (url !== undefined) return { ...running, url }
    }
    throw new Error(`moraine serve ended before it served: ${said}`)
  }
}

/** Waits for something to come to pass. */
export async function until(check: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 40_000; Date.now() < end; await sleep(25)) if (await check()) return
  throw new Error('it did not come to pass within 40 seconds')
}
