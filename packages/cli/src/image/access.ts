/** Which image service is meant and who is calling: options, then a cloud of clouds.yaml or the environment, become one checked description. */
import { Failure } from '../failure.ts'
import { type AccessValues, accessOptions } from './access-options.ts'
import { isMapping, type Mapping, readClouds, type Surroundings } from './clouds.ts'

/** How the caller is known. */
export type AuthMethod = 'password' | 'token' | 'application_credential' | 'admin_token' | 'none'

/** What TLS and proxies need. */
export interface Trust {
  cacert?: string | undefined
  cert?: string | undefined
  key?: string | undefined
  /** Certificates are not looked at. */
  insecure: boolean
}

/** All that is known, by the names of clouds.yaml. */
export interface Access {
  method: AuthMethod
  /** `auth_url`, names, ids and secrets. */
  auth: Readonly<Record<string, string>>
  region: string | undefined
  interface: string
  /** The image service, where nobody has to be asked. */
  endpoint: string | undefined
  trust: Trust
  /** The name of the cloud, for messages. */
  cloud: string | undefined
}

const beside = new Set([
  'auth_type',
  'region_name',
  'interface',
  'image_endpoint_override',
  'cacert',
  'cert',
  'key',
  'default_domain',
])
/** Older names and those of other clients. */
const aliases: Readonly<Record<string, string>> = {
  tenant_name: 'project_name',
  tenant_id: 'project_id',
  user_name: 'username',
  auth_token: 'token',
  url: 'endpoint',
  image_url: 'endpoint',
  endpoint_type: 'interface',
  image_interface: 'interface',
  image_endpoint: 'image_endpoint_override',
  default_domain_id: 'default_domain',
  ca_file: 'cacert',
}
const methods: Readonly<Record<string, AuthMethod>> = {
  password: 'password',
  v3password: 'password',
  token: 'token',
  v3token: 'token',
  v3applicationcredential: 'application_credential',
  admin_token: 'admin_token',
  token_endpoint: 'admin_token',
  none: 'none',
}

/** Joins what the user said. A cloud that is named by option or OS_CLOUD is taken from clouds.yaml alone, changed by options only: variables that are left over from another
 *  cloud must not send its secrets there.
 *  @throws Failure naming what is missing or contradicts itself; never with a secret. */
export function readAccess(given: AccessValues, around: Surroundings): Access {
  const options = fromOptions(given)
  const environment = fromEnvironment(around.env)
  const { cloud: _cloud, ...others } = environment
  const named = options.cloud ?? environment.cloud
  const aloneInFile = named === undefined && Object.keys({ ...others, ...options }).length === 0
  const clouds = named !== undefined || aloneInFile ? readClouds(around) : new Map<string, Mapping>()
  const cloud = named ?? (clouds.size === 1 ? [...clouds.keys()][0] : undefined)
  if (cloud === undefined) {
    if (clouds.size > 0)
      throw new Failure('it is not said which cloud is meant', {
        hint: `Say --os-cloud NAME: clouds.yaml has ${[...clouds.keys()].join(', ')}.`,
      })
    return toAccess({ ...others, ...options }, undefined)
  }
  const settings = clouds.get(cloud)
  if (settings === undefined) throw unknownCloud(cloud, [...clouds.keys()])
  return toAccess({ ...fromCloud(cloud, settings, options.region_name), ...options }, cloud)
}

function unknownCloud(cloud: string, known: string[]): Failure {
  const hint = known.length === 0 ? 'No clouds.yaml was found.' : `clouds.yaml has: ${known.join(', ')}`
  return new Failure(`cloud '${cloud}' is not in clouds.yaml`, { hint })
}

function fromOptions(given: AccessValues): Record<string, string> {
  const found: Record<string, string> = {}
  for (const name of Object.keys(accessOptions)) {
    const value = given[name as keyof AccessValues]
    if (typeof value === 'string') found[name] = value
    else if (value === true) found[name] = 'true'
  }
  return found
}

function fromEnvironment(env: Surroundings['env']): Record<string, string> {
  const found: Record<string, string> = {}
  const names = [...Object.keys(aliases), ...Object.keys(accessOptions)]
  for (const name of names) {
    const value = env[`OS_${name.toUpperCase()}`]
    if (value !== undefined && value !== '') found[aliases[name] ?? name] = value
  }
  return found
}

