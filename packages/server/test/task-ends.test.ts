/** Tasks that do not come to a good end: what is left of them, and what is said of it. */
import { randomBytes } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { beforeAll, describe, expect, it, vi } from 'vitest'
import { catalogPath } from '../src/catalog/open.ts'
import { type Mirror, startMirror } from './support/mirror.ts'
import { ask, binary, createImage, services, showImage, upload } from './support/service.ts'

const start = services()
const web = { importAllowedHosts: '127.0.0.1', importPorts: '*', importRetries: 0 }
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
      return ask(`${url}/v2/images/${id}/import`, 'POST', JSON.stringify({ method }), { 'x-auth-token': 'secret' })
    }
    const id = await createImage(url)
    for (const end of ['failure', 'success']) {
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
})
