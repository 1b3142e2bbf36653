/** Tasks that do not come to a good end: what is left of them, and what is said of it. */
import { randomBytes, randomUUID } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { beforeAll, describe, expect, it, vi } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { catalogPath } from '../src/catalog/open.ts'
import { cancelTask, type TaskFacts, tasks } from '../src/upkeep.ts'
import { type Mirror, startMirror } from './support/mirror.ts'
import { servedProcesses } from './support/served.ts'
import { ask, binary, createImage, services, showImage, upload } from './support/service.ts'

const folder = temporaryFolder()
const start = services()
const serve = servedProcesses()
const web = { importAllowedHosts: '127.0.0.1', importPorts: '*', importRetries: 0 }
const token = 'what-a-caller-showed'
const data = randomBytes(4 * 1024 * 1024)
let mirror: Mirror

beforeAll(async () => {
  mirror = await startMirror()
  mirror.files.set('/slow', { data, milliseconds: 100 })
})

interface TaskDocument {
  id: string
  status: string
  message: string
}

const post = (url: string, body: object) => ask(url, 'POST', JSON.stringify(body))
const importInto = (url: string, id: string, method: object) => post(`${url}/v2/images/${id}/import`, { method })
const lastTask = async (url: string, id: string) =>
  (await ask(`${url}/v2/images/${id}/tasks`)).json<{ tasks: TaskDocument[] }>().tasks.at(-1)
const isOver = ({ status }: TaskDocument) => status === 'success' || status === 'failure'
const waiting = { timeout: 10_000, interval: 20 }

describe('a task whose processes died three times', () => {
  it('puts back what it worked on', async () => {
    const first = await start({ ...web, taskLimit: 1 })
    const [fetched, staged] = await Promise.all([createImage(first.url), createImage(first.url)])
    await ask(`${first.url}/v2/images/${staged}/stage`, 'PUT', data, binary)
    await importInto(first.url, fetched, { name: 'web-download', uri: `${mirror.url}/slow` })
    await vi.waitUntil(async () => (await showImage(first.url, fetched)).status === 'importing', waiting)
    await importInto(first.url, staged, { name: 'glance-direct' })
    const input = { import_from: `${mirror.url}/slow`, import_from_format: 'raw', image_properties: {} }
    const legacy = (await post(`${first.url}/v2/tasks`, { type: 'import', input })).json<TaskDocument>().id
    await first.service.catalog.update(staged, (image) => ({ ...image, status: 'importing' }))
    await first.close()
    const database = new DatabaseSync(catalogPath(first.data))
    database.exec('update tasks set attempts = 3')
    database.close()

    const next = await start({ ...web, data: first.data })
    for (const id of [fetched, staged]) {
      await vi.waitUntil(async () => isOver((await lastTask(next.url, id)) as TaskDocument), waiting)
      expect(await lastTask(next.url, id)).toMatchObject({
        status: 'failure',
        message: expect.stringContaining('begun 3 times'),
      })
      const image = await showImage(next.url, id)
      expect(image).toMatchObject({ status: 'queued', size: null })
      expect(image).not.toHaveProperty('os_glance_import_task')
      expect((await upload(next.url, id, data)).status).toBe(204)
    }
    const end = async () => (await ask(`${next.url}/v2/tasks/${legacy}`)).json<TaskDocument>()
    await vi.waitUntil(async () => isOver(await end()), waiting)
    expect((await end()).status).toBe('failure')
    expect((await ask(`${next.url}/v2/images/${legacy}`)).status).toBe(404)
    expect(readdirSync(join(next.data, 'staging', 'images'))).toEqual([])
  })
})