/** A cloud's mapping made flat: `auth` and what stands beside it. */
function fromCloud(cloud: string, settings: Mapping, region: string | undefined): Record<string, string> {
  const found: Record<string, string> = {}
  const put = (key: string, value: unknown): void => {
    const name = key.replaceAll('-', '_')
    if (value === undefined || value === null || typeof value === 'object') return
    found[aliases[name] ?? name] = String(value)
  }
  for (const [key, value] of Object.entries(settings)) put(key, value)
  if (settings.auth !== undefined && !isMapping(settings.auth)) {
    throw new Failure(`clouds.yaml, cloud '${cloud}': 'auth' must be a mapping`)
  }
  for (const [key, value] of Object.entries(settings.auth ?? {})) put(key, value)
  if (found.region_name === undefined) {
    const first = regionsOf(settings).find(({ name }) => region === undefined || name === region)
    if (first !== undefined) {
      found.region_name = first.name
      for (const [key, value] of Object.entries(first.values)) put(key, value)
    }
  }
  if (found.verify !== undefined && found.verify.toLowerCase() === 'false') found.insecure = 'true'
  const profile = found.profile ?? found.cloud
  if (profile !== undefined && found.auth_url === undefined && found.endpoint === undefined) {
    throw new Failure(
      `clouds.yaml, cloud '${cloud}': the profile '${profile}' is not known here, so auth_url must be given`,
    )
  }
  return found
}

/** `regions` names regions, or gives each settings of its own. */
function regionsOf({ regions }: Mapping): { name: string; values: Mapping }[] {
  if (!Array.isArray(regions)) return []
  return regions.flatMap((region: unknown) => {
    if (typeof region === 'string') return [{ name: region, values: {} }]
    if (!isMapping(region) || typeof region.name !== 'string') return []
    return [{ name: region.name, values: isMapping(region.values) ? region.values : {} }]
  })
}

function toAccess(found: Record<string, string>, cloud: string | undefined): Access {
  const method = methodOf(found)
  const where = cloud === undefined ? '' : `cloud '${cloud}': `
  const need = (name: string, ...others: string[]): void => {
    if ([name, ...others].some((one) => found[one] !== undefined)) return
    throw missing(
      `${where}${[name, ...others].join(' or ')} is not given, which ${found.auth_type ?? method} needs`,
      cloud,
    )
  }
  if (method === 'none' || method === 'admin_token') {
    need('endpoint', 'image_endpoint_override')
    if (method === 'admin_token') need('token')
  } else {
    if (Object.keys(found).length === 0) throw missing('no image service is named', cloud)
    need('auth_url')
    if (found.identity_api_version?.startsWith('2') === true)
      throw new Failure(`${where}version 2 of the identity API is gone; Keystone v3 is needed`)
    if (method === 'token') need('token')
    if (method === 'password') {
      need('username', 'user_id')
      need('password')
    }
    if (method === 'application_credential') {
      need('application_credential_id', 'application_credential_name')
      need('application_credential_secret')
    }
  }
  const auth = Object.fromEntries(
    Object.entries(found).filter(([name]) => !beside.has(name) || name === 'default_domain'),
  )
  const direct = method === 'none' || method === 'admin_token' ? found.endpoint : undefined
  return {
    method,
    auth,
    region: found.region_name,
    interface: (found.interface ?? 'public').replace(/URL$/, ''),
    endpoint: found.image_endpoint_override ?? direct,
    trust: {
      cacert: found.cacert,
      cert: found.cert,
      key: found.key,
      insecure: /^(1|true|yes|on)$/i.test(found.insecure ?? ''),
    },
    cloud,
  }
}

function missing(message: string, cloud: string | undefined): Failure {
  if (cloud !== undefined) return new Failure(message)
  return new Failure(message, {
    hint:
      'Say --os-endpoint URL for a service that asks nobody who they are, --os-cloud NAME for one of clouds.yaml, or set the OS_ variables.\n' +
      "'moraine image --help' lists them.",
  })
}

function methodOf(found: Record<string, string>): AuthMethod {
  const said = found.auth_type
  if (said !== undefined) {
    const method = methods[said]
    if (method !== undefined) return method
    throw new Failure(`auth_type '${said}' is not supported`, { hint: `It may be ${Object.keys(methods).join(', ')}.` })
  }
  if (found.auth_url === undefined && (found.endpoint ?? found.image_endpoint_override) !== undefined) {
    return found.token === undefined ? 'none' : 'admin_token'
  }
  if (found.application_credential_secret !== undefined) return 'application_credential'
  return found.token !== undefined && found.password === undefined ? 'token' : 'password'
}
