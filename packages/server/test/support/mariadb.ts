/** A MariaDB for tests, on a private socket. Nothing of it runs but what is started here. */
import { mkdirSync, openSync } from 'node:fs'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { run, runOk, tool } from '../../../engine/test/support/process.ts'
import { spawnDaemon } from './daemon.ts'

export interface MariaDb {
  /** The path of its socket, which must be short: the system allows some hundred characters. */
  socket: string
  /** Makes a database. */
  create(name: string): Promise<void>
  stop(): Promise<void>
}

/** Programs that are needed, for `describeWith`. Debian: mariadb-server-core, mariadb-client-core. */
export const mariadbTools = ['mariadbd', 'mariadb-install-db', 'mariadb'] as const

export async function startMariaDb(folder: string): Promise<MariaDb> {
  mkdirSync(join(folder, 'tmp'), { recursive: true })
  const [server = '', install = '', client = ''] = mariadbTools.map((name) => tool(name).path)
  const user = `--user=${userInfo().username}`
  const data = `--datadir=${join(folder, 'data')}`
  const socket = join(folder, 's')
  await runOk(install, ['--no-defaults', data, user, '--auth-root-authentication-method=normal', '--skip-test-db'])
  const output = openSync(join(folder, 'log'), 'w')
  const options = [`--socket=${socket}`, '--skip-networking', `--tmpdir=${join(folder, 'tmp')}`]
  const child = spawnDaemon(server, ['--no-defaults', data, user, ...options], { stdio: ['ignore', output, output] })
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  const ask = (statement: string) => run(client, ['--no-defaults', '-S', socket, '-u', 'root', '-e', statement])
  for (let tries = 0; (await ask('select 1')).code !== 0; tries++) {
    if (tries > 100 || child.exitCode !== null) throw new Error(`MariaDB did not start; see ${folder}/log`)
    await sleep(200)
  }
  return {
    socket,
    async create(name) {
      const { code, stderr } = await ask(`create database ${name} character set utf8mb3`)
      if (code !== 0) throw new Error(stderr)
    },
    async stop() {
      child.kill('SIGKILL')
      await ended
    },
  }
}
