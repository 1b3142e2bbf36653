/** Starting other services for tests. */
import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process'
import { createServer } from 'node:net'

/** What stands before a command whose process is to end with the one that starts it, however that ends: an interrupted run of tests leaves nothing behind.
 *  Debian: util-linux. */
export function whileParentLives(signal: 'KILL' | 'QUIT' = 'KILL'): string[] {
  return process.platform === 'linux' ? ['setpriv', '--pdeathsig', signal] : []
}

/** Starts a service that ends with this process. */
export function spawnDaemon(command: string, args: readonly string[], options: SpawnOptions): ChildProcess {
  const [first = command, ...rest] = [...whileParentLives(), command, ...args]
  return spawn(first, rest, options)
}

/** Waits until a service answers at `url` with anything but an error; false when its process ended first, or in 45 seconds. */
export async function answers(child: ChildProcess, url: string): Promise<boolean> {
  for (const end = Date.now() + 45_000; Date.now() < end && child.exitCode === null; ) {
    const isUp = await fetch(url).then(
      (response) => response.ok,
      () => false,
    )
    if (isUp) return true
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  return false
}

/** A TCP port of loopback that nobody listens on. */
export async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  if (address === null || typeof address === 'string') throw new Error('no free port')
  return address.port
}
