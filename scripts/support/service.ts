/** A moraine image service on a free port of this machine. */
import { type ChildProcess, spawn } from 'node:child_process'
import { createServer } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'

/** A running service. */
export interface Service {
  port: number
  url: string
  pid: number
  /** Ends it and waits until it has. */
  stop(): Promise<void>
}

/** Starts `command serve` with its data in `data`, and waits until it answers. Throws when it does not within 30 seconds. */
export async function startService(command: string, data: string): Promise<Service> {
  const port = await freePort()
  const child = spawn(command, ['serve'], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, MORAINE_PORT: String(port), MORAINE_DATA: data, MORAINE_LOG_LEVEL: 'error' },
  })
  let said = ''
  child.stderr.on('data', (chunk) => {
    said += chunk
  })
  await new Promise<void>((resolve, reject) => child.once('spawn', resolve).once('error', reject))
  const url = `http://127.0.0.1:${port}`
  for (let tries = 0; tries < 300 && !isOver(child); tries++) {
    const answered = await fetch(`${url}/v2/images`).then(
      (response) => response.ok,
      () => false,
    )
    if (answered) return { port, url, pid: child.pid ?? 0, stop: () => stop(child) }
    await sleep(100)
  }
  await stop(child)
  throw new Error(`the service did not start: ${said}`)
}

const isOver = (child: ChildProcess) => child.exitCode !== null || child.signalCode !== null

async function stop(child: ChildProcess): Promise<void> {
  if (isOver(child)) return
  const closed = new Promise((resolve) => child.once('close', resolve))
  child.kill('SIGTERM')
  await closed
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
