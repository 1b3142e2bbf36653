/** Requests of one resource over HTTP: credentials, ranges, tries and time limits. */
import { MoraineError } from '../core/index.ts'
import { timedOut } from './http-body.ts'

/** How a resource is fetched. Bytes and milliseconds. */
export interface HttpOptions {
  /** Default: the global one. That of Node 24 ends the process when a server ends the connection while a body waits to be read (nodejs/undici#5360); undici's package has it mended. */
  fetch?: typeof globalThis.fetch | undefined
  /** Sent with each request. */
  headers?: Readonly<Record<string, string>> | undefined
  /** The name in messages; default the address without credentials. */
  name?: string | undefined
  /** How long a server may be silent. Default 60,000. */
  timeout?: number | undefined
  /** How often a request is tried again after a broken connection or an answer 408, 429, 500, 502, 503 or 504. Default 2. */
  retries?: number | undefined
  /** Reads asked for together and no further apart than this become one request. Default 32 KiB. */
  gapBytes?: number | undefined
  /** Reads are put together up to this length. Default 8 MiB. */
  requestBytes?: number | undefined
  /** From a server without ranges, at most so many bytes are fetched only to get to the ones that are wanted. Default 64 MiB. */
  skipBytes?: number | undefined
}

/** What an answer says about the resource. */
export interface Facts {
  /** Bytes of the whole resource. */
  size: number | undefined
  etag: string | undefined
  modified: string | undefined
  /** False when ranges are refused for sure. */
  ranges: boolean
}

/** Reads the facts of an answer to HEAD, to a GET of a range, or to a GET of all. */
export function factsOf(response: Response): Facts {
  const { headers, status } = response
  const total = /^bytes (?:\d+-\d+|\*)\/(\d+)$/.exec(headers.get('content-range') ?? '')?.[1]
  const coding = headers.get('content-encoding')
  const plain = coding === null || coding === 'identity'
  const length = status === 200 && plain ? (headers.get('content-length') ?? undefined) : undefined
  const size = total ?? length
  return {
    size: size !== undefined && Number.isSafeInteger(Number(size)) ? Number(size) : undefined,
    etag: headers.get('etag') ?? undefined,
    modified: headers.get('last-modified') ?? undefined,
    ranges: headers.get('accept-ranges') !== 'none',
  }
}

const passing = new Set([408, 429, 500, 502, 503, 504])

/** Sends requests for one resource. */
export class HttpClient {
  readonly name: string
  readonly timeout: number
  readonly #url: URL
  readonly #fetch: typeof globalThis.fetch
  readonly #headers: Headers
  readonly #retries: number

  constructor(url: string | URL, options: HttpOptions) {
    try {
      this.#url = new URL(url)
    } catch (cause) {
      throw new MoraineError('invalid', `'${url}' is not an address`, { field: 'url', value: String(url), cause })
    }
    if (this.#url.protocol !== 'http:' && this.#url.protocol !== 'https:') {
      throw new MoraineError('unsupported', `Unknown protocol '${this.#url.protocol.slice(0, -1)}'`, {
        path: String(url),
        field: 'url',
      })
    }
    this.#headers = new Headers(options.headers)
    if (this.#url.username !== '' || this.#url.password !== '') {
      // fetch refuses them in the address; and they belong into no message.
      const pair = `${decodeURIComponent(this.#url.username)}:${decodeURIComponent(this.#url.password)}`
      this.#url.username = ''
      this.#url.password = ''
      const bytes = new TextEncoder().encode(pair)
      this.#headers.set('authorization', `Basic ${btoa(String.fromCharCode(...bytes))}`)
    }
    this.#url.hash = ''
    this.name = options.name ?? this.#url.href
    this.timeout = options.timeout ?? 60_000
    this.#fetch = options.fetch ?? globalThis.fetch
    this.#retries = options.retries ?? 2
  }

