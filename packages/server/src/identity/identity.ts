/** How a service finds out who is calling. `none`, `local` and `keystone` are values of this type. */
import type { Limits } from '../quota/limits.ts'
import { anybody, type Caller } from './caller.ts'

/** What a request brings to say who sends it. */
export interface Credentials {
  /** `X-Auth-Token`. */
  token: string | undefined
  /** `X-Service-Token`. */
  serviceToken: string | undefined
}

/** Who is calling cannot be found out now; asking again later may help. */
export class IdentityUnavailable extends Error {}

export interface Identity {
  /** The value of `WWW-Authenticate` when credentials are refused; empty: none. @param base The URL under which the client reached the service. */
  challenge(base: string): string
  /** Resolves to undefined for credentials that are absent, unknown, expired or revoked. @throws IdentityUnavailable */
  identify(credentials: Credentials): Promise<Caller | undefined>
  /** What a project may use, where this says so; absent: the settings do. @throws IdentityUnavailable */
  limitsOf?(projectId: string): Promise<Limits>
  /** Where another service of the cloud is; absent: this knows of none. @throws IdentityUnavailable */
  endpointOf?(type: string): Promise<string | undefined>
  close(): Promise<void>
}

/** Nobody has to say who they are. */
export const noIdentity: Identity = {
  challenge: () => '',
  identify: () => Promise.resolve(anybody),
  close: () => Promise.resolve(),
}
