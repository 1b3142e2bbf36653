/** HTTP as this client needs it: streamed bodies, certificates, proxies from the environment, and failures in words. Node's own client, which Bun has too: its undici is not the
 *  real one. */
import { readFileSync } from 'node:fs'
import http, { type IncomingMessage } from 'node:http'
import https from 'node:https'
import { isMoraineError, MoraineError } from '@moraine/engine'
import { Failure } from '../failure.ts'
import type { Trust } from './access.ts'
import { errorWords } from './error-text.ts'

/** A body that can be sent again: a server may ask for a new token first. */
export type SentBody = string | (() => AsyncIterable<Uint8Array>)

/** The methods in use. */
export type HttpMethod = 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH' | 'DELETE'

/** One request. */
export interface HttpRequest {
  method: HttpMethod
  url: string
  headers?: Readonly<Record<string, string | undefined>>
  body?: SentBody | undefined
  signal?: AbortSignal | undefined
}

/** What came back. The body must be read or thrown away. */
export interface HttpAnswer {
  status: number
  url: string
  method: HttpMethod
  headers: Readonly<Record<string, string | undefined>>
  body: IncomingMessage
}

/** The server answered, and not as hoped. */
export class HttpFailure extends Failure {
  readonly status: number

  constructor(message: string, status: number) {
    super(message)
    this.status = status
  }
}

/** The server could not be reached or the connection broke: the same may work a moment later. */
export class ConnectionFailure extends Failure {}

/** Milliseconds without a byte, after which a transfer counts as broken. */
const quietMilliseconds = 120_000
/** A store behind the server may take its time once all has been sent. */
const answerMilliseconds = 1_800_000

/** Bytes that may wait to be sent while more are read. */
const sendAhead = 2 * 1024 * 1024

/** Sends requests with one set of certificates, over connections that are kept. */
export class HttpClient {
  private readonly tls: https.AgentOptions
  private readonly plain: http.Agent
  private readonly secure: https.Agent

  /** @throws Failure for a certificate that cannot be read. */
  constructor({ cacert, cert, key, insecure }: Trust) {
    this.tls = {
      ca: readPem(cacert, 'cacert'),
      cert: readPem(cert, 'cert'),
      key: readPem(key ?? cert, 'key'),
      rejectUnauthorized: !insecure,
    }
    const kept = { keepAlive: true, proxyEnv: process.env }
    this.plain = new http.Agent(kept)
    this.secure = new https.Agent({ ...kept, ...this.tls })
  }

  /** Sends a request; any status is an answer. A kept connection that the server has closed meanwhile is no failure.
   *  @throws ConnectionFailure; MoraineError `cancelled`; what the body throws. */
  async send(request: HttpRequest): Promise<HttpAnswer> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.attempt(request)
      } catch (error) {
        if (!(error instanceof StaleConnection) || attempt > 0) throw error
      }
    }
  }

  /** Closes what is kept. */
  close(): void {
    this.plain.destroy()
    this.secure.destroy()
  }

  private attempt({ method, url, headers = {}, body, signal }: HttpRequest): Promise<HttpAnswer> {
    return new Promise((resolve, reject) => {
      const isSecure = url.startsWith('https:')
      const sent = Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== undefined))
      const options = { method, headers: sent, signal }
      const request = isSecure
        ? https.request(url, { ...options, ...this.tls, agent: this.secure })
        : http.request(url, { ...options, agent: this.plain })
      let isAnswered = false
      request.setTimeout(answerMilliseconds, () => request.destroy(new Error('no answer')))
      request.on('error', (error: NodeJS.ErrnoException) => {
        const isStale = request.reusedSocket && !isAnswered && (error.code === 'ECONNRESET' || error.code === 'EPIPE')
        const failure = connectionFailure(error, url, signal)
        reject(isStale && failure instanceof ConnectionFailure ? new StaleConnection(failure.messages) : failure)
      })
      request.on('response', (response) => {
        isAnswered = true
        response.setTimeout(quietMilliseconds, () => response.destroy(new Error('nothing comes any more')))
        // What is left of the body is not wanted, and the connection of no more use.
        response.once('end', () => {
          if (!request.writableEnded) request.destroy()
        })
        resolve({
          status: response.statusCode ?? 0,
          url,
          method,
          headers: singleHeaders(response.headers),
          body: response,
        })
      })
      if (typeof body !== 'function') request.end(body)
      else {
        pump(request, body(), () => isAnswered).catch((error: unknown) => {
          reject(connectionFailure(error, url, signal))
          request.destroy()
        })
      }
    })
  }
}

