/** Other people's servers: qemu-nbd and nbdkit, each for one test. */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { connect } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import { tool } from '../../../engine/test/support/process.ts'

/** A server that runs. */
export interface ForeignServer {
  uri: string
  socket: string
  process: ChildProcess
  stop(): Promise<void>
}

function program(name: string): string {
  const { path } = tool(name)
  if (path === undefined) throw new Error(`${name} is not installed; guard the test with describeWith`)
  return path
}

async function start(
  name: string,
  args: readonly string[],
  socket: string,
  exportName: string,
): Promise<ForeignServer> {
  const child = spawn(program(name), args, { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    said += text
  })
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()))
  for (let tries = 0; !(await answers(socket)); tries++) {
    if (child.exitCode !== null || tries > 200) throw new Error(`${name} ${args.join(' ')} does not listen\n${said}`)
    await sleep(25)
  }
  return {
    uri: `nbd+unix:///${exportName}?socket=${socket}`,
    socket,
    process: child,
    async stop() {
      child.kill('SIGTERM')
      // They wait for clients that do not leave.
      const hard = setTimeout(() => child.kill('SIGKILL'), 300)
      await ended
      clearTimeout(hard)
    },
  }
}

/** A server that serves one client at a time must not be asked by connecting. */
async function answers(socket: string): Promise<boolean> {
  if (!existsSync(socket)) return false
  return await new Promise((resolve) => {
    const probe = connect(socket)
    probe.once('error', () => resolve(false))
    probe.once('connect', () => {
      probe.destroy()
      resolve(true)
    })
  })
}

/** qemu-nbd for an image; many clients, until it is stopped. */
export function qemuNbd(socket: string, file: string, format: string, ...more: string[]): Promise<ForeignServer> {
  return start('qemu-nbd', ['-t', '-e', '8', '-f', format, '-k', socket, ...more, file], socket, '')
}

/** nbdkit with whatever stands behind its own options: filters, a plugin and its parameters. */
export function nbdkit(socket: string, ...args: string[]): Promise<ForeignServer> {
  return start('nbdkit', ['-f', '-U', socket, ...args], socket, '')
}
