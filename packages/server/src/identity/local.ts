/** Accounts of the service's own say who is calling. Nothing about them is kept in memory: every process that shares the catalog sees a change at once. */
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { MoraineError } from '@moraine/engine'
import type { Accounts, Role, User } from '../catalog/accounts.ts'
import type { Logins, Session, Token } from '../catalog/logins.ts'
import { type Caller, effectiveRoles } from './caller.ts'
import type { Credentials, Identity } from './identity.ts'
import { canHash, hashPassword, isPassword } from './passwords.ts'
import { withImplied } from './roles.ts'

/** The one domain. */
export const domain = { id: 'default', name: 'Default' } as const

export interface LocalSettings {
  tokenSeconds: number
  /** Wrong passwords in a row for one account from one address; 0: no bound. */
  loginAttempts: number
  loginLockSeconds: number
}

/** Where a token is to count. */
export type Scope =
  | { kind: 'project'; id?: string | undefined; name?: string | undefined }
  | { kind: 'system' }
  | { kind: 'unscoped' }
  /** Of a domain, where nobody has a role. */
  | { kind: 'domain' }

/** How a user is named. */
export type UserName = { id: string } | { name: string }

/** A token that was just made. */
export interface NewToken {
  /** What the client sends from now on. */
  token: string
  session: Session
}

/** Why there is no token. */
export class LoginRefused extends Error {
  /** `unknown` covers a wrong password, a user who is not there or disabled, a scope without a role, and an account that is locked. */
  readonly reason: 'unknown' | 'too-many' | 'delegated'
  /** What is said in the log, without names that were only tried. */
  readonly detail: string

  constructor(reason: LoginRefused['reason'], detail: string) {
    super('login refused')
    this.reason = reason
    this.detail = detail
  }
}

/** A token's digest, as the catalog has it. */
export function tokenHash(token: string): string {
  return createHash('sha256').update(token).digest('hex')
}

export function newId(): string {
  return randomUUID().replaceAll('-', '')
}

export class LocalIdentity implements Identity {
  readonly accounts: Accounts
  readonly logins: Logins
  readonly settings: LocalSettings
  /** Where the password of the first account was written, when it was made up just now. */
  passwordFile: string | undefined
  readonly #now: () => number

  /** @throws MoraineError `unsupported` where this Node has no Argon2. */
  constructor(
    catalog: { accounts: Accounts; logins: Logins },
    settings: LocalSettings,
    now: () => number = () => Math.floor(Date.now() / 1000),
  ) {
    if (!canHash()) {
      const reason = `auth: local needs Argon2, which Node has from 24.7 on; this is ${process.version}`
      throw new MoraineError('unsupported', reason, { field: 'auth' })
    }
    this.accounts = catalog.accounts
    this.logins = catalog.logins
    this.settings = settings
    this.#now = now
  }

  challenge(base: string): string {
    return `Keystone uri="${base}/identity"`
  }

  async identify({ token, serviceToken }: Credentials): Promise<Caller | undefined> {
    const session = await this.session(token)
    if (session === undefined) return undefined
    const service = serviceToken === undefined ? undefined : await this.session(serviceToken)
    if (serviceToken !== undefined && service === undefined) return undefined
    return callerOf(session, service?.roles.some(({ name }) => name === 'service') ?? false)
  }

  async close(): Promise<void> {}

  /** What a token stands for; its roles are with those that they imply. Undefined for one that is no good. */
  async session(token: string | undefined): Promise<Session | undefined> {
    if (token === undefined) return undefined
    const session = await this.logins.session(tokenHash(token))
    if (session === undefined) return undefined
    const roles = rolesOf(session)
    // A scope counts as long as there is a role in it.
    if (roles.length === 0 && (session.project !== null || session.token.system)) return undefined
    return { ...session, roles }
  }

