/** A caller's connection to one image service: finds it, keeps a token, and gets a new one when the server no longer takes the old. */
import { ownVersion } from '../version.ts'
import type { Access } from './access.ts'
import {
  answerFailure,
  bodyJson,
  discard,
  type HttpAnswer,
  HttpClient,
  type HttpMethod,
  isOk,
  type SentBody,
} from './http.ts'
import { checkedUrl, fetchToken, imageEndpoint, type Token } from './identity.ts'

/** What a request to the image service may have. */
export interface SessionRequest {
  headers?: Readonly<Record<string, string | undefined>>
  body?: SentBody | undefined
  signal?: AbortSignal | undefined
}

/** Milliseconds before its end in which a token is no longer used for new requests. */
const tokenMargin = 30_000

/** Speaks to the image service as one caller. */
export class Session {
  /** Fires when the user stops the command. */
  readonly signal: AbortSignal | undefined
  private readonly access: Access
  private readonly http: HttpClient
  private token: Token | undefined
  private base: string | undefined

  constructor(access: Access, signal?: AbortSignal) {
    this.access = access
    this.signal = signal
    this.http = new HttpClient(access.trust)
  }

  /** Sends a request to a path such as `/v2/images`, or to an address that the service gave; any status is an answer. A token that is refused is renewed once.
   *  @throws Failure, MoraineError `cancelled` */
  async send(method: HttpMethod, path: string, request: SessionRequest = {}): Promise<HttpAnswer> {
    const first = await this.attempt(method, path, request)
    if (first.status !== 401 || !this.renewable) return first
    await discard(first)
    this.token = undefined
    return await this.attempt(method, path, request)
  }

  /** The same, where only success will do.
   *  @throws HttpFailure */
  async ask(method: HttpMethod, path: string, request: SessionRequest = {}): Promise<HttpAnswer> {
    const answer = await this.send(method, path, request)
    if (isOk(answer)) return answer
    const failure = await answerFailure(answer)
    if (answer.status === 401 && this.access.method === 'none') {
      throw failure.withMoreHint('This service wants to know who is calling: see --os-cloud and --os-auth-url.')
    }
    throw failure
  }

  /** A document. */
  async get(path: string): Promise<unknown> {
    return await bodyJson(await this.ask('GET', path))
  }

  /** Sends a document; what comes back is thrown away unless it is asked for. */
  async call(method: HttpMethod, path: string, body?: unknown, type = 'application/json'): Promise<HttpAnswer> {
    if (body === undefined) return await this.ask(method, path)
    return await this.ask(method, path, { body: JSON.stringify(body), headers: { 'content-type': type } })
  }

  /** The project that the token is for, where there is one. */
  async projectId(): Promise<string | undefined> {
    const { method, auth } = this.access
    return method === 'none' || method === 'admin_token' ? auth.project_id : (await this.currentToken()).projectId
  }

  async close(): Promise<void> {
    this.http.close()
  }

  /** The address of a path of the image service, or of an address that it gave. Behind a proxy such an address may name a host that is not for us: the token goes nowhere but to
   *  the service. */
  async addressOf(path: string): Promise<string> {
    const base = await this.endpoint()
    if (path.startsWith('/')) return `${base}${path}`
    const { pathname, search } = new URL(path, `${base}/`)
    return `${new URL(base).origin}${pathname}${search}`
  }

  private async attempt(method: HttpMethod, path: string, request: SessionRequest): Promise<HttpAnswer> {
    const url = await this.addressOf(path)
    const headers = {
      accept: 'application/json',
      'user-agent': `moraine/${ownVersion()}`,
      'x-auth-token': await this.tokenId(),
      ...request.headers,
    }
    const signal = 'signal' in request ? request.signal : this.signal
    return await this.http.send({ method, url, headers, body: request.body, signal })
  }

  private get renewable(): boolean {
    return this.access.method === 'password' || this.access.method === 'application_credential'
  }

  private async tokenId(): Promise<string | undefined> {
    if (this.access.method === 'none') return undefined
    if (this.access.method === 'admin_token') return this.access.auth.token
    return (await this.currentToken()).id
  }

  private async currentToken(): Promise<Token> {
    const stale = this.token !== undefined && this.renewable && this.token.expires - Date.now() < tokenMargin
    if (this.token === undefined || stale) this.token = await fetchToken(this.http, this.access, this.signal)
    return this.token
  }

  /** The service without the version at its end. */
  private async endpoint(): Promise<string> {
    if (this.base === undefined) {
      const url = this.access.endpoint ?? imageEndpoint(await this.currentToken(), this.access)
      this.base = checkedUrl(url, 'the address of the image service').replace(/\/v\d+(\.\d+)?$/, '')
    }
    return this.base
  }
}
