/** A Keystone says who is calling. */
import { type Caller, effectiveRoles } from './caller.ts'
import { type Credentials, type Identity, IdentityUnavailable } from './identity.ts'
import { KeystoneCatalog } from './keystone-catalog.ts'
import { KeystoneClient, type KeystoneSettings } from './keystone-client.ts'
import { KeystoneLimits } from './keystone-limits.ts'
import { TokenCache } from './token-cache.ts'

/** A token that Keystone knows. */
interface KnownToken {
  readonly userId: string
  readonly userName: string
  readonly projectId: string | null
  readonly roles: ReadonlySet<string>
  readonly expiresAt: number
}

/** Good tokens that are remembered; some 500 bytes each. */
const mostTokens = 10_000

/** @param cacheSeconds For how long an answer about a token is believed. A token that is revoked, or whose user is disabled, is good for that long at most:
 *  Keystone has a list of what it revoked, too, but it does not name all (no role that is taken away, no project that is disabled), so asking again is what is sure.
 *  @param region Where unified limits are looked up; undefined: nowhere. @param home Where other services are looked up. */
export function keystoneIdentity(
  settings: KeystoneSettings,
  cacheSeconds: number,
  region?: string,
  home = 'RegionOne',
): Identity {
  const client = new KeystoneClient(settings)
  const system = region === undefined ? undefined : new KeystoneClient({ ...settings, system: true })
  const limits = system === undefined ? undefined : new KeystoneLimits(system, region ?? '')
  const catalog = new KeystoneCatalog(client, home)
  const users = new TokenCache<KnownToken>({ seconds: cacheSeconds, most: mostTokens })
  const services = new TokenCache<KnownToken>({ seconds: cacheSeconds, most: mostTokens / 100 })
  // Tokens that are at their end, brought by services that finish what was begun in time.
  const late = new TokenCache<KnownToken>({ seconds: cacheSeconds, most: mostTokens / 100 })

  const lookUp = (cache: TokenCache<KnownToken>, token: string, isLate = false) =>
    isSendable(token)
      ? cache.get(token, () => validate(client, token, isLate, cacheSeconds))
      : Promise.resolve(undefined)

  return {
    challenge: () => `Keystone uri="${settings.url.replace(/\/+$/, '')}"`,
    async identify({ token, serviceToken }: Credentials): Promise<Caller | undefined> {
      if (token === undefined) return undefined
      const service = serviceToken === undefined ? undefined : await lookUp(services, serviceToken)
      // A service token that is no good is a refusal, as in Keystone's own middleware.
      if (serviceToken !== undefined && service === undefined) return undefined
      const isService = service?.roles.has('service') ?? false
      const known = (await lookUp(users, token)) ?? (isService ? await lookUp(late, token, true) : undefined)
      if (known === undefined) return undefined
      const { userId, userName, projectId, roles } = known
      return { userId, userName, projectId, roles, isService }
    },
    ...(limits === undefined ? {} : { limitsOf: (project: string) => limits.of(project) }),
    endpointOf: (type) => catalog.endpointOf(type),
    async close() {
      client.close()
      system?.close()
    },
  }
}

/** Whether a token can be sent on in a header. */
function isSendable(token: string): boolean {
  return /^[\x21-\x7e]+$/.test(token)
}

/** The parts of Keystone's document that count here. Source: Identity API v3, "Validate and show information for token". */
interface TokenDocument {
  token?: {
    user?: { id?: string; name?: string }
    project?: { id?: string }
    domain?: { id?: string }
    roles?: { name?: string }[]
    is_admin_project?: boolean
    expires_at?: string
  }
}

async function validate(
  client: KeystoneClient,
  token: string,
  isLate: boolean,
  cacheSeconds: number,
): Promise<KnownToken | undefined> {
  const path = `/auth/tokens?nocatalog=1${isLate ? '&allow_expired=1' : ''}`
  const { status, document } = await client.get(path, { 'x-subject-token': token })
  if (status === 404) return undefined
  const { user, project, domain, roles, is_admin_project, expires_at } = (document as TokenDocument)?.token ?? {}
  const end = Date.parse(expires_at ?? '')
  if (typeof user?.id !== 'string' || Number.isNaN(end)) {
    throw new IdentityUnavailable('Keystone answers about a token in a form that is not known')
  }
  const expiresAt = isLate ? Date.now() + cacheSeconds * 1000 : end
  if (expiresAt < Date.now()) return undefined
  const names = (roles ?? []).flatMap(({ name }) => name ?? [])
  const effective = new Set(effectiveRoles(names))
  // Where one project is that of administrators, the role counts for nothing more than a manager's in the others.
  if (is_admin_project === false) effective.delete('admin')
  return {
    userId: user.id,
    userName: user.name ?? user.id,
    projectId: project?.id ?? null,
    // Roles in a domain say nothing about images.
    roles: domain === undefined ? effective : new Set(),
    expiresAt,
  }
}
