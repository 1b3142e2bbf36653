/** HTTP as this client needs it: streamed bodies, certificates, proxies from the environment, and failures in words. */
import { readFileSync } from 'node:fs'
import { Readable } from 'node:stream'
import { isMoraineError, MoraineError } from '@moraine/engine'
import { Agent, type Dispatcher, EnvHttpProxyAgent, request } from 'undici'
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
  body: Dispatcher.ResponseData['body']
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

/** Sends requests with one set of certificates, over connections that are kept. */
export class HttpClient {
  private readonly dispatcher: Dispatcher

  /** @throws Failure for a certificate that cannot be read. */
  constructor({ cacert, cert, key, insecure }: Trust) {
    const connect = {
      ca: readPem(cacert, 'cacert'),
      cert: readPem(cert, 'cert'),
      key: readPem(key ?? cert, 'key'),
      rejectUnauthorized: !insecure,
    }
    const options = { connect, headersTimeout: answerMilliseconds, bodyTimeout: quietMilliseconds }
    const proxied = Object.keys(process.env).some((name) => /^https?_proxy$/i.test(name))
    this.dispatcher = proxied ? new EnvHttpProxyAgent({ ...options, requestTls: connect }) : new Agent(options)
  }

  /** Sends a request; any status is an answer.
   *  @throws ConnectionFailure; MoraineError `cancelled`; what the body throws. */
  async send({ method, url, headers = {}, body, signal }: HttpRequest): Promise<HttpAnswer> {
    let inBody: unknown
    const stream =
      typeof body === 'function'
        ? Readable.from(
            noting(body(), (error) => (inBody = error)),
            { objectMode: false },
          )
        : body
    try {
      const sent = Object.fromEntries(Object.entries(headers).filter(([, value]) => value !== undefined)) as Record<
        string,
        string
      >
      const answer = await request(url, {
        method,
        headers: sent,
        body: stream ?? null,
        signal: signal ?? null,
        dispatcher: this.dispatcher,
      })
      return { status: answer.statusCode, url, method, headers: singleHeaders(answer.headers), body: answer.body }
    } catch (error) {
      throw inBody ?? connectionFailure(error, url, signal)
    }
  }

  async close(): Promise<void> {
    await this.dispatcher.destroy()
  }
}

/** Passes bytes on and tells what broke them: undici reports a broken body as a broken connection. */
async function* noting(body: AsyncIterable<Uint8Array>, note: (error: unknown) => void): AsyncIterable<Uint8Array> {
  try {
    yield* body
  } catch (error) {
    note(error)
    throw error
  }
}

function singleHeaders(headers: Record<string, string | string[] | undefined>): Record<string, string | undefined> {
  return Object.fromEntries(
    Object.entries(headers).map(([name, value]) => [name, Array.isArray(value) ? value.join(', ') : value]),
  )
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
