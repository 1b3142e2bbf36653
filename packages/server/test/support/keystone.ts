/** A real Keystone for tests, as Debian's package python3-keystone has it: one process on one SQLite file, listening on loopback. Nothing of it runs but
 *  what is started here. */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe } from 'vitest'
import { answers, freePort } from './daemon.ts'
import { type Answer, ask } from './service.ts'

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

/** Who logs in, and where to. */
export interface Login {
  user: string
  password: string
  /** A project's name; absent: unscoped. */
  project?: string
  /** In the scope of the whole system instead. */
  system?: boolean
}

/** A running Keystone. Users and projects are in the domain `default`. */
export interface Keystone {
  /** As in `http://127.0.0.1:5000/v3`. */
  readonly url: string
  /** `admin` has every right, in the project `admin` and on the system. */
  readonly admin: Login
  /** Sends a request as administrator. The path begins after `/v3`. @throws Error for an answer that is an error. */
  manage(method: string, path: string, document?: unknown): Promise<Answer>
  /** Makes a project, or finds it; its id. */
  project(name: string): Promise<string>
  /** Makes a user with roles in projects, which are made when they are not there; its id. Roles are made, too. */
  user(name: string, password: string, roles: Readonly<Record<string, readonly string[]>>): Promise<string>
  /** Makes the endpoint of the image service, or moves it. */
  imageEndpoint(url: string): Promise<void>
  /** A new token. */
  token(login: Login): Promise<string>
  /** The environment in which clients log in. */
  environment(login: Login): Record<string, string>
  stop(): Promise<void>
}

const region = 'RegionOne'
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
  const child = spawn(python, ['-W', 'ignore', '-c', program, folder, String(chosen)], {
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

interface Named {
  id: string
  name: string
}

function control(url: string, stop: () => Promise<void>): Keystone {
  let adminToken: Promise<string> | undefined

  const manage = async (method: string, path: string, document?: unknown): Promise<Answer> => {
    adminToken ??= token(admin)
    const headers = { 'content-type': 'application/json', 'x-auth-token': await adminToken }
    const body = document === undefined ? undefined : JSON.stringify(document)
    const answer = await ask(`${url}${path}`, method, body, headers)
    if (answer.status < 400) return answer
    throw new Error(`${method} ${path}: ${answer.status} ${answer.body}`)
  }

  async function token(login: Login): Promise<string> {
    const body = JSON.stringify({ auth: { identity: identityOf(login), scope: scopeOf(login) } })
    const answer = await ask(`${url}/auth/tokens`, 'POST', body, { 'content-type': 'application/json' })
    const made = answer.headers['x-subject-token']
    if (typeof made === 'string') return made
    throw new Error(`no token for ${login.user}: ${answer.status} ${answer.body}`)
  }

  /** Finds a thing by its name, or makes it. */
  const ensure = async (kind: string, facts: { name: string; [more: string]: unknown }): Promise<string> => {
    const list = (await manage('GET', `/${kind}s?name=${facts.name}`)).json<Record<string, Named[]>>()
    const known = list[`${kind}s`]?.find(({ name }) => name === facts.name)
    if (known !== undefined) return known.id
    const made = (await manage('POST', `/${kind}s`, { [kind]: facts })).json<Record<string, Named>>()
    return made[kind]?.id ?? ''
  }
  const project = (name: string) => ensure('project', { name, domain_id: 'default' })

  return {
    url,
    admin,
    manage,
    project,
    token,
    stop,
    async user(name, password, roles) {
      const user = await ensure('user', { name, password, domain_id: 'default' })
      for (const [where, names] of Object.entries(roles)) {
        const projectId = await project(where)
        for (const role of names) {
          const roleId = await ensure('role', { name: role })
          await manage('PUT', `/projects/${projectId}/users/${user}/roles/${roleId}`)
        }
      }
      return user
    },
    async imageEndpoint(where) {
      const service = await ensure('service', { name: 'glance', type: 'image' })
      const { endpoints } = (await manage('GET', `/endpoints?service_id=${service}`)).json<{ endpoints: Named[] }>()
      for (const { id } of endpoints) await manage('DELETE', `/endpoints/${id}`)
      for (const side of ['public', 'internal', 'admin']) {
        const endpoint = { service_id: service, interface: side, url: where, region_id: region }
        await manage('POST', '/endpoints', { endpoint })
      }
    },
    environment: (login) => clientEnvironment(url, login),
  }
}

function identityOf({ user, password }: Login): object {
  return { methods: ['password'], password: { user: { name: user, domain: { id: 'default' }, password } } }
}

function scopeOf({ project, system }: Login): unknown {
  if (system === true) return { system: { all: true } }
  return project === undefined ? 'unscoped' : { project: { name: project, domain: { id: 'default' } } }
}

/** The environment in which the stock clients log in with a password. @param url Of version 3 of an identity service. */
export function clientEnvironment(url: string, { user, password, project, system }: Login): Record<string, string> {
  return {
    OS_AUTH_URL: url,
    OS_USERNAME: user,
    OS_PASSWORD: password,
    OS_USER_DOMAIN_NAME: 'Default',
    ...(project === undefined ? {} : { OS_PROJECT_NAME: project, OS_PROJECT_DOMAIN_NAME: 'Default' }),
    ...(system === true ? { OS_SYSTEM_SCOPE: 'all' } : {}),
    OS_IDENTITY_API_VERSION: '3',
    OS_IMAGE_API_VERSION: '2',
    OS_REGION_NAME: region,
  }
}
