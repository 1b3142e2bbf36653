/** The service as a real process, which can be killed. */
import { spawn } from 'node:child_process'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll } from 'vitest'
import { launcher } from '../../../engine/test/support/launcher.ts'
import { whileParentLives } from './daemon.ts'

export interface Served {
  url: string
  pid: number
  /** Ends it at once. */
  kill(): Promise<void>
  /** Asks it to end. */
  end(): Promise<void>
}

/** A process that may not listen yet. */
export interface Launched extends Omit<Served, 'url'> {
  /** Resolves when it listens. */
  url: Promise<string>
}

/** Gives a function that starts `moraine serve` as people start it, and does not wait; what still runs after the tests of the suite is killed. */
export function launchedProcesses(): (data: string, environment?: Record<string, string>) => Launched {
  const children = new Set<Launched>()
  afterAll(async () => {
    for (const child of children) await child.kill()
  })
  return (data, environment = {}) => {
    const command = [launcher('moraine'), 'serve', '--port', '0', '--data', data, '--log-level', 'silent']
    const [first = '', ...rest] = [...whileParentLives(), ...command]
    const child = spawn(first, rest, {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: { ...process.env, ...environment },
    })
    const gone = new Promise<void>((resolve) => child.on('exit', () => resolve()))
    const stop = (signal: NodeJS.Signals) => async () => {
      child.kill(signal)
      await gone
      children.delete(launched)
    }
    const url = listening(child.stdout.setEncoding('utf8'))
    // Who kills it before it listens does not want to know.
    url.catch(() => {})
    const launched = { pid: child.pid ?? 0, kill: stop('SIGKILL'), end: stop('SIGTERM'), url }
    children.add(launched)
    return launched
  }
}

async function listening(output: AsyncIterable<string>): Promise<string> {
  let said = ''
  for await (const part of output) {
    said += part
    const url = /http:\/\/127\.0\.0\.1:\d+/.exec(said)?.[0]
    if (url !== undefined) return url
  }
  throw new Error(`moraine serve ended before it served: ${said}`)
}

/** Gives a function that starts `moraine serve` and waits until it listens. */
export function servedProcesses(): (data: string, environment?: Record<string, string>) => Promise<Served> {
  const launch = launchedProcesses()
  return async (data, environment = {}) => {
    const launched = launch(data, environment)
    return { ...launched, url: await launched.url }
  }
}

/** Waits for something to come to pass. */
export async function until(check: () => boolean | Promise<boolean>): Promise<void> {
  for (const end = Date.now() + 40_000; Date.now() < end; await sleep(25)) if (await check()) return
  throw new Error('it did not come to pass within 40 seconds')
}