  /** One request, tried again as often as the options say. The answer may be of any status. `range` is the value of a Range header. */
  async request(method: 'HEAD' | 'GET', range: string | undefined, signal: AbortSignal | undefined): Promise<Response> {
    for (let attempt = 0; ; attempt++) {
      try {
        const response = await this.#once(method, range, signal)
        if (!passing.has(response.status) || attempt >= this.#retries) return response
        void response.body?.cancel().catch(() => {})
      } catch (error) {
        if (!this.mayRetry(error, attempt)) throw error
      }
      await this.pause(attempt, signal)
    }
  }

  /** GET of a range, or of all when there is none. The status is 200, 206 or (for a range) 416.
   *  @throws MoraineError by status. `stop` ends the answer; calling it late or twice does no harm. */
  async get(
    offset: number | undefined,
    length: number | undefined,
    signal: AbortSignal | undefined,
  ): Promise<{ response: Response; stop(): void }> {
    const abort = new AbortController()
    const pass = () => abort.abort(signal?.reason)
    signal?.addEventListener('abort', pass, { once: true })
    const stop = () => {
      signal?.removeEventListener('abort', pass)
      abort.abort()
    }
    if (signal?.aborted) abort.abort(signal.reason)
    try {
      const range = offset === undefined || length === undefined ? undefined : `bytes=${offset}-${offset + length - 1}`
      const response = await this.request('GET', range, abort.signal)
      if (response.status === 200 || response.status === 206) return { response, stop }
      if (response.status === 416 && range !== undefined) {
        if (offset === 0) return { response, stop }
        throw new MoraineError('io', 'the resource became shorter while it was read', {
          path: this.name,
          offset,
          code: 'ESTALE',
        })
      }
      throw this.#statusError(response, offset)
    } catch (error) {
      stop()
      throw error
    }
  }

  /** Whether a failure may be a passing one, and tries are left. */
  mayRetry(error: unknown, attempt: number): boolean {
    return (
      attempt < this.#retries &&
      error instanceof MoraineError &&
      error.kind === 'io' &&
      (error.code === 'ECONNRESET' || error.code === 'ETIMEDOUT')
    )
  }

  /** Waits before the next try: 100 ms, then twice as long each time. */
  async pause(attempt: number, signal: AbortSignal | undefined): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(done, 100 * 2 ** attempt)
      function done() {
        clearTimeout(timer)
        signal?.removeEventListener('abort', done)
        resolve()
      }
      signal?.addEventListener('abort', done, { once: true })
      if (signal?.aborted) done()
    })
  }

  /** The error for an answer that ended early. */
  broken(offset: number): MoraineError {
    return new MoraineError('io', 'the answer ended early', { path: this.name, offset, code: 'ECONNRESET' })
  }

  async #once(method: string, range: string | undefined, signal: AbortSignal | undefined): Promise<Response> {
    const headers = new Headers(this.#headers)
    // Offsets count bytes of the resource, not of a compressed form of it. (Browsers set this themselves.)
    headers.set('accept-encoding', 'identity')
    if (range !== undefined) headers.set('range', range)
    const silence = new AbortController()
    const timer = setTimeout(() => silence.abort(), this.timeout)
    try {
      const either = signal === undefined ? silence.signal : AbortSignal.any([signal, silence.signal])
      return await this.#fetch.call(undefined, this.#url, { method, headers, signal: either, redirect: 'follow' })
    } catch (cause) {
      if (signal?.aborted) {
        throw new MoraineError('cancelled', 'the operation was cancelled', { path: this.name, cause: signal.reason })
      }
      if (silence.signal.aborted) throw timedOut(this.name, undefined, this.timeout)
      const inner = cause instanceof Error && cause.cause instanceof Error ? `: ${cause.cause.message}` : ''
      throw new MoraineError('io', `the server cannot be reached${inner}`, {
        path: this.name,
        code: 'ECONNRESET',
        cause,
      })
    } finally {
      clearTimeout(timer)
    }
  }

  #statusError(response: Response, offset: number | undefined): MoraineError {
    const { status } = response
    const text = `the server answered ${status}${response.statusText === '' ? '' : ` ${response.statusText}`}`
    const place = { path: this.name, offset, field: 'status', value: status }
    if (status === 404 || status === 410) return new MoraineError('missing', text, place)
    if (status === 401 || status === 403) return new MoraineError('denied', text, place)
    return new MoraineError('io', text, { ...place, code: 'EIO' })
  }
}
