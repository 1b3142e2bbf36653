/** A real Glance for tests, as Debian's package python3-glance has it: without identity, on one SQLite file and one folder. Nothing of it runs
 *  but what is started here. */
import { accessSync, mkdirSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe } from 'vitest'
import { runOk } from '../../../engine/test/support/process.ts'
import { answers, freePort, spawnDaemon } from './daemon.ts'
import type { Login } from './identity-admin.ts'
import type { Keystone } from './keystone.ts'
import { limitsEndpoint } from './limits-double.ts'

/** Debian's Python, whatever else is on the path. */
const python = '/usr/bin/python3'
const packages = '/usr/lib/python3/dist-packages'
/** Debian 12's; later ones answer some requests in other words. */
const release = '25.'

function isThere(): boolean {
  try {
    accessSync(python)
    return readdirSync(packages).some((name) => name.startsWith(`glance-${release}`))
  } catch {
    return false
  }
}

/** `describe` for tests that need Glance: skipped, with the package's name, where that release is not installed; in CI that is an error. */
export function describeWithGlance(title: string, tests: () => void): void {
  if (isThere()) describe(title, tests)
  else if (process.env.CI === 'true')
    throw new Error(`python3-glance ${release}x is not installed, and with CI=true no test may be skipped`)
  else describe.skip(`${title} [skipped: python3-glance ${release}x not installed]`, tests)
}

/** The headers by which a request says who sends it, where those of Keystone's middleware are believed. */
export function asCaller(projectId: string, roles: readonly string[]): Record<string, string> {
  return {
    'x-identity-status': 'Confirmed',
    'x-user-id': `user-of-${projectId}`,
    'x-project-id': projectId,
    'x-roles': roles.join(','),
    'x-auth-token': `${projectId}:${roles.join(',')}`,
  }
}

/** A running Glance. */
export interface Glance {
  url: string
  stop(): Promise<void>
}

/** `unauthenticated-context`: nobody has to say who they are. `context`: the headers that Keystone's middleware would set are believed. */
const pipeline = (context: 'unauthenticated-context' | 'context' | 'authtoken context') => `[pipeline:glance-api]
pipeline = healthcheck versionnegotiation ${context} rootapp
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
[filter:versionnegotiation]
paste.filter_factory = glance.api.middleware.version_negotiation:VersionNegotiationFilter.factory
[filter:unauthenticated-context]
paste.filter_factory = glance.api.middleware.context:UnauthenticatedContextMiddleware.factory
[filter:context]
paste.filter_factory = glance.api.middleware.context:ContextMiddleware.factory
[filter:authtoken]
paste.filter_factory = keystonemiddleware.auth_token:filter_factory
`

/** Everybody may do everything: nobody says who they are. */
const policy = [
  ...[
    'default',
    'add_image',
    'delete_image',
    'get_image',
    'get_images',
    'modify_image',
    'publicize_image',
    'communitize_image',
  ],
  ...['download_image', 'upload_image', 'deactivate', 'reactivate'],
  ...['get_metadef_namespaces', 'list_metadef_resource_types', 'get_metadef_resource_type', 'metadef_default'],
  ...['get_metadef_properties', 'get_metadef_objects', 'get_metadef_tags', 'metadef_admin'],
  ...['namespace', 'object', 'property', 'tag', 'tags', 'resource_type_association'].flatMap((what) =>
    ['get', 'add', 'modify', 'delete', 'remove'].map((verb) => `${verb}_metadef_${what}`),
  ),
]
  .map((rule) => `"${rule}": "@"\n`)
  .join('')

/** One store and no imports, or several and all that works without a Keystone. */
function storeSettings(folder: string, several: boolean): [general: string, stores: string] {
  if (!several) {
    const store = `[glance_store]
stores = file
default_store = file
filesystem_store_datadir = ${folder}/images`
    return [`enabled_import_methods = []\nnode_staging_uri = file://${folder}/staging`, store]
  }
  const general = `enabled_import_methods = [glance-direct,web-download,copy-image]
enabled_backends = one:file, two:file, web:http`
  const stores = `[glance_store]
default_backend = one
[one]
filesystem_store_datadir = ${folder}/one
store_description = First
[two]
filesystem_store_datadir = ${folder}/two
[web]
[os_glance_staging_store]
filesystem_store_datadir = ${folder}/staging
[os_glance_tasks_store]
filesystem_store_datadir = ${folder}/tasks
[import_filtering_opts]
allowed_hosts = [127.0.0.1]
allowed_ports = []`
  return [general, stores]
}

/** What operators have besides a cache, and locations that are shown and changed. */
export interface Operated {
  /** What the file of property protections says. */
  protections?: string
  /** Where a Keystone with unified limits is. */
  limits?: string
}

function operatorSettings(folder: string, { protections, limits }: Operated): [general: string, sections: string] {
  const general = [`image_cache_dir = ${folder}/cache`, 'show_multiple_locations = true']
  if (protections !== undefined) {
    writeFileSync(join(folder, 'protections.ini'), protections)
    general.push(`property_protection_file = ${folder}/protections.ini`)
  }
  if (limits === undefined) return [general.join('\n'), '']
  general.push('use_keystone_limits = true')
  const sections = `[oslo_limit]
auth_type = none
endpoint = ${limits}/v3
endpoint_id = ${limitsEndpoint}`
  return [general.join('\n'), sections]
}

