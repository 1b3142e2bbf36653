/** How the command asks servers of images: its own HTTP client, redirects followed as far as it is sensible. */
import type { Answer, Get } from '@moraine/cloud-images'
import { isMoraineError, MoraineError } from '@moraine/engine'
import { ConnectionFailure, HttpClient } from '../image/http.ts'

const mostRedirects = 10
const redirects = new Set([301, 302, 303, 307, 308])

/** A client until `close`.
 *  @throws Failure for certificates that cannot be read */
export function webOf(cacert: string | undefined): { get: Get; close(): void } {
  const client = new HttpClient({ cacert, cert: undefined, key: undefined, insecure: false })
  return { get: (url, headers, signal) => follow(client, url, headers, signal), close: () => client.close() }
}

async function follow(
  client: HttpClient,
  start: string,
  headers: Readonly<Record<string, string>>,
  signal: AbortSignal | undefined,
): Promise<Answer> {
  let url = start
  for (let steps = 0; ; steps++) {
    const answer = await send(client, url, headers, signal)
    const { location } = answer.headers
    if (!redirects.has(answer.status) || location === undefined) return answer
    await answer.discard()
    if (steps >= mostRedirects) {
      throw new MoraineError('io', `it leads on and on: more than ${mostRedirects} redirects`, { path: start })
    }
    url = next(url, location)
  }
}

/** @throws MoraineError `denied` for what is not the web any more, or not encrypted any more */
function next(from: string, location: string): string {
  const to = URL.parse(location, from)
  const wrong = (why: string) =>
    new MoraineError('denied', `it leads to ${JSON.stringify(location)}: ${why}`, { path: from })
  if (to === null) throw wrong('this is no address')
  if (to.protocol !== 'https:' && to.protocol !== 'http:') throw wrong('only http and https are followed')
  if (from.startsWith('https:') && to.protocol === 'http:') throw wrong('it would not be encrypted any more')
  if (to.username !== '' || to.password !== '') throw wrong('there is a user name or password in it')
  return to.href
}

async function send(
  client: HttpClient,
  url: string,
  headers: Readonly<Record<string, string>>,
  signal: AbortSignal | undefined,
): Promise<Answer> {
  try {
    const sent = { 'user-agent': 'moraine', 'accept-encoding': 'identity', ...headers }
    const { status, headers: got, body } = await client.send({ method: 'GET', url, headers: sent, signal })
    return {
      status,
      headers: got,
      body,
      discard: async () => {
        body.on('error', () => {}).destroy()
      },
    }
  } catch (error) {
    // A certificate that is not believed now is not believed in a second either.
    if (error instanceof ConnectionFailure && error.hint !== undefined && !isMoraineError(error)) {
      throw new MoraineError('denied', error.message, {
        path: url,
        hint: 'Certificates that may vouch for the server can be given with --cacert FILE.',
        cause: error,
      })
    }
    throw error
  }
}
