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

/** Asks, and keeps what is compared. @param kept Ids that earlier steps have kept, by name. */
export async function take(
  url: string,
  { line, headers, body, keeps }: Step,
  kept = new Map<string, string>(),
): Promise<Seen> {
  const [method = '', path = ''] = line.replace(/\{(\w+)\}/g, (_, name) => kept.get(name) ?? '').split(' ')
  const answer = await ask(`${url}${path}`, method, body, { accept: '*/*', ...headers })
  const { status } = answer
  if (keeps !== undefined) kept.set(keeps, answer.json<{ id: string }>().id)
  const type = answer.headers['content-type'] ?? ''
  const isData = type === 'application/octet-stream'
  const shown = watched.filter((name) => {
    if (name === 'content-length') return isData
    // Glance names a type where there is no body, and does not say how long what could not be had is.
    return name === 'content-type'
      ? answer.body.length > 0 && status !== 302
      : name !== 'content-range' || status !== 416
  })
  const watchedOnes = shown.flatMap((name) => {
    const value = answer.headers[name]
    return value === undefined ? [] : [[name, masked(String(value), url)]]
  })
  const text = isData ? answer.body.toString('base64') : masked(answer.body.toString(), url)
  const isJson = type.startsWith('application/json') && text !== ''
  return { status, headers: Object.fromEntries(watchedOnes), body: isJson ? JSON.parse(text, inOrder) : text }
}

/** Glance's tags and cached images come in any order; when they were used it says in seconds. */
function inOrder(name: string, value: unknown): unknown {
  if (name === 'cached_images' && Array.isArray(value))
    return value.sort((one, other) => String(one.image_id).localeCompare(String(other.image_id)))
  if (/^last_(accessed|modified)$/.test(name) && typeof value === 'number') return value > 1e9 ? 'SECONDS' : value
  return name === 'tags' && Array.isArray(value) ? value.sort() : value
}

/** What cannot be the same, made the same: addresses, identifiers, times, and how a schema's rules are worded. */
function masked(text: string, url: string): string {
  return text
    .replaceAll(url, 'URL')
    .replaceAll(url.slice('http://'.length), 'HOST')
    .replace(/file:\/\/[^"]+\/([0-9a-f-]{36})[^"]*/g, 'file://FOLDER/$1')
    .replace(/\b[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-(?!0000000000)[0-9a-f]{12}\b/g, 'UUID')
    .replace(/\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|\.\d{6})/g, 'TIME')
    .replace(/(does not match schema (?:'|&#x27;)\w+(?:'|&#x27;))[\s\S]*?(<br \/>)/, '$1$2')
}
