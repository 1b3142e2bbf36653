/** What the routes of imports and tasks take, and what they say. */
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, describe, expect, it } from 'vitest'
import { believing } from './support/believing.ts'
import { asCaller } from './support/glance.ts'
import { type Mirror, startMirror } from './support/mirror.ts'
import { type Answer, ask, createImage, type Subject, services, showImage } from './support/service.ts'

const start = services()
let subject: Subject
let mirror: Mirror

interface TaskDocument {
  id: string
  status: string
  result: unknown
}

beforeAll(async () => {
  mirror = await startMirror()
  subject = await start({
    ...{ importAllowedHosts: '127.0.0.1', importPorts: '*', importRetries: 0 },
    importMethods: 'glance-direct,web-download,copy-image,glance-download',
  })
})

const importInto = (id: string, body: object) =>
  ask(`${subject.url}/v2/images/${id}/import`, 'POST', JSON.stringify(body), { 'content-type': 'application/json' })
const direct = { method: { name: 'glance-direct' } }
const fromWeb = (path: string) => ({ method: { name: 'web-download', uri: `${mirror.url}${path}` } })

describe('requests', () => {
  it.each([
    ['{}', 400, "requires a 'method' field"],
    ['{"method": {}}', 400, "requires a 'name' field"],
    ['{"method": "x"}', 400, 'must be a JSON object'],
    ['[]', 400, 'must be a JSON object'],
    ['{"method": {"name": "magic"}}', 400, "Unknown import method name 'magic'"],
    ['{"method": {"name": "glance-direct"}, "all_stores": 1}', 400, 'must be boolean'],
    ['{"method": {"name": "glance-direct"}, "all_stores_must_succeed": "no"}', 400, 'must be boolean'],
    ['{"method": {"name": "glance-direct"}, "stores": "one"}', 400, 'list of names'],
    ['{"method": {"name": "glance-direct"}}', 409, 'needs to be staged'],
    ['{"method": {"name": "copy-image"}}', 409, 'Only images with status active'],
    ['{"method": {"name": "glance-download"}}', 400, "'glance_region' needs to be set"],
  ])('%s is %i', async (body, status, reason) => {
    const answer = await ask(`${subject.url}/v2/images/${await createImage(subject.url)}/import`, 'POST', body)
    expect([answer.status, answer.body.toString()]).toEqual([status, expect.stringContaining(reason)])
  })

  it('need formats, and an image', async () => {
    const { id } = (await ask(`${subject.url}/v2/images`, 'POST', '{}')).json<{ id: string }>()
    const answer = await importInto(id, fromWeb('/image'))
    expect([answer.status, answer.body.toString()]).toEqual([409, expect.stringContaining("'container_format' needs")])
    expect((await importInto('00000000-0000-4000-8000-000000000000', direct)).status).toBe(404)
  })
})

describe('tasks', () => {
  it('of an image are shown to its project and to theirs, not to all who see the image', async () => {
    const { url } = await start({ importAllowedHosts: '127.0.0.1', importPorts: '*', importRetries: 0 }, (service) => ({
      ...service,
      identity: believing,
    }))
    mirror.files.set('/signed?key=secret', { data: Buffer.from('data') })
    const [owner, other, admin] = [asCaller('p1', ['member']), asCaller('p2', ['member']), asCaller('p3', ['admin'])]
    const facts = { disk_format: 'raw', container_format: 'bare', visibility: 'community' }
    const { id } = (await ask(`${url}/v2/images`, 'POST', JSON.stringify(facts), owner)).json<{ id: string }>()
    const body = JSON.stringify(fromWeb('/signed?key=secret'))
    expect((await ask(`${url}/v2/images/${id}/import`, 'POST', body, owner)).status).toBe(202)
    const seen = async (who: Record<string, string>) =>
      (await ask(`${url}/v2/images/${id}/tasks`, 'GET', undefined, who)).json<{ tasks: unknown[] }>().tasks.length
    expect([await seen(owner), await seen(admin), await seen(other)]).toEqual([1, 1, 0])
  })

  it('make an image of old, are listed, and cannot be deleted', async () => {
    mirror.files.set('/legacy', { data: Buffer.from('legacy') })
    const input = {
      import_from: `${mirror.url}/legacy`,
      import_from_format: 'raw',
      image_properties: { name: 'old', os_distro: 'x' },
    }
    const post = (body: object) => ask(`${subject.url}/v2/tasks`, 'POST', JSON.stringify(body))
    const made = await post({ type: 'import', input })
    expect(made.status).toBe(201)
    const { id } = made.json<TaskDocument>()
    expect(made.headers.location).toBe(`${subject.url}/v2/tasks/${id}`)
    let task = made.json<TaskDocument>()
    for (let at = 0; task.status !== 'success' && at < 500; at++) {
      await sleep(10)
      task = (await ask(`${subject.url}/v2/tasks/${id}`)).json()
    }
    const { image_id: image } = task.result as { image_id: string }
    expect(await showImage(subject.url, image)).toMatchObject({
      name: 'old',
      os_distro: 'x',
      status: 'active',
      visibility: 'private',
    })
    const list = (await ask(`${subject.url}/v2/tasks?type=import&limit=1`)).json<{
      tasks: TaskDocument[]
      first: string
    }>()
    expect(list).toMatchObject({ tasks: [{ id, self: `/v2/tasks/${id}` }], first: '/v2/tasks?type=import&limit=1' })
    expect(list.tasks[0]).not.toHaveProperty('input')
    const { headers, status } = await ask(`${subject.url}/v2/tasks/${id}`, 'DELETE')
    expect([status, headers.allow]).toEqual([405, 'GET'])
    for (const body of [
      {},
      { type: 'import' },
      { type: 'other', input },
      { type: 'import', input: {} },
      { type: 'import', input: { ...input, import_from: 'file:///etc/passwd' } },
    ]) {
      expect((await post(body)).status).toBe(400)
    }
    for (const query of ['limit=x', 'limit=-1', 'marker=x', 'status=x', 'type=x', 'sort_dir=x', 'sort_key=x']) {
      expect([query, (await ask(`${subject.url}/v2/tasks?${query}`)).status]).toEqual([query, 400])
    }
  })

  it('come in pages', async () => {
    for (let at = 0; at < 5; at++) await importInto(await createImage(subject.url), fromWeb('/nothing'))
    const seen: string[] = []
    for (let path: string | undefined = '/v2/tasks?limit=2&sort_key=type&sort_dir=asc'; path !== undefined; ) {
      const answer: Answer = await ask(`${subject.url}${path}`)
      const page = answer.json<{ tasks: TaskDocument[]; next?: string }>()
      seen.push(...page.tasks.map(({ id }) => id))
      path = page.next
    }
    const all = (await ask(`${subject.url}/v2/tasks?limit=1000`)).json<{ tasks: TaskDocument[] }>().tasks
    expect(seen.length).toBeGreaterThan(4)
    expect(seen.toSorted()).toEqual(all.map(({ id }) => id).toSorted())
  })
})