/** A kept connection had been closed by the server. */
class StaleConnection extends ConnectionFailure {}

/** Sends a body as fast as it is taken; nothing more once there is an answer. */
async function pump(
  request: http.ClientRequest,
  body: AsyncIterable<Uint8Array>,
  isAnswered: () => boolean,
): Promise<void> {
  for await (const chunk of body) {
    if (isAnswered() || request.destroyed) return
    const isTaken = request.write(chunk)
    if (!isTaken && request.writableLength >= sendAhead) await untilTaken(request)
  }
  request.end()
}

function untilTaken(request: http.ClientRequest): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      request.off('drain', done).off('close', done).off('response', done)
      resolve()
    }
    request.on('drain', done).on('close', done).on('response', done)
  })
}

function singleHeaders(headers: http.IncomingHttpHeaders): Record<string, string | undefined> {
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [name, Array.isArray(value) ? value.join(', ') : value]),
  )
}

/** Throws a body away, so that its connection can serve again. */
export async function discard(answer: HttpAnswer): Promise<void> {
  await bodyText(answer)
}

function readPem(path: string | undefined, what: string): string | undefined {
  if (path === undefined) return undefined
  try {
    return readFileSync(path, 'utf8')
  } catch (error) {
    throw new Failure(
      `${what}: ${path} cannot be read: ${error instanceof Error && 'code' in error ? error.code : error}`,
    )
  }
}

/** The body as text, up to `most` bytes.
 *  @throws ConnectionFailure; Failure when it is longer. */
export async function bodyText(answer: HttpAnswer, most = 64 * 1024 * 1024): Promise<string> {
  const parts: Buffer[] = []
  let length = 0
  try {
    for await (const part of answer.body) {
      const bytes = Buffer.from(part as Uint8Array)
      length += bytes.length
      if (length > most) throw new Failure(`${plainUrl(answer.url)} answers with more than ${most} bytes`)
      parts.push(bytes)
    }
  } catch (error) {
    throw error instanceof Failure ? error : connectionFailure(error, answer.url)
  }
  return Buffer.concat(parts).toString('utf8')
}

/** The body as JSON.
 *  @throws Failure when it is none. */
export async function bodyJson(answer: HttpAnswer): Promise<unknown> {
  const text = await bodyText(answer)
  try {
    return JSON.parse(text)
  } catch {
    throw new Failure(`${plainUrl(answer.url)} does not answer with JSON: is that an OpenStack service?`)
  }
}

/** Whether the status says that all went well. */
export function isOk({ status }: HttpAnswer): boolean {
  return status >= 200 && status < 300
}

/** What an answer says that is an error: the server's own words, its status and the id to ask its operator about. */
export async function answerFailure(answer: HttpAnswer): Promise<HttpFailure> {
  const text = answer.method === 'HEAD' ? '' : await bodyText(answer, 1 << 20).catch(() => '')
  const words = errorWords(answer.headers['content-type'] ?? '', text)
  const id = answer.headers['x-openstack-request-id']
  const facts = `HTTP ${answer.status}${id === undefined ? '' : `, request ${id}`}`
  const said = words === '' ? `${answer.method} ${plainUrl(answer.url)} failed` : words
  return new HttpFailure(`${said.replace(/[.:]$/, '')} (${facts})`, answer.status)
}

/** An error of a connection in words; what was meant for the caller passes through. */
export function connectionFailure(error: unknown, url: string, signal?: AbortSignal): unknown {
  if (signal?.aborted) return new MoraineError('cancelled', 'the operation was cancelled', { cause: signal.reason })
  if (error instanceof Failure || isMoraineError(error)) return error
  const { code, message } = error as { code?: string; message?: string }
  const { host, protocol } = new URL(url)
  const text = message === undefined || message === '' ? code : message
  const isTls = /CERT|SELF_SIGNED|ISSUER|ALTNAME|SIGNATURE/.test(code ?? '')
  const hint = isTls ? 'The right certificates can be given with --os-cacert FILE.' : undefined
  return new ConnectionFailure(`connection to ${protocol}//${host} failed: ${text ?? String(error)}`, { hint })
}

/** A URL for messages: without a password, without its query. */
export function plainUrl(url: string): string {
  const { protocol, host, pathname } = new URL(url)
  return `${protocol}//${host}${pathname}`
}
