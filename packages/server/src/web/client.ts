/** Requests to servers on the web, each connection and each redirect through the gate. Node's own client, which the standalone executable has too: both connect to what `lookup` says, and to
 *  nothing else. */
import http, { type IncomingHttpHeaders, type IncomingMessage } from 'node:http'
import https from 'node:https'
import type { LookupFunction } from 'node:net'
import { pipeline, type Readable, Transform } from 'node:stream'
import type { Config } from '../config.ts'
import { type WebGate, WebRefused } from './gate.ts'

type Limits = Pick<Config, 'importConnectSeconds' | 'importIdleSeconds' | 'importRedirects'>

/** The answer to a request. The caller reads or destroys its body. */
export interface WebAnswer {
  status: number
  headers: IncomingHttpHeaders
  body: Readable
  /** Where it came from, after redirects. */
  url: URL
}

const mostConnections = 16

export class WebClient {
  readonly #gate: WebGate
  readonly #limits: Limits
  readonly #lookup: LookupFunction
  /** Of this client alone: a connection that is used again was judged by its gate. */
  readonly #agents = {
    'http:': new http.Agent({ keepAlive: true, maxSockets: mostConnections }),
    'https:': new https.Agent({ keepAlive: true, maxSockets: mostConnections }),
  }

  constructor(gate: WebGate, limits: Limits) {
    this.#gate = gate
    this.#limits = limits
    // What was judged is what is connected to: nothing is resolved a second time.
    this.#lookup = (host, options, answer) => {
      gate.resolve(host).then(
        (addresses) => {
          const [first] = addresses
          if (options.all) answer(null, addresses as never)
          else answer(null, first?.address ?? '', first?.family ?? 4)
        },
        (error: Error) => answer(error, '', 4),
      )
    }
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
    let url = this.#gate.check(written)
    let sent = headers
    for (let redirects = 0; ; redirects++) {
      const answer = await this.#ask(
        url,
        { 'accept-encoding': 'identity', 'user-agent': 'moraine', ...sent },
        signal,
        method,
      )
      const { statusCode: status = 0, headers: got } = answer
      const to = got.location
      if (![301, 302, 303, 307, 308].includes(status) || to === undefined) {
        return { status, headers: got, body: watched(answer, this.#limits.importIdleSeconds), url }
      }
      discard(answer)
      if (redirects >= this.#limits.importRedirects) {
        throw new WebRefused(`it leads to ${to}, and only ${this.#limits.importRedirects} redirects are followed`)
      }
      const next = this.#follow(url, to)
      if (next.origin !== url.origin) sent = withoutSecrets(sent)
      url = next
    }
  }

  async close(): Promise<void> {
    for (const agent of Object.values(this.#agents)) agent.destroy()
  }

  #ask(
    url: URL,
    headers: Record<string, string>,
    signal: AbortSignal,
    method: 'GET' | 'HEAD',
  ): Promise<IncomingMessage> {
    const { importConnectSeconds, importIdleSeconds } = this.#limits
    const isPlain = url.protocol === 'http:'
    const agent = this.#agents[isPlain ? 'http:' : 'https:']
    return new Promise((resolve, reject) => {
      const options = { method, headers, signal, lookup: this.#lookup, agent }
      const asked = (isPlain ? http : https).request(url, options)
      const within = (seconds: number, what: string) =>
        setTimeout(() => asked.destroy(new Error(`no ${what} within ${seconds} seconds`)), seconds * 1000)
      let timer: NodeJS.Timeout | undefined
      const connected = () => {
        clearTimeout(timer)
        timer = within(importIdleSeconds, 'answer')
      }
      // Before that it waits for one of the connections to this host, all of which have times of their own.
      asked.once('socket', (socket) => {
        timer = within(importConnectSeconds, 'connection')
        if (socket.connecting) socket.once(isPlain ? 'connect' : 'secureConnect', connected)
        else connected()
      })
      asked.once('response', (answer) => {
        clearTimeout(timer)
        resolve(answer)
      })
      asked.on('error', (error) => {
        clearTimeout(timer)
        reject(error)
      })
      asked.end()
    })
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

/** What leads elsewhere may say more, and nobody reads it. */
function discard(answer: IncomingMessage): void {
  answer.on('error', () => {}).destroy()
}

/** The body of an answer, which fails when nothing comes for too long. Whoever reads it may be as slow as he likes. */
function watched(answer: IncomingMessage, seconds: number): Readable {
  let last = performance.now()
  const body = new Transform({
    transform(chunk, _encoding, done) {
      last = performance.now()
      done(null, chunk)
    },
  })
  const look = () => {
    if (body.readableLength > 0) last = performance.now()
    else if (performance.now() - last > seconds * 1000) body.destroy(new Error(`nothing came for ${seconds} seconds`))
  }
  const timer = setInterval(look, Math.min(1000, seconds * 250)).unref()
  pipeline(answer, body, () => clearInterval(timer))
  return body
}

function withoutSecrets(headers: Record<string, string>): Record<string, string> {
  const secret = ['x-auth-token', 'authorization', 'cookie']
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !secret.includes(name)))
}
