/** The services that tests start: none outlives an interrupted run. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { it, vi } from 'vitest'

it.runIf(process.platform === 'linux')('a service ends with whoever started it, also when that is killed', async () => {
  const support = new URL('support/daemon.ts', import.meta.url).href
  const script = `import { spawnDaemon } from '${support}'
const child = spawnDaemon('sleep', ['60'], { stdio: 'ignore' })
child.once('spawn', () => console.log(child.pid))
setInterval(() => {}, 1000)`
  const parent = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [said] = (await once(parent.stdout.setEncoding('utf8'), 'data')) as [string]
  const status = `/proc/${Number(said)}/status`
  const state = () => (existsSync(status) ? readFileSync(status, 'utf8') : '')
  await vi.waitUntil(() => state().startsWith('Name:\tsleep'), { timeout: 5000 })
  parent.kill('SIGKILL')
  // It may wait as a zombie for somebody to ask after it.
  await vi.waitUntil(() => state() === '' || state().includes('State:\tZ'), { timeout: 5000 })
})
