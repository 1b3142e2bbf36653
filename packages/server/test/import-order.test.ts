/** What an import that was accepted, or is under way, may count on; and what others may do to its image meanwhile. */
import { createHash, randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, describe, expect, it, vi } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import type { ImageStore } from '../src/store/store.ts'
import { Stores } from '../src/store/stores.ts'
import { type Mirror, startMirror } from './support/mirror.ts'
import { type Answer, ask, createImage, services, showImage } from './support/service.ts'

const start = services()
const folder = temporaryFolder()
const web = { importAllowedHosts: '127.0.0.1', importPorts: '*', importRetries: 0 }
const waiting = { timeout: 10_000, interval: 20 }
const data = randomBytes(200_000)
const other = randomBytes(100_000)
let mirror: Mirror

beforeAll(async () => {
  mirror = await startMirror()
  mirror.files.set('/data', { data, etag: '"1"' })
  mirror.files.set('/other', { data: other, etag: '"2"' })
})

const importWith = (url: string, id: string, body: object) =>
  ask(`${url}/v2/images/${id}/import`, 'POST', JSON.stringify(body))
const importInto = (url: string, id: string, path: string, more = {}) =>
  importWith(url, id, { method: { name: 'web-download', uri: `${mirror.url}${path}` }, ...more })

/** What the task of a request says in the end. */
async function endOf(url: string, id: string, { status, headers }: Answer): Promise<string> {
  expect(status).toBe(202)
  const task = async () => {
    const { tasks } = (await ask(`${url}/v2/images/${id}/tasks`)).json<{ tasks: Record<string, string>[] }>()
    return tasks.find((one) => one.request_id === headers['x-openstack-request-id'])
  }
  await vi.waitUntil(async () => /success|failure/.test((await task())?.status ?? ''), waiting)
  return (await task())?.message ?? ''
}

const dataOf = async (url: string, id: string) => (await ask(`${url}/v2/images/${id}/file`)).body
const unlocked = (url: string, id: string) =>
  vi.waitUntil(async () => (await showImage(url, id)).os_glance_import_task === undefined, waiting)

it('keeps locations away from an image between its acceptance and its beginning', async () => {
  const { url } = await start({
    ...{ ...web, taskLimit: 1, showLocations: true },
    stores: `one=folder:${folder.fresh()}; web=http`,
  })
  let release = () => {}
  mirror.files.set('/held', {
    data,
    answer: (_request, response) => {
      release = () => response.end(data)
    },
  })
  const [busy, image, bare] = [await createImage(url), await createImage(url), await createImage(url)]
  expect((await importInto(url, busy, '/held')).status).toBe(202)
  await vi.waitUntil(() => mirror.requests.includes('GET /held'), waiting)
  expect((await importInto(url, image, '/data')).status).toBe(202)
  const location = { url: `${mirror.url}/other`, metadata: {} }
  const posted = await ask(`${url}/v2/images/${image}/locations`, 'POST', JSON.stringify({ url: location.url }))
  const patch = JSON.stringify([{ op: 'add', path: '/locations/-', value: location }])
  const type = { 'content-type': 'application/openstack-images-v2.1-json-patch' }
  const patched = await ask(`${url}/v2/images/${image}`, 'PATCH', patch, type)
  expect([posted.status, patched.status]).toEqual([409, 409])
  // Formats may still be changed then, as in Glance; without one nobody knows what the data is to be.
  const accepted = await importInto(url, bare, '/data')
  const none = JSON.stringify([{ op: 'replace', path: '/disk_format', value: null }])
  expect((await ask(`${url}/v2/images/${bare}`, 'PATCH', none, type)).status).toBe(200)
  release()
  expect(await endOf(url, bare, accepted)).toContain("'disk_format' needs to be set")
  expect((await showImage(url, bare)).status).toBe('queued')
  await unlocked(url, image)
  expect(await showImage(url, image)).toMatchObject({ status: 'active', stores: 'one' })
  expect((await dataOf(url, image)).equals(data)).toBe(true)
})

describe('an import into stores of which one is enough', () => {
  /** An image that is active in one store while the other one is held up. */
  async function half() {
    let release = () => {}
    const held = new Promise<void>((resolve) => {
      release = resolve
    })
    const slow = (real: ImageStore): ImageStore =>
      Object.assign(Object.create(real) as ImageStore, {
        begin: async (key: string, expected?: number) => {
          await held
          return real.begin(key, expected)
        },
      })
    const stores = `one=folder:${folder.fresh()}; two=folder:${folder.fresh()}`
    const subject = await start({ ...web, stores }, (service) => {
      const { all, staging } = service.stores
      const doubled = all.map((store) => (store.id === 'two' ? { ...store, data: slow(store.data) } : store))
      return Object.assign(service, { stores: new Stores(doubled, staging, true) })
    })
    const { url } = subject
    const id = await createImage(url)
    await importInto(url, id, '/data', { stores: ['one', 'two'], all_stores_must_succeed: false })
    await vi.waitUntil(async () => (await showImage(url, id)).status === 'active', waiting)
    const task = String((await showImage(url, id)).os_glance_import_task)
    return { subject, url, id, release, task }
  }

  it('does not undo that its image was deactivated meanwhile', async () => {
    const { url, id, release } = await half()
    expect((await ask(`${url}/v2/images/${id}/actions/deactivate`, 'POST')).status).toBe(204)
    release()
    await unlocked(url, id)
    expect(await showImage(url, id)).toMatchObject({ status: 'deactivated', stores: 'one,two' })
  })

  it('leaves the image as it is when it is cancelled after the first', async () => {
    const { subject, url, id, release, task } = await half()
    expect(await subject.service.catalog.work.tasks.cancel(task, 'enough')).toBe(true)
    // It hears of that within a second.
    await sleep(1500)
    release()
    await unlocked(url, id)
    const { tasks } = subject.service.catalog.work
    await expect.poll(async () => (await tasks.get(task))?.message).toBe('enough')
    expect(await showImage(url, id)).toMatchObject({ status: 'active', stores: 'one' })
    expect((await dataOf(url, id)).equals(data)).toBe(true)
  })
})

it('compares the data of another image service with the digest that it says', async () => {
  const remote = '5f0c5c6e-3c1e-4f0b-9a54-1f9b5a3e7c21'
  const facts = { status: 'active', disk_format: 'raw', container_format: 'bare', os_hash_algo: 'sha512' }
  const say = (what: string) => mirror.files.set(`/v2/images/${remote}`, { data: Buffer.from(what) })
  const { url } = await start({
    ...{ importRetries: 2, importMethods: 'glance-download', importRegions: `two=${mirror.url}` },
  })
  const method = { name: 'glance-download', glance_region: 'two', glance_image_id: remote }
  const message = async (id: string) => endOf(url, id, await importWith(url, id, { method }))
  const id = await createImage(url)
  say('<html>')
  expect(await message(id)).toContain('something that is no image')
  say(JSON.stringify({ ...facts, os_hash_value: '00'.repeat(64) }))
  // As Glance: no ETag, and the connection breaks.
  mirror.files.set(`/v2/images/${remote}/file`, { data, cutAfter: 70_000 })
  expect(await message(id)).toContain('was expected')
  say(JSON.stringify({ ...facts, os_hash_value: createHash('sha512').update(data).digest('hex') }))
  expect(await message(id)).toBe('')
  expect((await dataOf(url, id)).equals(data)).toBe(true)
})