  /** @param address Where the login comes from, for counting. @throws LoginRefused, IdentityUnavailable */
  async withPassword(who: UserName, password: string, scope: Scope | undefined, address: string): Promise<NewToken> {
    const user = await this.#find(who)
    await this.#attempt(user?.id ?? nameOf(who), address, async () => {
      const isRight = await isPassword(password, user?.passwordHash)
      return isRight && user?.enabled === true
    })
    // For the compiler: an attempt without a user never goes well.
    if (user === undefined) throw new LoginRefused('unknown', 'no such user')
    return this.#issue(user, scope ?? (await this.#defaultScope(user)), { methods: ['password'] })
  }

  /** @throws LoginRefused, IdentityUnavailable */
  async withCredential(
    which: { id: string } | { name: string; user: UserName },
    secret: string,
    address: string,
  ): Promise<NewToken> {
    const owner = 'id' in which ? undefined : await this.#find(which.user)
    const credential =
      'id' in which
        ? await this.logins.credential(which.id)
        : owner === undefined
          ? undefined
          : (await this.logins.credentials(owner.id, which.name))[0]
    const key = credential?.id ?? ('id' in which ? which.id : `${nameOf(which.user)}\0${which.name}`)
    await this.#attempt(key, address, () => isPassword(secret, credential?.secretHash))
    const user = credential === undefined ? undefined : await this.accounts.user(credential.userId)
    if (credential === undefined || user === undefined) throw new LoginRefused('unknown', 'no such user')
    if (!user.enabled) throw new LoginRefused('unknown', 'the user is disabled')
    return this.#issue(
      user,
      { kind: 'project', id: credential.projectId },
      { methods: ['application_credential'], credentialId: credential.id, before: credential.expiresAt },
    )
  }

  /** Exchanges a token for one of another scope, which ends when the first does. @throws LoginRefused */
  async withToken(token: string, scope: Scope | undefined): Promise<NewToken> {
    const session = await this.session(token)
    if (session === undefined) throw new LoginRefused('unknown', 'the token is no good')
    if (session.credential !== null) throw new LoginRefused('delegated', 'a token of an application credential')
    const { methods, auditIds, expiresAt } = session.token
    return this.#issue(session.user, scope ?? (await this.#defaultScope(session.user)), {
      methods: ['token', ...methods.filter((method) => method !== 'token')],
      parent: auditIds.at(-1),
      before: expiresAt,
    })
  }

  /** Changes one's own password, which ends all tokens. @throws LoginRefused when the old one is wrong. */
  async changePassword(userId: string, original: string, password: string, address: string): Promise<void> {
    const user = await this.accounts.user(userId)
    await this.#attempt(userId, address, async () => {
      const isRight = await isPassword(original, user?.passwordHash)
      return isRight && user?.enabled === true
    })
    await this.accounts.changeUser(userId, { passwordHash: await hashPassword(password) })
  }

  #find(who: UserName): Promise<User | undefined> {
    return 'id' in who ? this.accounts.user(who.id) : this.accounts.userByName(who.name)
  }

  /** Lets something secret be tried, unless it was tried too often: for one account from one address, for one account from everywhere, for all accounts from
   *  one address. @throws LoginRefused */
  async #attempt(account: string, address: string, isRight: () => Promise<boolean>): Promise<void> {
    const { loginAttempts, loginLockSeconds } = this.settings
    const pair = attemptKey('pair', account, address)
    const ofAccount = attemptKey('account', account)
    const ofAddress = attemptKey('address', address)
    if (loginAttempts > 0) {
      const attempts = [
        { key: pair, most: loginAttempts },
        { key: ofAccount, most: loginAttempts * 10 },
        { key: ofAddress, most: loginAttempts * 10 },
      ]
      const spent = await this.logins.countAttempts(attempts, loginLockSeconds)
      if (spent === ofAddress) throw new LoginRefused('too-many', 'the address is locked')
      if (spent !== undefined) throw new LoginRefused('unknown', 'the account is locked')
    }
    if (!(await isRight())) throw new LoginRefused('unknown', 'wrong password, or no such user')
    if (loginAttempts > 0) await this.logins.forgetAttempts([pair], [ofAccount, ofAddress])
  }

  async #defaultScope(user: User): Promise<Scope> {
    const { defaultProjectId } = user
    if (defaultProjectId === null) return { kind: 'unscoped' }
    const [any] = await this.accounts.assignments({ userId: user.id, projectId: defaultProjectId })
    const project = await this.accounts.project(defaultProjectId)
    return any === undefined || project?.enabled !== true
      ? { kind: 'unscoped' }
      : { kind: 'project', id: defaultProjectId }
  }

  async #issue(
    user: User,
    scope: Scope,
    how: {
      methods: readonly string[]
      credentialId?: string
      parent?: string | undefined
      before?: number | null
    },
  ): Promise<NewToken> {
    const now = this.#now()
    const token = `mt-${randomBytes(32).toString('base64url')}`
    const stored: Token = {
      hash: tokenHash(token),
      userId: user.id,
      projectId: await this.#projectOf(scope),
      system: scope.kind === 'system',
      methods: how.methods,
      auditIds: [randomBytes(16).toString('base64url'), ...(how.parent === undefined ? [] : [how.parent])],
      credentialId: how.credentialId ?? null,
      issuedAt: now,
      expiresAt: Math.min(now + this.settings.tokenSeconds, how.before ?? Number.POSITIVE_INFINITY),
    }
    await this.logins.addToken(stored)
    // Whether user, project and roles make a good token is decided in one place.
    const session = await this.session(token)
    if (session !== undefined) return { token, session }
    await this.logins.removeToken(stored.hash)
    throw new LoginRefused('unknown', 'no role in that scope')
  }

  async #projectOf(scope: Scope): Promise<string | null> {
    if (scope.kind === 'domain') throw new LoginRefused('unknown', 'no role in that scope')
    if (scope.kind !== 'project') return null
    const { id, name } = scope
    const project = id === undefined ? await this.accounts.projectByName(name ?? '') : await this.accounts.project(id)
    if (project === undefined) throw new LoginRefused('unknown', 'no such project')
    return project.id
  }
}

/** Who stands behind a session. */
export function callerOf(session: Session, isService = false): Caller {
  return {
    userId: session.user.id,
    userName: session.user.name,
    projectId: session.project?.id ?? null,
    roles: effectiveRoles(session.roles.map(({ name }) => name)),
    isService,
  }
}

function rolesOf({ roles, credential }: Session): Role[] {
  const held = withImplied(roles).map((role) => ({ ...role, description: null }))
  if (credential === null) return held
  const given = new Set(withImplied(credential.roles).map(({ id }) => id))
  return held.filter(({ id }) => given.has(id))
}

function nameOf(who: UserName): string {
  return 'id' in who ? who.id : `name ${who.name}`
}

/** Names may be long, or what somebody typed in the wrong field; addresses are nobody's business. */
function attemptKey(kind: string, ...parts: string[]): string {
  return `${kind} ${createHash('sha256').update(parts.join('\0')).digest('base64url')}`
}
