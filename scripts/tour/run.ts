/** Runs the steps of the tour as a person would: one shell, one folder, the service on its side. */
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { run } from '../check/run.ts'
import { readmePort, type Step } from './page.ts'

/** What each step printed, standard error too. A step that fails is an error.
 *  The service takes a free port, which stands for the README's. */
export async function runTour(root: string, steps: readonly Step[]): Promise<string[]> {
  const folder = await mkdtemp(join(tmpdir(), 'moraine-tour-'))
  const port = await freePort()
  const service = spawn(join(root, 'bin', 'moraine'), ['serve'], {
    stdio: 'ignore',
    env: {
      ...process.env,
      MORAINE_PORT: String(port),
      MORAINE_DATA: join(folder, 'service'),
      MORAINE_LOG_LEVEL: 'silent',
    },
  })
  try {
    await answering(service, port)
    await mkdir(join(folder, 'tour'))
    return await runSteps(root, join(folder, 'tour'), steps, port)
  } finally {
    await ended(service)
    await rm(folder, { recursive: true, force: true })
  }
}

async function runSteps(root: string, folder: string, steps: readonly Step[], port: number): Promise<string[]> {
  const mark = '--next-step--'
  const script = [
    'set -eu',
    'export LC_ALL=C.UTF-8',
    `moraine() { '${join(root, 'bin', 'moraine')}' "$@"; }`,
    ...steps.flatMap(({ command }) => [command.replaceAll(String(readmePort), String(port)), `echo '${mark}'`]),
  ].join('\n')
  const { code, stdout } = await run('bash', ['-c', `exec 2>&1\n${script}`], folder)
  const outputs = stdout.replaceAll(String(port), String(readmePort)).split(`${mark}\n`)
  if (code !== 0) {
    const at = outputs.length - 1
    throw new Error(`the tour's \`${steps[at]?.command ?? '?'}\` ended with ${code}:\n${outputs[at] ?? ''}`)
  }
  return outputs.slice(0, steps.length)
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  if (address === null || typeof address === 'string') throw new Error('no free port')
  return address.port
}

async function answering(service: ChildProcess, port: number): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    const ok = await fetch(`http://127.0.0.1:${port}/v2/images`).then(
      (response) => response.ok,
      () => false,
    )
    if (ok) return
    if (service.exitCode !== null) break
    await sleep(100)
  }
  throw new Error('the service did not start')
}

async function ended(service: ChildProcess): Promise<void> {
  if (service.exitCode !== null || service.signalCode !== null) return
  const closed = new Promise((resolve) => service.once('close', resolve))
  service.kill('SIGTERM')
  await closed
}
