/** Ours beside a real Glance: the same requests, and the same answers, but for what is better otherwise. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWithGlance, type Glance, startGlance } from './support/glance.ts'
import { giveStarterSet } from './support/glance-metadefs.ts'
import type { Step } from './support/glance-request.ts'
import { walk } from './support/glance-steps.ts'
import { ask, type Subject, services } from './support/service.ts'

const start = services()
const folder = temporaryFolder()
const watched = ['content-type', 'location', 'allow', 'accept-patch', 'content-md5', 'content-range', 'content-length']

/** What is compared of an answer. */
interface Seen {
  status: number
  headers: Record<string, string>
  body: unknown
}

async function take(url: string, { line, headers, body }: Step): Promise<Seen> {
  const [method = '', path = ''] = line.split(' ')
  const answer = await ask(`${url}${path}`, method, body, { accept: '*/*', ...headers })
  const { status } = answer
  const type = answer.headers['content-type'] ?? ''
  const isData = type === 'application/octet-stream'
  const shown = watched.filter((name) => {
    if (name === 'content-length') return isData
    // Glance names a type where there is no body, and does not say how long what could not be had is.
    return name === 'content-type' ? status !== 204 && status !== 302 : name !== 'content-range' || status !== 416
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

describeWithGlance('the same requests to Glance and to us', () => {
  let glance: Glance | undefined
  let subject: Subject
  beforeAll(async () => {
    glance = await startGlance(folder.file('.'))
    await giveStarterSet(glance.url)
    subject = await start({ importMethods: '' })
  }, 120_000)
  afterAll(() => glance?.stop())

  // Each part needs what those before it have made.
  it.each(Object.entries(walk))('get the same answers: %s', { timeout: 120_000 }, async (_part, steps) => {
    for (const step of steps) {
      const theirs = await take(glance?.url ?? '', step)
      const ours = await take(subject.url, step)
      const title = `${step.line} ${String(step.body ?? '').slice(0, 300)}`
      if (step.differs === undefined) expect.soft(ours, title).toEqual(theirs)
      else expect.soft(ours, `${title} (${step.differs})`).not.toEqual(theirs)
    }
  })
})