describe('the token of a caller in whose name an image is fetched', () => {
  it('is kept no longer than its task, however that ends', async () => {
    const source = await start()
    const remote = await createImage(source.url)
    const { url, service } = await start({
      ...{ importMethods: 'glance-download', taskLimit: 1 },
      importRegions: `two=${source.url}, slow=${mirror.url}`,
    })
    const request = (id: string, region: string) => {
      const method = { name: 'glance-download', glance_region: region, glance_image_id: remote }
      return ask(`${url}/v2/images/${id}/import`, 'POST', JSON.stringify({ method }), { 'x-auth-token': token })
    }
    for (const end of ['failure', 'success']) {
      const id = await createImage(url)
      expect((await request(id, 'two')).status).toBe(202)
      await vi.waitUntil(() => service.callerTokens.size === 0, waiting)
      expect((await lastTask(url, id))?.status).toBe(end)
      await upload(source.url, remote, data)
    }
    const held = Promise.withResolvers<void>()
    mirror.files.set(`/v2/images/${remote}`, {
      data: Buffer.alloc(0),
      answer: (_request, response) => void held.promise.then(() => response.writeHead(404).end()),
    })
    const [running, pending] = await Promise.all([createImage(url), createImage(url)])
    for (const one of [running, pending]) await request(one, 'slow')
    expect(service.callerTokens.size).toBe(2)
    // The second waits for its turn.
    await ask(`${url}/v2/images/${pending}`, 'DELETE')
    await vi.waitUntil(() => service.callerTokens.size === 1, waiting)
    held.resolve()
    await vi.waitUntil(() => service.callerTokens.size === 0, waiting)
  })

  /** An image of a service that wants the token. Its facts are held back until `open`. */
  function guarded(open: Promise<void>): { id: string; asked: () => boolean } {
    const id = randomUUID()
    let asked = false
    const facts = JSON.stringify({ id, status: 'active', disk_format: 'raw', container_format: 'bare' })
    const answering = (body: string | Uint8Array, wait: Promise<void>) => ({
      data: Buffer.alloc(0),
      answer: (request: IncomingMessage, response: ServerResponse) => {
        asked = true
        if (request.headers['x-auth-token'] !== token) return void response.writeHead(401).end()
        void wait.then(() => response.end(body))
      },
    })
    mirror.files.set(`/v2/images/${id}`, answering(facts, open))
    mirror.files.set(`/v2/images/${id}/file`, answering(data, Promise.resolve()))
    return { id, asked: () => asked }
  }
  const fetchFrom = (url: string, id: string, remote: string) => {
    const method = { name: 'glance-download', glance_region: 'there', glance_image_id: remote }
    return ask(`${url}/v2/images/${id}/import`, 'POST', JSON.stringify({ method }), { 'x-auth-token': token })
  }

  it('is used by the process that has it, though another one has nothing to do', async () => {
    const config = { importMethods: 'glance-download', importRegions: `there=${mirror.url}`, taskLimit: 1 }
    const first = await start(config)
    const other = await start({ ...config, data: first.data })
    const held = Promise.withResolvers<void>()
    const [slow, quick] = [guarded(held.promise), guarded(Promise.resolve())]
    const ids = await Promise.all([createImage(first.url), createImage(first.url)])
    await fetchFrom(first.url, ids[0], slow.id)
    await vi.waitUntil(slow.asked, waiting)
    await fetchFrom(first.url, ids[1], quick.id)
    for (let turn = 0; turn < 3; turn++) {
      other.service.tasks.kick()
      await other.service.tasks.idle()
    }
    expect([(await lastTask(other.url, ids[1]))?.status, quick.asked()]).toEqual(['pending', false])
    held.resolve()
    for (const id of ids) {
      await vi.waitUntil(async () => isOver((await lastTask(other.url, id)) as TaskDocument), waiting)
      expect(await lastTask(other.url, id)).toMatchObject({ status: 'success', message: '' })
      expect((await showImage(other.url, id)).status).toBe('active')
    }
  })

  it('is gone with a process that is killed, and the task says so', { timeout: 60_000 }, async () => {
    const folderOfData = folder.fresh()
    const killed = await serve(folderOfData, {
      ...{ MORAINE_IMPORT_METHODS: 'glance-download', MORAINE_IMPORT_REGIONS: `there=${mirror.url}` },
      MORAINE_TASK_LIMIT: '1',
    })
    const never = Promise.withResolvers<void>()
    const remote = guarded(never.promise)
    const ids = await Promise.all([createImage(killed.url), createImage(killed.url)])
    await fetchFrom(killed.url, ids[0], remote.id)
    await vi.waitUntil(remote.asked, waiting)
    await fetchFrom(killed.url, ids[1], remote.id)
    await killed.kill()
    const next = await start({
      ...{ data: folderOfData, importMethods: 'glance-download', importRegions: `there=${mirror.url}` },
    })
    for (const id of ids) {
      await vi.waitUntil(async () => isOver((await lastTask(next.url, id)) as TaskDocument), waiting)
      const end = { status: 'failure', message: expect.stringContaining('must be asked for again') }
      expect(await lastTask(next.url, id)).toMatchObject(end)
      const image = await showImage(next.url, id)
      expect(image).toMatchObject({ status: 'queued', size: null })
      expect(image).not.toHaveProperty('os_glance_import_task')
    }
    expect(readFileSync(catalogPath(folderOfData), 'latin1')).not.toContain(token)
    expect(readFileSync(`${catalogPath(folderOfData)}-wal`, 'latin1')).not.toContain(token)
  })
})

