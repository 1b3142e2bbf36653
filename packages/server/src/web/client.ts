/** Requests to servers on the web, each connection and each redirect through the gate. */
import type { LookupFunction } from 'node:net'
import { Agent, type Dispatcher, request } from 'undici'
import type { Config } from '../config.ts'
import { type WebGate, WebRefused } from './gate.ts'

/** Whether connections are made to the addresses that were judged. The standalone executable has a stand-in for undici that resolves names itself: there nothing is
 *  fetched from the web, as a name could mean another address by then. */
export const canPinAddresses = typeof Agent.prototype.destroy === 'function'

type Limits = Pick<Config, 'importConnectSeconds' | 'importIdleSeconds' | 'importRedirects'>

/** The answer to a request. The caller reads or destroys its body. */
export interface WebAnswer {
  status: number
  headers: Dispatcher.ResponseData['headers']
  body: Dispatcher.ResponseData['body']
  /** Where it came from, after redirects. */
  url: URL
}

export class WebClient {
  readonly #gate: WebGate
  readonly #limits: Limits
  readonly #agent: Agent

  constructor(gate: WebGate, limits: Limits) {
    this.#gate = gate
    this.#limits = limits
    const lookup: LookupFunction = (host, options, answer) => {
      gate.resolve(host).then(
        (addresses) => {
          const [first] = addresses
          if (options.all) answer(null, addresses as never)
          else answer(null, first?.address ?? '', first?.family ?? 4)
        },
        (error: Error) => answer(error, '', 4),
      )
    }
    this.#agent = new Agent({
      // What was judged is what is connected to: nothing is resolved a second time.
      connect: { lookup, timeout: limits.importConnectSeconds * 1000 },
      headersTimeout: limits.importIdleSeconds * 1000,
      bodyTimeout: limits.importIdleSeconds * 1000,
      connections: 16,
    })
  }

  /** Judges an address and where it leads now. @throws WebRefused, and the resolver's own error. */
  async check(written: string): Promise<void> {
    const url = this.#gate.check(written)
    await this.#gate.resolve(url.hostname.replace(/^\[(.*)\]$/, '$1'))
  }

  /** @param headers Not sent on after a redirect to another origin. @throws WebRefused, and errors of the connection. */
  async get(
    written: string,
    headers: Record<string, string>,
    signal: AbortSignal,
    method: 'GET' | 'HEAD' = 'GET',
  ): Promise<WebAnswer> {
    if (!canPinAddresses) throw new WebRefused('this build of the service fetches nothing from the web')
    let url = this.#gate.check(written)
    let sent = headers
    for (let redirects = 0; ; redirects++) {
      const answer = await request(url, {
        dispatcher: this.#agent,
        method,
        headers: { 'accept-encoding': 'identity', 'user-agent': 'moraine', ...sent },
        signal,
      })
      const { statusCode, headers: got, body } = answer
      const to = got.location
      if (![301, 302, 303, 307, 308].includes(statusCode) || typeof to !== 'string') {
        return { status: statusCode, headers: got, body, url }
      }
      await discard(body)
      if (redirects >= this.#limits.importRedirects) {
        throw new WebRefused(`it leads to ${to}, and only ${this.#limits.importRedirects} redirects are followed`)
      }
      const next = this.#follow(url, to)
      if (next.origin !== url.origin) sent = withoutSecrets(sent)
      url = next
    }
  }

  async close(): Promise<void> {
    if (canPinAddresses) await this.#agent.destroy()
  }

  #follow(from: URL, to: string): URL {
    try {
      // As it was written, where it is whole: spellings count.
      const next = this.#gate.check(/^[a-z][a-z0-9+.-]*:/i.test(to) ? to : new URL(to, from).href)
      if (from.protocol === 'https:' && next.protocol === 'http:') throw new WebRefused('it is not encrypted any more')
      return next
    } catch (error) {
      if (!(error instanceof WebRefused)) throw error
      throw new WebRefused(`it leads to ${to}: ${error.message}`)
    }
  }
}

async function discard(body: WebAnswer['body']): Promise<void> {
  await body.dump({ limit: 64 * 1024 }).catch(() => {})
}

function withoutSecrets(headers: Record<string, string>): Record<string, string> {
  const secret = ['x-auth-token', 'authorization', 'cookie']
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !secret.includes(name)))
}
