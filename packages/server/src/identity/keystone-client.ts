/** Talks to a Keystone: as the service itself, with a token of its own that is renewed in time. */
import { Agent as PlainAgent, request as plainRequest } from 'node:http'
import { Agent as TlsAgent, request as tlsRequest } from 'node:https'
import { readBounded } from '../web/read-bounded.ts'
import { IdentityUnavailable } from './identity.ts'

export interface KeystoneSettings {
  /** With or without `/v3`. */
  url: string
  /** How the service logs in. */
  method: 'password' | 'application_credential'
  user: string
  password: string
  userDomain: string
  project: string
  projectDomain: string
  /** It logs in for the whole system, not for its project. */
  system?: boolean
  /** Certificates (PEM) that may vouch for Keystone. */
  ca: string | undefined
  timeoutSeconds: number
}

/** What Keystone answered. */
export interface KeystoneAnswer {
  status: number
  headers: Readonly<Record<string, string | string[] | undefined>>
  /** The JSON document; undefined when the body is none. */
  document: unknown
}

/** Catalogs can be long; nothing that is asked here is longer. */
const longestBody = 8 * 1024 * 1024

/** The own token is renewed this long before its end, in milliseconds, or after nine tenths of its life. */
const renewAhead = 5 * 60 * 1000

/** Milliseconds from a login that failed to the next. */
const loginPause = 2000

interface OwnToken {
  token: string
  /** Milliseconds since 1970. */
  renewAt: number
}

export class KeystoneClient {
  /** With `/v3` and no slash at the end. */
  readonly url: string
  readonly #settings: KeystoneSettings
  readonly #agent: PlainAgent | TlsAgent
  #own: Promise<OwnToken> | undefined

  constructor(settings: KeystoneSettings) {
    const bare = settings.url.replace(/\/+$/, '')
    this.url = /\/v3$/.test(bare) ? bare : `${bare}/v3`
    this.#settings = settings
    const keep = { keepAlive: true, maxSockets: 16, maxFreeSockets: 4 }
    this.#agent = this.url.startsWith('https:')
      ? new TlsAgent({ ...keep, ...(settings.ca === undefined ? {} : { ca: settings.ca }) })
      : new PlainAgent(keep)
  }

  /** Asks in the service's own name; with a new token once more when the first is refused. @param path Behind `/v3`. @throws IdentityUnavailable */
  async get(path: string, headers: Readonly<Record<string, string>> = {}): Promise<KeystoneAnswer> {
    const first = await this.#ownToken()
    const answer = await this.#send('GET', path, { ...headers, 'x-auth-token': first })
    if (answer.status !== 401) return checked(answer, path)
    const second = await this.#ownToken(first)
    return checked(await this.#send('GET', path, { ...headers, 'x-auth-token': second }), path)
  }

  close(): void {
    this.#agent.destroy()
  }

  /** @param refused A token that Keystone does not take any more. */
  async #ownToken(refused?: string): Promise<string> {
    const current = this.#own
    if (current !== undefined) {
      const { token, renewAt } = await current
      if (Date.now() < renewAt && token !== refused) return token
      // Whoever comes second finds the login of the first.
      if (this.#own === current) this.#own = undefined
    }
    this.#own ??= this.#logIn()
    const login = this.#own
    try {
      return (await login).token
    } catch (error) {
      // A wrong password is not sent again for each request: Keystone would lock the account.
      const pause = setTimeout(() => {
        if (this.#own === login) this.#own = undefined
      }, loginPause)
      pause.unref()
      throw error
    }
  }

  async #logIn(): Promise<OwnToken> {
    const { status, headers, document } = await this.#send('POST', '/auth/tokens', {}, loginDocument(this.#settings))
    const token = headers['x-subject-token']
    if (status !== 201 || typeof token !== 'string') {
      throw new IdentityUnavailable(`Keystone refuses the service's own login with ${status}`)
    }
    const end = Date.parse((document as { token?: { expires_at?: string } } | undefined)?.token?.expires_at ?? '')
    const life = Math.max(0, end - Date.now())
    const ahead = Math.min(renewAhead, life / 10)
    return { token, renewAt: Number.isNaN(end) ? Date.now() + renewAhead : end - ahead }
  }

  async #send(
    method: string,
    path: string,
    headers: Readonly<Record<string, string>>,
    body?: object,
  ): Promise<KeystoneAnswer> {
    try {
      return await this.#exchange(method, path, headers, body)
    } catch (error) {
      // A connection that was kept may have been closed at the other end meanwhile.
      if (error instanceof StaleConnection) return await this.#exchange(method, path, headers, body).catch(unreachable)
      return unreachable(error)
    }
  }

  #exchange(
    method: string,
    path: string,
    headers: Readonly<Record<string, string>>,
    body?: object,
  ): Promise<KeystoneAnswer> {
    const text = body === undefined ? undefined : JSON.stringify(body)
    const given =
      text === undefined
        ? {}
        : { 'content-type': 'application/json', 'content-length': String(Buffer.byteLength(text)) }
    return new Promise((resolve, reject) => {
      const send = this.url.startsWith('https:') ? tlsRequest : plainRequest
      const message = send(`${this.url}${path}`, {
        method,
        headers: { accept: 'application/json', ...given, ...headers },
        agent: this.#agent,
        signal: AbortSignal.timeout(this.#settings.timeoutSeconds * 1000),
      })
      message.on('error', (error: NodeJS.ErrnoException) => {
        const isStale = message.reusedSocket && (error.code === 'ECONNRESET' || error.code === 'EPIPE')
        reject(isStale ? new StaleConnection() : error)
      })
      message.on('response', (response) => {
        const { statusCode: status = 0, headers: got } = response
        readBounded(response, longestBody).then(
          (whole) => resolve({ status, headers: got, document: parse(whole.toString()) }),
          reject,
        )
      })
      message.end(text)
    })
  }
}

class StaleConnection extends Error {}

function unreachable(error: unknown): never {
  throw new IdentityUnavailable(`Keystone does not answer: ${(error as Error).message}`, { cause: error })
}

/** @throws IdentityUnavailable for answers that say nothing about what was asked. */
function checked(answer: KeystoneAnswer, path: string): KeystoneAnswer {
  const { status } = answer
  if ((status >= 200 && status < 300) || status === 404) return answer
  throw new IdentityUnavailable(`Keystone answers ${path.split('?')[0]} with ${status}`)
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function loginDocument(settings: KeystoneSettings): object {
  const { method, user, password, userDomain, project, projectDomain, system = false } = settings
  if (method === 'application_credential') {
    return { auth: { identity: { methods: [method], [method]: { id: user, secret: password } } } }
  }
  const who = { name: user, password, domain: { name: userDomain } }
  return {
    auth: {
      identity: { methods: [method], [method]: { user: who } },
      scope: system ? { system: { all: true } } : { project: { name: project, domain: { name: projectDomain } } },
    },
  }
}
