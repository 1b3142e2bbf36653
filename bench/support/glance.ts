/** Debian's Glance as Debian deploys it: under uwsgi with a process for each core, on MariaDB, behind a Keystone whose answers about tokens it keeps. */
import { spawn } from 'node:child_process'
import { openSync, readFileSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Keystone } from '../../packages/server/test/support/keystone.ts'
import { end, type MariaDb } from './mariadb.ts'
import { must, runProgram } from './process.ts'

const python = '/usr/bin/python3'

/** Packages of Debian that the comparison needs, by a file of each. */
export const needs: Readonly<Record<string, string>> = {
  '/usr/lib/python3/dist-packages/glance/cmd/api.py': 'python3-glance',
  '/usr/lib/python3/dist-packages/keystone/server/wsgi.py': 'python3-keystone',
  '/usr/sbin/mariadbd': 'mariadb-server-core',
  '/usr/bin/mariadb': 'mariadb-client-core',
  '/usr/lib/python3/dist-packages/pymysql/__init__.py': 'python3-pymysql',
  '/usr/bin/uwsgi': 'uwsgi-core',
  '/usr/lib/uwsgi/plugins/python3_plugin.so': 'uwsgi-plugin-python3',
}

export interface Deployed {
  readonly url: string
  /** The first process; the others are its children. */
  readonly pid: number
  /** Seconds from the start of the process to its first answer. */
  readonly startSeconds: number
  stop(): Promise<void>
}

/** The pipeline `keystone` of Debian's own file, without profiler and cross-origin answers. */
const pipeline = `[pipeline:glance-api-keystone]
pipeline = healthcheck http_proxy_to_wsgi versionnegotiation authtoken context rootapp
[composite:rootapp]
paste.composite_factory = glance.api:root_app_factory
/: apiversions
/v2: apiv2app
[app:apiversions]
paste.app_factory = glance.api.versions:create_resource
[app:apiv2app]
paste.app_factory = glance.api.v2.router:API.factory
[filter:healthcheck]
paste.filter_factory = oslo_middleware:Healthcheck.factory
backends = disable_by_file
disable_by_file_path = /nonexistent
[filter:http_proxy_to_wsgi]
paste.filter_factory = oslo_middleware:HTTPProxyToWSGI.factory
[filter:versionnegotiation]
paste.filter_factory = glance.api.middleware.version_negotiation:VersionNegotiationFilter.factory
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
delay_auth_decision = true
[filter:context]
paste.filter_factory = glance.api.middleware.context:ContextMiddleware.factory
`

function settings(folder: string, database: MariaDb, { url, admin }: Keystone): string {
  return `[DEFAULT]
log_file = ${folder}/api.log
use_stderr = false
enabled_backends = store:file
enforce_secure_rbac = true
[database]
connection = mysql+pymysql://root@localhost/glance?unix_socket=${database.socket}&charset=utf8
[glance_store]
default_backend = store
[store]
filesystem_store_datadir = ${folder}/images
[os_glance_staging_store]
filesystem_store_datadir = ${folder}/staging
[os_glance_tasks_store]
filesystem_store_datadir = ${folder}/tasks
[paste_deploy]
flavor = keystone
config_file = ${folder}/conf/glance-api-paste.ini
[keystone_authtoken]
www_authenticate_uri = ${url}
auth_url = ${url}
auth_type = password
interface = public
username = ${admin.user}
password = ${admin.password}
project_name = ${admin.project}
user_domain_name = Default
project_domain_name = Default
[oslo_policy]
enforce_scope = true
enforce_new_defaults = true
[oslo_concurrency]
lock_path = ${folder}/tmp
`
}

/** Makes the database and its tables. */
export async function installGlance(folder: string, database: MariaDb, keystone: Keystone): Promise<void> {
  for (const name of ['conf', 'images', 'staging', 'tasks', 'tmp']) await mkdir(join(folder, name), { recursive: true })
  await writeFile(join(folder, 'conf', 'glance-api.conf'), settings(folder, database, keystone))
  await writeFile(join(folder, 'conf', 'glance-api-paste.ini'), pipeline)
  const application = 'from glance.common.wsgi_app import init_app\napplication = init_app()\n'
  await writeFile(join(folder, 'conf', 'app.py'), application)
  await database.sql('create database glance character set utf8mb3')
  const manage = 'from glance.cmd.manage import main; main()'
  await must(python, '-W', 'ignore', '-c', manage, '--config-file', join(folder, 'conf', 'glance-api.conf'), 'db_sync')
}

/** Starts what was installed in `folder`, with the options of Debian's own glance-api-uwsgi.ini. */
export async function startDeployedGlance(folder: string, port: number): Promise<Deployed> {
  const output = openSync(join(folder, 'output.log'), 'w')
  const started = performance.now()
  const child = spawn(
    '/usr/bin/uwsgi',
    [
      ...['--plugin', 'python3', '--http-socket', `127.0.0.1:${port}`, '--wsgi-file', join(folder, 'conf', 'app.py')],
      ...['--master', '--processes', String(availableParallelism()), '--threads', '32', '--enable-threads'],
      ...['--lazy-apps', '--need-app', '--buffer-size', '65535', '--thunder-lock', '--listen', '100'],
      ...['--die-on-term', '--exit-on-reload', '--no-orphans', '--socket-timeout', '10'],
      ...['--chunked-input-limit', '8388608', '--rem-header', 'Content-Length', '--add-header', 'Connection: close'],
      ...['--logto', join(folder, 'uwsgi.log')],
    ],
    {
      stdio: ['ignore', output, output],
      cwd: folder,
      env: { ...process.env, OS_GLANCE_CONFIG_DIR: join(folder, 'conf'), TMPDIR: join(folder, 'tmp') },
    },
  )
  const url = `http://127.0.0.1:${port}`
  while (!(await responds(`${url}/versions`))) {
    if (child.exitCode !== null || performance.now() - started > 60_000) {
      await end(child, 'SIGKILL')
      throw new Error(`Glance did not start: ${readFileSync(join(folder, 'uwsgi.log'), 'utf8').slice(-2000)}`)
    }
    await sleep(20)
  }
  const startSeconds = (performance.now() - started) / 1000
  return { url, pid: child.pid ?? 0, startSeconds, stop: () => end(child, 'SIGTERM') }
}

/** Whether something answers there at all. */
export async function responds(url: string): Promise<boolean> {
  return fetch(url).then(
    () => true,
    () => false,
  )
}

/** The versions that a reader of the results wants to know. */
export async function versionsOf(...packages: string[]): Promise<string> {
  const { stdout } = await runProgram(['dpkg-query', '--show', ...packages])
  return stdout.trim().replaceAll('\t', ' ').replaceAll('\n', ', ')
}
