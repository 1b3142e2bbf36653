/** A `fetch` over Node's own HTTP client, for images behind addresses. The global one, undici's, ends the whole process when a server ends the connection while a body waits to be
 *  read (nodejs/undici#5360, in Node 24); it can be told only for all connections to look at no certificate, and takes no proxy from the environment. */
import { Readable } from 'node:stream'
import type { ReadableStream } from 'node:stream/web'
import { discard, HttpClient, type HttpMethod } from '../image/http.ts'

const redirects = new Set([301, 302, 303, 307, 308])
const bodyless = new Set([204, 205, 304])

/** Follows redirects as `fetch` does; to another server go neither passwords nor cookies. With `insecure` certificates are not looked at. */
export function ownFetch({ insecure = false } = {}): typeof globalThis.fetch {
  const client = new HttpClient({ insecure })
  return async (input, init = {}) => {
    const method: HttpMethod = init.method === 'HEAD' ? 'HEAD' : 'GET'
    const headers = new Headers(init.headers)
    let url = new URL(String(input))
    for (let hops = 0; ; hops++) {
      const answer = await client
        .send({ method, url: url.href, headers: Object.fromEntries(headers), signal: init.signal ?? undefined })
        .catch((cause: unknown) => {
          throw new TypeError('fetch failed', { cause })
        })
      const { location } = answer.headers
      // What no Response can have.
      if (answer.status < 200 || answer.status > 599) {
        await discard(answer)
        throw new TypeError('fetch failed', {
          cause: new Error(`the server answered with the status ${answer.status}`),
        })
      }
      if (!redirects.has(answer.status) || location === undefined) {
        const empty = method === 'HEAD' || bodyless.has(answer.status)
        if (empty) answer.body.resume()
        const body = empty ? null : (Readable.toWeb(answer.body) as ReadableStream<Uint8Array>)
        const told = Object.entries(answer.headers).filter(
          (header): header is [string, string] => header[1] !== undefined,
        )
        return new Response(body, { status: answer.status, statusText: answer.body.statusMessage ?? '', headers: told })
      }
      await discard(answer)
      if (hops === 20) throw new TypeError('fetch failed', { cause: new Error('too many redirects') })
      const next = new URL(location, url)
      if (next.origin !== url.origin) for (const name of ['authorization', 'cookie']) headers.delete(name)
      url = next
    }
  }
}
