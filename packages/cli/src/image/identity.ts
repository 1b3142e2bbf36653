/** Keystone v3: tokens, and where the catalog says that the image service is. Source: Identity API v3, "Authentication and token management". */
import { Failure } from '../failure.ts'
import type { Access } from './access.ts'
import { isMapping, type Mapping } from './clouds.ts'
import { answerFailure, bodyJson, type HttpClient, isOk, plainUrl } from './http.ts'

/** A token and what came with it. */
export interface Token {
  readonly id: string
  /** Milliseconds since 1970. */
  readonly expires: number
  readonly catalog: readonly Mapping[]
  /** Absent for a token that is not for a project. */
  readonly projectId: string | undefined
}

/** Asks Keystone for a token.
 *  @throws Failure */
export async function fetchToken(http: HttpClient, access: Access, signal?: AbortSignal): Promise<Token> {
  const url = `${await findVersion3(http, access.auth.auth_url ?? '', signal)}/auth/tokens`
  const body = JSON.stringify({ auth: { identity: identityOf(access), scope: scopeOf(access) } })
  const headers = { 'content-type': 'application/json', accept: 'application/json' }
  const answer = await http.send({ method: 'POST', url, headers, body, signal })
  if (!isOk(answer)) {
    const failure = await answerFailure(answer)
    // Other services answer so where they know no such path.
    if ([300, 404, 405].includes(answer.status)) throw failure.withPrefix(`no Keystone is at ${plainUrl(url)}: `)
    throw failure.withPrefix('Keystone refuses: ')
  }
  const id = answer.headers['x-subject-token']
  const document = await bodyJson(answer)
  const token = isMapping(document) ? document.token : undefined
  if (id === undefined || !isMapping(token)) throw new Failure(`${plainUrl(url)} answers without a token`)
  const expires = typeof token.expires_at === 'string' ? Date.parse(token.expires_at) : Number.NaN
  const catalog = Array.isArray(token.catalog) ? token.catalog.filter(isMapping) : []
  const projectId = isMapping(token.project) && typeof token.project.id === 'string' ? token.project.id : undefined
  return { id, projectId, expires: Number.isNaN(expires) ? Number.POSITIVE_INFINITY : expires, catalog }
}

/** Where version 3 is: `auth_url` may name it, or what lists the versions. */
async function findVersion3(http: HttpClient, authUrl: string, signal?: AbortSignal): Promise<string> {
  const base = checkedUrl(authUrl, 'auth_url')
  if (/\/v3$/.test(base)) return base
  const root = base.replace(/\/v2\.0$/, '')
  const answer = await http.send({ method: 'GET', url: `${root}/`, headers: { accept: 'application/json' }, signal })
  const document = await bodyJson(answer).catch((error: unknown) => {
    if (error instanceof Failure && error.constructor === Failure) return undefined
    throw error
  })
  const path = versionPath(document)
  // Behind a proxy the links may name a host and a scheme that are not for us: a password goes nowhere but where the user said.
  if (path !== undefined) return `${new URL(root).origin}${path}`
  return `${root}/v3`
}

function versionPath(document: unknown): string | undefined {
  if (!isMapping(document)) return undefined
  const list = isMapping(document.versions) ? document.versions.values : document.versions
  const versions = (Array.isArray(list) ? list : [document.version]).filter(isMapping)
  const found = versions.find(({ id }) => typeof id === 'string' && id.startsWith('v3'))
  const links: unknown = found?.links
  const self = Array.isArray(links) ? links.find((link) => isMapping(link) && link.rel === 'self') : undefined
  if (!isMapping(self) || typeof self.href !== 'string' || !URL.canParse(self.href)) return undefined
  return new URL(self.href).pathname.replace(/\/+$/, '')
}

/** @throws Failure for what is no address. */
export function checkedUrl(url: string, what: string): string {
  if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) {
    throw new Failure(`${what} must be an address that begins with http:// or https://`)
  }
  const { origin, pathname, username } = new URL(url)
  if (username !== '') throw new Failure(`${what} must not hold a user and a password`)
  return `${origin}${pathname}`.replace(/\/+$/, '')
}

function identityOf({ method, auth }: Access): Mapping {
  if (method === 'token') return { methods: ['token'], token: { id: auth.token } }
  const user = auth.user_id === undefined ? named(auth, 'user', auth.username) : { id: auth.user_id }
  if (method === 'password') return { methods: ['password'], password: { user: { ...user, password: auth.password } } }
  const secret = auth.application_credential_secret
  const id = auth.application_credential_id
  const credential = id === undefined ? { name: auth.application_credential_name, user, secret } : { id, secret }
  return { methods: ['application_credential'], application_credential: credential }
}

/** A thing by its name, which counts within a domain. */
function named(auth: Access['auth'], kind: 'user' | 'project', name: string | undefined): Mapping {
  const id = auth[`${kind}_domain_id`]
  const domainName = auth[`${kind}_domain_name`] ?? (id === undefined ? auth.default_domain_name : undefined)
  if (id !== undefined) return { name, domain: { id } }
  if (domainName !== undefined) return { name, domain: { name: domainName } }
  return { name, domain: { id: auth.default_domain ?? 'default' } }
}

function scopeOf({ method, auth }: Access): Mapping | undefined {
  // An application credential brings its project.
  if (method === 'application_credential') return undefined
  if (auth.system_scope !== undefined) return { system: { all: true } }
  if (auth.trust_id !== undefined) return { 'OS-TRUST:trust': { id: auth.trust_id } }
  if (auth.project_id !== undefined) return { project: { id: auth.project_id } }
  if (auth.project_name !== undefined) return { project: named(auth, 'project', auth.project_name) }
  if (auth.domain_id !== undefined) return { domain: { id: auth.domain_id } }
  if (auth.domain_name !== undefined) return { domain: { name: auth.domain_name } }
  return undefined
}

/** The image service by the catalog of a token.
 *  @throws Failure naming what the catalog has instead. */
export function imageEndpoint({ catalog }: Token, { region, interface: face }: Access): string {
  const services = catalog.filter(({ type }) => type === 'image')
  const endpoints = services.flatMap(({ endpoints }) => (Array.isArray(endpoints) ? endpoints.filter(isMapping) : []))
  const here = endpoints.filter((endpoint) => endpoint.interface === face)
  const found = here.find(
    (endpoint) => region === undefined || endpoint.region_id === region || endpoint.region === region,
  )
  if (typeof found?.url === 'string') return found.url
  if (catalog.length === 0) {
    throw new Failure('the token has no catalog: name a project, or say --os-image-endpoint-override URL')
  }
  const others = endpoints.map((endpoint) => `${endpoint.interface} in ${endpoint.region_id ?? endpoint.region}`)
  const wanted = `${face}${region === undefined ? '' : ` in ${region}`}`
  const has = others.length === 0 ? 'none' : others.join(', ')
  throw new Failure(`Keystone's catalog has no image service (${wanted}); it has: ${has}`)
}