describe('a task that an operator cancels', () => {
  const within = async (settings: { data: string }, all = false) => {
    const found: TaskFacts[] = []
    for await (const task of tasks(settings, { all })) found.push(task)
    return found
  }

  it('ends, whether it runs or waits, and leaves its image as a failed import does', async () => {
    const { url, data: place } = await start({ ...web, taskLimit: 1 })
    const settings = { data: place }
    const input = { import_from: `${mirror.url}/slow`, import_from_format: 'raw', image_properties: { name: 'old' } }
    const legacy = (await post(`${url}/v2/tasks`, { type: 'import', input })).json<TaskDocument>().id
    await vi.waitUntil(() => readdirSync(join(place, 'store', 'uploads')).length === 1, waiting)
    const waits = await createImage(url)
    await importInto(url, waits, { name: 'web-download', uri: `${mirror.url}/slow` })
    const listed = await within(settings)
    expect(listed.map(({ type, status, imageId }) => [type, status, imageId])).toEqual([
      ['import', 'processing', null],
      ['api_image_import', 'pending', waits],
    ])
    // The one that waits first: it is ended when its turn comes.
    for (const { id } of listed.toReversed()) await cancelTask(settings, id)
    await vi.waitUntil(async () => (await within(settings)).length === 0, waiting)
    expect(await within(settings, true)).toMatchObject([
      { status: 'failure', message: 'cancelled by an operator' },
      { status: 'failure', message: 'cancelled by an operator' },
    ])
    expect((await ask(`${url}/v2/images/${legacy}`)).status).toBe(404)
    const image = await showImage(url, waits)
    expect(image).toMatchObject({ status: 'queued', size: null })
    expect(image).not.toHaveProperty('os_glance_import_task')
    expect(readdirSync(join(place, 'store', 'uploads'))).toEqual([])
    await expect(cancelTask(settings, legacy)).rejects.toMatchObject({ kind: 'missing' })
    await expect(cancelTask(settings, 'nothing')).rejects.toMatchObject({ kind: 'missing' })
  })

  it('ends in the middle of an import', async () => {
    const { url, data: place } = await start(web)
    const id = await createImage(url)
    await importInto(url, id, { name: 'web-download', uri: `${mirror.url}/slow` })
    await vi.waitUntil(async () => (await showImage(url, id)).status === 'importing', waiting)
    await cancelTask({ data: place }, (await lastTask(url, id))?.id ?? '')
    await vi.waitUntil(async () => (await lastTask(url, id))?.status === 'failure', waiting)
    expect(await showImage(url, id)).toMatchObject({ status: 'queued', size: null })
    expect((await upload(url, id, data)).status).toBe(204)
  })
})
