/** What is compared of the answers of a real Glance and of ours. */
import type { Step } from './glance-request.ts'
import { ask } from './service.ts'

const watched = ['content-type', 'location', 'allow', 'accept-patch', 'content-md5', 'content-range', 'content-length']

/** What is compared of an answer. */
export interface Seen {
  status: number
  headers: Record<string, string>
  body: unknown
}

/** Asks, and keeps what is compared. */
export async function take(url: string, { line, headers, body }: Step): Promise<Seen> {
  const [method = '', path = ''] = line.split(' ')
  const answer = await ask(`${url}${path}`, method, body, { accept: '*/*', ...headers })
  const { status } = answer
  const type = answer.headers['content-type'] ?? ''
  const isData = type === 'application/octet-stream'
  const shown = watched.filter((name) => {
    if (name === 'content-length') return isData
    // Glance names a type where there is no body, and does not say how long what could not be had is.
    return name === 'content-type'
      ? answer.body.length > 0 && status !== 302
      : name !== 'content-range' || status !== 416
  })
  const kept = shown.flatMap((name) => {
    const value = answer.headers[name]
    return value === undefined ? [] : [[name, masked(String(value), url)]]
  })
  const text = isData ? answer.body.toString('base64') : masked(answer.body.toString(), url)
  const isJson = type.startsWith('application/json') && text !== ''
  return { status, headers: Object.fromEntries(kept), body: isJson ? JSON.parse(text, inOrder) : text }
}

/** Glance's tags come in any order. */
function inOrder(name: string, value: unknown): unknown {
  return name === 'tags' && Array.isArray(value) ? value.sort() : value
}

/** What cannot be the same, made the same: addresses, identifiers, times, and how a schema's rules are worded. */
function masked(text: string, url: string): string {
  return text
    .replaceAll(url, 'URL')
    .replaceAll(url.slice('http://'.length), 'HOST')
    .replace(/\b[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-(?!0000000000)[0-9a-f]{12}\b/g, 'UUID')
    .replace(/\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ/g, 'TIME')
    .replace(/(does not match schema (?:'|&#x27;)\w+(?:'|&#x27;))[\s\S]*?(<br \/>)/, '$1$2')
}
