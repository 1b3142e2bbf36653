/** Who may do what: every role × relation to the image × visibility × verb, asked of a real Glance and of ours, which must answer the same. A run with a
 *  small budget takes a part of the cells, by the seed. */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { budget, Random, seed } from '../../engine/test/support/random.ts'
import { believing } from './support/believing.ts'
import { asCaller, describeWithGlance, type Glance, startGlance } from './support/glance.ts'
import { newPatch } from './support/glance-request.ts'
import { ask, type Subject, services } from './support/service.ts'

/** From this budget on, which is the soak's, all cells are taken. */
const wholeBudget = 2
const start = services()
const folder = temporaryFolder()
const json = { 'content-type': 'application/json', accept: 'application/json' }
const admin = asCaller('operators', ['admin', 'member', 'reader'])

const nobody = 'somebody of the project without a role'

/** Who asks, by role and by what the image's project, `p1`, is to them. */
const callers: Readonly<Record<string, Record<string, string>>> = {
  'an admin of another project': admin,
  'an admin of the project': asCaller('p1', ['admin', 'member', 'reader']),
  'a member of the project': asCaller('p1', ['member', 'reader']),
  'a reader of the project': asCaller('p1', ['reader']),
  [nobody]: asCaller('p1', ['visitor']),
  'a member of a project that is asked': asCaller('p2', ['member', 'reader']),
  'a member of a project that accepted': asCaller('p3', ['member', 'reader']),
  'a reader of a project that accepted': asCaller('p3', ['reader']),
  'a member of a project that rejected': asCaller('p4', ['member', 'reader']),
  'a member of a stranger': asCaller('p5', ['member', 'reader']),
  'a reader of a stranger': asCaller('p5', ['reader']),
}
const visibilities = ['public', 'community', 'shared', 'private'] as const

interface Verb {
  line: string
  body?: unknown
  type?: string
}

const patch = (path: string, value: unknown): Verb => ({
  line: 'PATCH ID',
  body: [{ op: 'replace', path, value }],
  type: newPatch,
})

/** In an order in which the later ones still find what they need; whatever may end the image comes last. */
const verbs: readonly Verb[] = [
  { line: 'GET ID' },
  { line: 'GET /v2/images?limit=100' },
  { line: 'GET /v2/images?visibility=all' },
  { line: 'GET /v2/images?visibility=community' },
  { line: 'GET /v2/images?visibility=shared&member_status=all' },
  { line: 'GET /v2/images?member_status=pending' },
  { line: 'GET /v2/images?member_status=rejected' },
  { line: 'GET /v2/images?owner=p1' },
  { line: 'GET ID/file' },
  { line: 'GET ID/members' },
  { line: 'GET ID/members/p2' },
  { line: 'GET ID/members/p3' },
  { line: 'GET ID/members/p9' },
  { line: 'PUT ID/members/p2', body: { status: 'accepted' } },
  { line: 'PUT ID/members/p3', body: { status: 'pending' } },
  { line: 'PUT ID/members/p3', body: { status: 'accepted' } },
  { line: 'POST ID/members', body: { member: 'p6' } },
  { line: 'POST ID/members', body: { member: 'p2' } },
  { line: 'DELETE ID/members/p6' },
  { line: 'DELETE ID/members/p9' },
  patch('/name', 'another'),
  patch('/owner', 'p1'),
  patch('/min_ram', 1),
  { line: 'PUT ID/tags/t' },
  { line: 'DELETE ID/tags/t' },
  { line: 'PUT ID/file', body: 'x', type: 'application/octet-stream' },
  { line: 'POST ID/actions/deactivate' },
  { line: 'GET ID/file' },
  { line: 'POST ID/actions/reactivate' },
  patch('/visibility', 'community'),
  patch('/visibility', 'public'),
  patch('/visibility', 'private'),
  { line: 'DELETE ID' },
  { line: 'GET ID' },
]

/** Verbs about no image in particular. */
const others: readonly Verb[] = [
  { line: 'POST /v2/images', body: { name: 'own' } },
  { line: 'POST /v2/images', body: { name: 'own', visibility: 'public' } },
  { line: 'POST /v2/images', body: { name: 'own', visibility: 'community' } },
  { line: 'POST /v2/images', body: { name: 'for another', owner: 'p7' } },
  { line: 'GET /v2/metadefs/namespaces?limit=0' },
  { line: 'GET /v2/metadefs/resource_types' },
  { line: 'POST /v2/metadefs/namespaces', body: { namespace: 'made-by-CALLER' } },
  { line: 'GET /v2/metadefs/namespaces/Private::Of::P1' },
  { line: 'POST /v2/metadefs/namespaces/Private::Of::P1/tags/x' },
  { line: 'GET /v2/metadefs/namespaces/Private::Of::P1/tags' },
  { line: 'DELETE /v2/metadefs/namespaces/Private::Of::P1/tags/x' },
]

