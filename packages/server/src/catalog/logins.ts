/** Tokens, application credentials and wrong passwords: what the service asks of the catalog about who is logged in. Neither a token nor a password is in it, only their
 *  digests. Times are seconds since 1970. */
import type { Project, Role, User } from './accounts.ts'

export interface Token {
  /** SHA-256 of the token, in hexadecimal digits. */
  readonly hash: string
  readonly userId: string
  readonly projectId: string | null
  /** In the scope of the whole system. */
  readonly system: boolean
  /** How its owner logged in; `token` first where one token was exchanged for another. */
  readonly methods: readonly string[]
  /** Its own name for logs, then that of the token that it was made from. */
  readonly auditIds: readonly string[]
  readonly credentialId: string | null
  readonly issuedAt: number
  readonly expiresAt: number
}

/** A token that is good, with all that it stands for. */
export interface Session {
  token: Token
  user: User
  /** Null for the whole system, and for a token without a scope. */
  project: Project | null
  /** Given directly in the token's scope. */
  roles: readonly Role[]
  /** The application credential that it was made with. */
  credential: ApplicationCredential | null
}

/** Lets a program log in for a user in one project, with no more than some of the user's roles. */
export interface ApplicationCredential {
  readonly id: string
  readonly userId: string
  readonly projectId: string
  /** The user's only one of its name. */
  readonly name: string
  readonly description: string | null
  readonly secretHash: string
  readonly roles: readonly Pick<Role, 'id' | 'name'>[]
  /** Null: never. */
  readonly expiresAt: number | null
  /** Whether it may be used to make and delete others. */
  readonly unrestricted: boolean
}

/** Something that may be tried a number of times. */
export interface Attempt {
  key: string
  most: number
}

export interface Logins {
  /** Keeps a token; those that are at their end go. */
  addToken(token: Token): Promise<void>
  /** The token with this digest, if it is good: not at its end, user and project enabled. */
  session(hash: string): Promise<Session | undefined>
  /** Resolves to whether there was such a token. */
  removeToken(hash: string): Promise<boolean>

  credentials(userId: string, name?: string): Promise<ApplicationCredential[]>
  credential(id: string): Promise<ApplicationCredential | undefined>
  /** @throws CatalogError `taken`. */
  createCredential(credential: ApplicationCredential): Promise<void>
  /** Takes it away with its tokens. Resolves to whether the user had it. */
  removeCredential(userId: string, id: string): Promise<boolean>

  /** Counts one more try for every key, before it is known how it ends, so that many at once are not too many. Where one key has had its number within
   *  `seconds`, nothing is counted and that key is the answer. */
  countAttempts(attempts: readonly Attempt[], seconds: number): Promise<string | undefined>
  /** Takes the tries of the first keys back altogether, and one try of the others. */
  forgetAttempts(all: readonly string[], one: readonly string[]): Promise<void>
}
