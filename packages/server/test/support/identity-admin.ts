/** Users, projects and tokens at an identity service, a real Keystone or ours, as an administrator makes them. */
import { type Answer, ask } from './service.ts'

/** Who logs in, and where to. */
export interface Login {
  user: string
  password: string
  /** A project's name; absent: unscoped. */
  project?: string
  /** In the scope of the whole system instead. */
  system?: boolean
}

/** What tests ask of an identity service. Users and projects are in the domain `default`. */
export interface IdentityAdmin {
  /** Of version 3, as in `http://127.0.0.1:5000/v3`. */
  readonly url: string
  /** `admin` has every right, in the project `admin` and on the system. */
  readonly admin: Login
  /** Sends a request as administrator. The path begins after `/v3`. @throws Error for an answer that is an error. */
  manage(method: string, path: string, document?: unknown): Promise<Answer>
  /** Finds a thing by its name, or makes it; its id. @param kind As in `project`. */
  ensure(kind: string, facts: { name: string; [more: string]: unknown }): Promise<string>
  /** Makes a project, or finds it; its id. */
  project(name: string): Promise<string>
  /** Makes a user with roles in projects, which are made when they are not there; its id. Roles are made, too. */
  user(name: string, password: string, roles: Readonly<Record<string, readonly string[]>>): Promise<string>
  /** Asks for a new token. */
  logIn(login: Login): Promise<Answer>
  /** A new token. */
  token(login: Login): Promise<string>
  /** The environment in which clients log in. */
  environment(login: Login): Record<string, string>
}

export const region = 'RegionOne'

export function administer(url: string, admin: Login): IdentityAdmin {
  let adminToken: Promise<string> | undefined

  const manage = async (method: string, path: string, document?: unknown): Promise<Answer> => {
    adminToken ??= token(admin)
    const headers = { 'content-type': 'application/json', 'x-auth-token': await adminToken }
    const body = document === undefined ? undefined : JSON.stringify(document)
    const answer = await ask(`${url}${path}`, method, body, headers)
    if (answer.status < 400) return answer
    throw new Error(`${method} ${path}: ${answer.status} ${answer.body}`)
  }

  const logIn = (login: Login): Promise<Answer> => {
    const body = JSON.stringify({ auth: { identity: identityOf(login), scope: scopeOf(login) } })
    return ask(`${url}/auth/tokens`, 'POST', body, { 'content-type': 'application/json' })
  }

  const token = async (login: Login): Promise<string> => {
    const answer = await logIn(login)
    const made = answer.headers['x-subject-token']
    if (typeof made === 'string') return made
    throw new Error(`no token for ${login.user}: ${answer.status} ${answer.body}`)
  }

  const ensure: IdentityAdmin['ensure'] = async (kind, facts) => {
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
    ensure,
    project,
    logIn,
    token,
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
    environment: (login) => clientEnvironment(url, login),
  }
}

interface Named {
  id: string
  name: string
}

function identityOf({ user, password }: Login): object {
  return { methods: ['password'], password: { user: { name: user, domain: { id: 'default' }, password } } }
}

function scopeOf({ project, system }: Login): unknown {
  if (system === true) return { system: { all: true } }
  return project === undefined ? 'unscoped' : { project: { name: project, domain: { id: 'default' } } }
}

/** The environment in which the stock clients log in with a password. */
function clientEnvironment(url: string, { user, password, project, system }: Login): Record<string, string> {
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
