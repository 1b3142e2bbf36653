/** A PostgreSQL for tests, on a private socket. Nothing of it runs but what is started here. Debian: postgresql. */
import { spawn } from 'node:child_process'
import { chownSync, existsSync, mkdtempSync, openSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe } from 'vitest'
import { run, runOk } from '../../../engine/test/support/process.ts'
import { whileParentLives } from './daemon.ts'

export interface Postgres {
  /** The folder of its socket; everybody who may reach it is the user `glance`. */
  socket: string
  create(name: string): Promise<void>
  stop(): Promise<void>
}

const versions = '/usr/lib/postgresql'
const driver = '/usr/lib/python3/dist-packages/psycopg2/__init__.py'

/** `describe` for tests that need PostgreSQL and Python's driver for it: skipped, with their packages' names, where they are not installed; in CI that is an error. */
export function describeWithPostgres(title: string, tests: () => void): void {
  const missing = [
    ...(newest() === undefined ? ['postgresql'] : []),
    ...(existsSync(driver) ? [] : ['python3-psycopg2']),
  ]
  if (missing.length === 0) describe(title, tests)
  else if (process.env.CI === 'true')
    throw new Error(`${missing.join(', ')} is not installed, and with CI=true no test may be skipped`)
  else describe.skip(`${title} [skipped: ${missing.join(', ')} not installed]`, tests)
}

/** The folder of the newest version's programs, which are not on the path. */
function newest(): string | undefined {
  if (!existsSync(versions)) return undefined
  const found = readdirSync(versions).toSorted((a, b) => Number(a) - Number(b))
  return found.map((version) => join(versions, version, 'bin')).findLast((bin) => existsSync(join(bin, 'initdb')))
}

export async function startPostgres(): Promise<Postgres> {
  const bin = newest() ?? ''
  // Not below a folder that is ours alone: PostgreSQL does not run as root, and has a user of its own then.
  const folder = mkdtempSync(join(tmpdir(), 'moraine-pg-'))
  const isRoot = userInfo().uid === 0
  const rights: string[] = []
  if (isRoot) {
    const [uid = 0, gid = 0] = (await Promise.all(['-u', '-g'].map((kind) => runOk('id', [kind, 'postgres'])))).map(
      Number,
    )
    chownSync(folder, uid, gid)
    rights.push('--reuid', String(uid), '--regid', String(gid), '--clear-groups')
  }
  const command = (name: string, args: readonly string[], more: readonly string[] = []): [string, string[]] => {
    const privileges = [...more, ...rights]
    const before = privileges.length === 0 ? [] : ['setpriv', ...privileges]
    const [first = '', ...rest] = [...before, join(bin, name), ...args]
    return [first, rest]
  }
  const data = join(folder, 'data')
  await runOk(...command('initdb', ['--username=glance', '--auth=trust', '--encoding=UTF8', '--no-sync', '-D', data]), {
    cwd: folder,
  })
  const output = openSync(join(folder, 'log'), 'w')
  const options = ['-k', folder, '-c', 'listen_addresses=', '-c', 'fsync=off']
  // In one call: a process that takes other rights is tied to no other any more.
  const tied = whileParentLives('QUIT').slice(1)
  const child = spawn(...command('postgres', ['-D', data, ...options], tied), {
    cwd: folder,
    stdio: ['ignore', output, output],
  })
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  const ask = (statement: string) =>
    run(join(bin, 'psql'), ['-h', folder, '-U', 'glance', '-d', 'postgres', '-c', statement])
  for (let tries = 0; (await ask('select 1')).code !== 0; tries++) {
    if (tries > 100 || child.exitCode !== null) throw new Error(`PostgreSQL did not start; see ${folder}/log`)
    await sleep(200)
  }
  return {
    socket: folder,
    async create(name) {
      const { code, stderr } = await ask(`create database ${name}`)
      if (code !== 0) throw new Error(stderr)
    },
    async stop() {
      child.kill('SIGQUIT')
      await ended
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
