/** A MariaDB of its own for a measurement: on a private socket, with nothing reachable from the network. */
import { type ChildProcess, spawn } from 'node:child_process'
import { createWriteStream } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { must, runProgram } from './process.ts'

export interface MariaDb {
  readonly pid: number
  readonly socket: string
  /** Runs statements, read from standard input by the stock client. @throws Error with what it said. */
  sql(statements: string): Promise<void>
  stop(): Promise<void>
}

/** @param folder Is made; everything is kept there. */
export async function startMariaDb(folder: string): Promise<MariaDb> {
  await mkdir(join(folder, 'tmp'), { recursive: true })
  const data = join(folder, 'data')
  const socket = join(folder, 's')
  const user = (await must('id', '-un')).trim()
  await must(
    ...['mariadb-install-db', '--no-defaults', `--datadir=${data}`, `--user=${user}`, '--skip-test-db'],
    '--auth-root-authentication-method=normal',
  )
  // What Debian's package sets, with the buffer of its server for data sets of some hundred MiB; each commit goes to the disk, as it comes.
  const child = spawn(
    '/usr/sbin/mariadbd',
    [
      ...['--no-defaults', `--datadir=${data}`, `--socket=${socket}`, '--skip-networking', `--user=${user}`],
      ...[`--tmpdir=${join(folder, 'tmp')}`, '--innodb-buffer-pool-size=256M', '--max-connections=500'],
      ...['--innodb-flush-log-at-trx-commit=1', '--performance-schema=off'],
    ],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  )
  child.stderr.pipe(createWriteStream(join(folder, 'log')))
  const client = ['mariadb', '--no-defaults', '-S', socket, '-u', 'root']
  for (let tries = 0; ; tries++) {
    if ((await runProgram([...client, '-e', 'select 1'])).code === 0) break
    if (tries > 150 || child.exitCode !== null) throw new Error(`MariaDB did not start; ${folder}/log says why`)
    await sleep(200)
  }
  return {
    pid: child.pid ?? 0,
    socket,
    sql: (statements) => feed(client, statements),
    stop: () => end(child, 'SIGTERM'),
  }
}

function feed(client: readonly string[], statements: string): Promise<void> {
  const [command = '', ...args] = client
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['pipe', 'ignore', 'pipe'] })
    let said = ''
    child.stderr.on('data', (chunk) => {
      said += chunk
    })
    child.on('error', reject)
    child.on('close', (code) => (code === 0 ? resolve() : reject(new Error(`mariadb: exit ${code}\n${said}`))))
    child.stdin.end(statements)
  })
}

/** Ends a process that was started here, and waits until it has ended. */
export async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const closed = new Promise((resolve) => child.once('exit', resolve))
  child.kill(signal)
  await closed
}
