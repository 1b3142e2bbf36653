/** A real Keystone for tests, as Debian's package python3-keystone has it: one process on one SQLite file, listening on loopback. Nothing of it runs but
 *  what is started here. */
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe } from 'vitest'
import { answers, freePort, spawnDaemon } from './daemon.ts'
import { administer, type IdentityAdmin, type Login, region } from './identity-admin.ts'

/** Debian's Python, whatever else is on the path. */
const python = '/usr/bin/python3'
const application = '/usr/lib/python3/dist-packages/keystone/server/wsgi.py'

/** `describe` for tests that need Keystone: skipped, with the package's name, where it is not installed; in CI that is an error. */
export function describeWithKeystone(title: string, tests: () => void): void {
  if (existsSync(python) && existsSync(application)) describe(title, tests)
  else if (process.env.CI === 'true')
    throw new Error('python3-keystone is not installed, and with CI=true no test may be skipped')
  else describe.skip(`${title} [skipped: python3-keystone not installed]`, tests)
}

/** A running Keystone. */
export interface Keystone extends IdentityAdmin {
  /** Makes the endpoint of the image service, or moves it. */
  imageEndpoint(url: string): Promise<void>
  stop(): Promise<void>
}

const admin: Login = { user: 'admin', password: 'secret-admin', project: 'admin' }

/** Imports Keystone once, lets children make the tables and the first user, then serves: three programs would each import for two seconds. */
const program = `
import os, sys, traceback
from wsgiref.simple_server import WSGIRequestHandler, make_server
from keystone.cmd import manage
from keystone.server.wsgi import initialize_public_application

folder, port = sys.argv[1], int(sys.argv[2])

def step(*arguments):
    child = os.fork()
    if child == 0:
        try:
            sys.argv = ['keystone-manage', '--config-file', folder + '/keystone.conf', *arguments]
            manage.main()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    if os.waitpid(child, 0)[1] != 0:
        sys.exit('keystone-manage ' + arguments[0] + ' failed')

class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass

url = 'http://127.0.0.1:%d/v3' % port
if not os.path.exists(folder + '/keystone.sqlite'):
    step('db_sync')
    step('bootstrap', '--bootstrap-password', '${admin.password}', '--bootstrap-region-id', '${region}',
         '--bootstrap-public-url', url)
sys.argv = ['keystone']
os.environ['OS_KEYSTONE_CONFIG_DIR'] = folder
make_server('127.0.0.1', port, initialize_public_application(), handler_class=Quiet).serve_forever()
`

function settings(folder: string): string {
  return `[DEFAULT]
log_file = ${folder}/keystone.log
use_stderr = false
[database]
connection = sqlite:///${folder}/keystone.sqlite
[fernet_tokens]
key_repository = ${folder}/fernet
[fernet_receipts]
key_repository = ${folder}/fernet
[credential]
key_repository = ${folder}/credential
[identity]
# Cheap hashes: tests make many users.
password_hash_rounds = 4
[cache]
enabled = true
backend = dogpile.cache.memory
[oslo_policy]
# An administrator of a project may manage users, as in newer Keystones.
enforce_scope = false
enforce_new_defaults = false
`
}

/** Starts Keystone with all that it keeps in `folder`, and waits until it answers: some five seconds. A folder that it has used is taken up again. */
export async function startKeystone(folder: string, port?: number): Promise<Keystone> {
  const chosen = port ?? (await freePort())
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(folder, 'keystone.conf'), settings(folder))
  for (const keys of ['fernet', 'credential']) {
    if (existsSync(join(folder, keys))) continue
    mkdirSync(join(folder, keys), { mode: 0o700 })
    for (const name of ['0', '1']) {
      const key = randomBytes(32).toString('base64').replaceAll('+', '-').replaceAll('/', '_')
      writeFileSync(join(folder, keys, name), key, { mode: 0o600 })
    }
  }
  const output = openSync(join(folder, 'output.log'), 'w')
  const child = spawnDaemon(python, ['-W', 'ignore', '-c', program, folder, String(chosen)], {
    stdio: ['ignore', output, output],
    cwd: folder,
    env: { PATH: '/usr/bin:/bin', LC_ALL: 'C.UTF-8' },
  })
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  const stop = async () => {
    child.kill('SIGKILL')
    await ended
  }
  const url = `http://127.0.0.1:${chosen}/v3`
  if (await answers(child, url)) return control(url, stop)
  await stop()
  throw new Error(`Keystone did not start: ${readFileSync(join(folder, 'output.log'), 'utf8')}`)
}

function control(url: string, stop: () => Promise<void>): Keystone {
  const client = administer(url, admin)
  const { manage, ensure } = client
  return {
    ...client,
    stop,
    async imageEndpoint(where) {
      const service = await ensure('service', { name: 'glance', type: 'image' })
      const { endpoints } = (await manage('GET', `/endpoints?service_id=${service}`)).json<{
        endpoints: { id: string }[]
      }>()
      for (const { id } of endpoints) await manage('DELETE', `/endpoints/${id}`)
      for (const side of ['public', 'internal', 'admin']) {
        const endpoint = { service_id: service, interface: side, url: where, region_id: region }
        await manage('POST', '/endpoints', { endpoint })
      }
    },
  }
}