function settings(
  folder: string,
  port: number,
  callers: boolean,
  several: boolean,
  database?: string,
  operated?: Operated,
): string {
  const [more, sections] = operated === undefined ? ['', ''] : operatorSettings(folder, operated)
  const [general, stores] = storeSettings(folder, several)
  return `[DEFAULT]
bind_host = 127.0.0.1
bind_port = ${port}
workers = 0
log_file = ${folder}/api.log
use_stderr = false
${general}
${more}
enforce_secure_rbac = ${callers}
${sections}
[database]
connection = ${database ?? `sqlite:///${folder}/glance.sqlite`}
${stores}
[oslo_policy]
policy_file = ${folder}/policy.yaml
enforce_new_defaults = ${callers}
enforce_scope = ${callers}
[paste_deploy]
config_file = ${folder}/paste.ini
[oslo_concurrency]
lock_path = ${folder}
[task]
work_dir = ${folder}/tasks
`
}

/** Starts Glance with all that it keeps in `folder`, and waits until it answers. @param callers Whether requests say who sends them, as in `asCaller`, and Glance's own
 *  rules of 2023.1 decide. @param several Whether there are stores `one` (the default), `two` and `web`, and imports, from 127.0.0.1 too. @param database The address of
 *  an empty database; undefined: SQLite. */
export async function startGlance(
  folder: string,
  callers = false,
  several = false,
  database?: string,
  operated?: Operated,
): Promise<Glance> {
  for (const name of ['images', 'staging', 'tasks', 'one', 'two', 'cache'])
    mkdirSync(join(folder, name), { recursive: true })
  const port = await freePort()
  writeFileSync(join(folder, 'paste.ini'), pipeline(callers ? 'context' : 'unauthenticated-context'))
  writeFileSync(join(folder, 'policy.yaml'), callers ? '{}\n' : policy)
  writeFileSync(join(folder, 'api.conf'), settings(folder, port, callers, several, database, operated))
  return await runGlance(folder, port)
}

/** Starts Glance with the settings that `folder` has. */
async function runGlance(folder: string, port: number): Promise<Glance> {
  const call = (module: string, ...args: string[]) => [
    ...['-W', 'ignore', '-c', `from glance.cmd.${module} import main; main()`],
    ...['--config-file', join(folder, 'api.conf'), ...args],
  ]
  await runOk(python, call('manage', 'db_sync'))
  const output = openSync(join(folder, 'output.log'), 'w')
  const child = spawnDaemon(python, call('api'), { stdio: ['ignore', output, output], cwd: folder })
  const url = `http://127.0.0.1:${port}`
  const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  const stop = async () => {
    child.kill('SIGKILL')
    await ended
  }
  if (await answers(child, `${url}/versions`)) return { url, stop }
  await stop()
  throw new Error(`Glance did not start: ${readFileSync(join(folder, 'output.log'), 'utf8')}`)
}

/** Starts Glance behind a Keystone, with two stores (`one`, the default, and `two`) and every import method; the Keystone learns where it is. */
export async function startGlanceBehind(keystone: Keystone, folder: string): Promise<Glance> {
  for (const name of ['one', 'two', 'staging', 'tasks']) mkdirSync(join(folder, name), { recursive: true })
  const port = await freePort()
  const login = { user: 'glance', password: 'secret-glance', project: 'service' }
  await keystone.user(login.user, login.password, { service: ['admin', 'service'] })
  writeFileSync(join(folder, 'paste.ini'), pipeline('authtoken context'))
  writeFileSync(join(folder, 'policy.yaml'), '{}\n')
  writeFileSync(join(folder, 'api.conf'), settingsBehind(keystone, login, folder, port))
  const glance = await runGlance(folder, port)
  await keystone.imageEndpoint(glance.url)
  return glance
}

function settingsBehind({ url }: Keystone, { user, password, project }: Login, folder: string, port: number): string {
  return `[DEFAULT]
bind_host = 127.0.0.1
bind_port = ${port}
workers = 0
log_file = ${folder}/api.log
use_stderr = false
enabled_backends = one:file, two:file
enabled_import_methods = [glance-direct,web-download,copy-image]
enforce_secure_rbac = true
[database]
connection = sqlite:///${folder}/glance.sqlite
[glance_store]
default_backend = one
[one]
filesystem_store_datadir = ${folder}/one
[two]
filesystem_store_datadir = ${folder}/two
[os_glance_staging_store]
filesystem_store_datadir = ${folder}/staging
[os_glance_tasks_store]
filesystem_store_datadir = ${folder}/tasks
[keystone_authtoken]
auth_url = ${url}
auth_type = password
interface = public
username = ${user}
password = ${password}
project_name = ${project}
user_domain_name = Default
project_domain_name = Default
[oslo_policy]
policy_file = ${folder}/policy.yaml
enforce_new_defaults = true
enforce_scope = true
[paste_deploy]
config_file = ${folder}/paste.ini
[oslo_concurrency]
lock_path = ${folder}
[task]
work_dir = ${folder}/tasks
[import_filtering_opts]
allowed_hosts = [127.0.0.1]
allowed_ports = []
`
}
