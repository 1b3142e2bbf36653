/** Image data that lies on the web: read where it is, never written. A key is an address. */
import { Readable } from 'node:stream'
import { type ByteSource, MoraineError, openHttp } from '@moraine/engine'
import type { WebClient } from '../web/client.ts'
import { WebRefused } from '../web/gate.ts'
import { type ImageStore, StoreError, type StoreUpload } from './store.ts'

/** @param seconds How long a server may be silent. */
export function httpStore(client: Pick<WebClient, 'get' | 'check'>, seconds: number): ImageStore {
  return new HttpStore(client, seconds)
}

class HttpStore implements ImageStore {
  readonly description = 'addresses on the web'
  readonly properties = {}
  readonly #client: Pick<WebClient, 'get' | 'check'>
  readonly #seconds: number

  constructor(client: Pick<WebClient, 'get' | 'check'>, seconds: number) {
    this.#client = client
    this.#seconds = seconds
  }

  begin(): Promise<StoreUpload> {
    return Promise.reject(new StoreError('read-only', 'data on the web cannot be written'))
  }

  open(key: string): Promise<ByteSource> {
    return openHttp(key, { fetch: (input, init) => this.#fetch(String(input), init), timeout: this.#seconds * 1000 })
  }

  /** It belongs to somebody else. */
  async remove(): Promise<void> {}

  urlOf(key: string): string {
    return key
  }

  async keyOf(url: string): Promise<string | undefined> {
    if (!/^https?:/i.test(url)) return undefined
    try {
      await this.#client.check(url)
    } catch (error) {
      if (!(error instanceof WebRefused)) throw error
      throw new StoreError('refused', error.message, error)
    }
    return url
  }

  async sweep(): Promise<string[]> {
    return []
  }

  /** As the engine asks; through the gate. */
  async #fetch(url: string, { method, headers, signal }: RequestInit = {}): Promise<Response> {
    const sent = Object.fromEntries(new Headers(headers))
    const never = new AbortController().signal
    try {
      const answer = await this.#client.get(url, sent, signal ?? never, method === 'HEAD' ? 'HEAD' : 'GET')
      const got = Object.entries(answer.headers).flatMap(([name, value]) =>
        value === undefined ? [] : [[name, String(value)] as [string, string]],
      )
      const hasBody = method !== 'HEAD' && ![204, 205, 304].includes(answer.status)
      if (!hasBody) answer.body.on('error', () => {}).resume()
      const body = hasBody ? (Readable.toWeb(answer.body) as unknown as ReadableStream) : null
      return new Response(body, { status: answer.status, headers: got })
    } catch (error) {
      if (!(error instanceof WebRefused)) throw error
      throw new MoraineError('denied', error.message, { path: url, cause: error })
    }
  }
}