interface Seen {
  status: number
  body: unknown
}

async function call(url: string, who: Record<string, string>, { line, body, type }: Verb, id: string): Promise<Seen> {
  const [method = '', path = ''] = line.split(' ')
  const text = body === undefined || typeof body === 'string' ? body : JSON.stringify(body)
  const headers = { ...json, ...who, ...(type === undefined ? {} : { 'content-type': type }) }
  const answer = await ask(`${url}${path.replace('ID', `/v2/images/${id}`)}`, method, text, headers)
  const isJson = answer.headers['content-type']?.startsWith('application/json') === true
  return { status: answer.status, body: isJson ? essence(answer.json(), id) : answer.body.toString() }
}

/** What of a document says who may do what: of lists only whether the image is in, of images no times. */
function essence(document: Record<string, unknown>, id: string): unknown {
  const { images, resource_types: types } = document
  if (Array.isArray(images)) return images.some((image) => image.id === id)
  if (types !== undefined) return 'resource types'
  const text = JSON.stringify(document, (name, value) => (/^(created|updated)_at$/.test(name) ? undefined : value))
  return JSON.parse(text.replace(/[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}/g, 'UUID'))
}

/** Makes an active image of `p1` and invites three projects, if it is shared. */
async function prepare(url: string, id: string, visibility: string): Promise<void> {
  const facts = { id, visibility, owner: 'p1', disk_format: 'raw', container_format: 'bare', name: visibility }
  const steps: [Record<string, string>, Verb][] = [
    [admin, { line: 'POST /v2/images', body: facts }],
    [admin, { line: 'PUT ID/file', body: 'some data', type: 'application/octet-stream' }],
  ]
  if (visibility === 'shared') {
    for (const member of ['p2', 'p3', 'p4']) steps.push([admin, { line: 'POST ID/members', body: { member } }])
    steps.push([asCaller('p3', ['member', 'reader']), { line: 'PUT ID/members/p3', body: { status: 'accepted' } }])
    steps.push([asCaller('p4', ['member', 'reader']), { line: 'PUT ID/members/p4', body: { status: 'rejected' } }])
  }
  for (const [who, verb] of steps) {
    const { status, body } = await call(url, who, verb, id)
    if (status >= 300) throw new Error(`${verb.line}: ${status} ${JSON.stringify(body)}`)
  }
}

describeWithGlance('who may do what', () => {
  let glance: Glance | undefined
  let subject: Subject
  beforeAll(async () => {
    glance = await startGlance(folder.file('.'), true)
    subject = await start({}, (service) => ({ ...service, identity: believing }))
    const space = { line: 'POST /v2/metadefs/namespaces', body: { namespace: 'Private::Of::P1', owner: 'p1' } }
    for (const { url } of [glance, subject]) await call(url, admin, space, '')
  }, 120_000)
  afterAll(() => glance?.stop())

  const compare = async (title: string, who: Record<string, string>, verb: Verb, id: string) => {
    const theirs = await call(glance?.url ?? '', who, verb, id)
    const ours = await call(subject.url, who, verb, id)
    // Glance tells those without a role that there is something that they may not do, or what kind of thing it is; here it is not there.
    if (title === nobody && [403, 404].includes(theirs.status) && ours.status === 404) return
    expect.soft(ours, `${verb.line} ${JSON.stringify(verb.body ?? '')} by ${title}`).toEqual(theirs)
  }

  const random = new Random(seed('roles'))
  const share = budget(1) >= wholeBudget ? 1 : budget(1) / 3
  const cells = Object.keys(callers).flatMap((who) => visibilities.map((visibility) => ({ who, visibility })))
  const chosen = cells.filter(() => random.next() < share)

  it.each(chosen)('$who with an image that is $visibility', { timeout: 60_000 }, async ({ who, visibility }) => {
    const id = randomUUID()
    for (const url of [glance?.url, subject.url]) await prepare(url ?? '', id, visibility)
    for (const verb of verbs) await compare(who, callers[who] ?? {}, verb, id)
  })

  it.each(Object.entries(callers))('%s without an image', { timeout: 60_000 }, async (who, headers) => {
    for (const verb of others) {
      const named = JSON.parse(JSON.stringify(verb).replace('CALLER', who.replaceAll(' ', '-')))
      await compare(who, headers, named, '')
    }
  })
})
