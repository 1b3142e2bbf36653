/** Several stores: what each must do, and how a service uses them. */
import { randomBytes } from 'node:crypto'
import { mkdirSync, readdirSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { openFolderStore } from '../src/store/folder.ts'
import { httpStore } from '../src/store/http.ts'
import { readStores } from '../src/store/settings.ts'
import { WebClient } from '../src/web/client.ts'
import { WebGate } from '../src/web/gate.ts'
import { believing } from './support/believing.ts'
import { asCaller } from './support/glance.ts'
import { type Mirror, startMirror } from './support/mirror.ts'
import { ask, binary, createImage, type Subject, services, showImage, upload } from './support/service.ts'
import { readingSuite, storeSuite } from './support/store-suite.ts'

const folder = temporaryFolder()
const start = services()

storeSuite('a folder store', async () => {
  const place = folder.fresh()
  const store = await openFolderStore(place)
  return { store, names: async () => ['images', 'uploads'].flatMap((name) => readdirSync(join(place, name))) }
})

readingSuite('a folder store', async (data) => {
  const store = await openFolderStore(folder.fresh())
  const key = '00000000-0000-4000-8000-000000000001.aa'
  const upload = await store.begin(key)
  await upload.write(data)
  await upload.commit()
  return { store, key, missing: key.replace('aa', 'bb') }
})

describe('a store on the web', () => {
  const rules = { importSchemes: 'http', importPorts: '*', importAllowedHosts: '127.0.0.1', importDeniedHosts: '' }
  const limits = { importConnectSeconds: 5, importIdleSeconds: 5, importRedirects: 2 }
  const client = new WebClient(new WebGate(rules), limits)
  afterAll(() => client.close())
  const store = httpStore(client, 5)
  let mirror: Mirror
  beforeAll(async () => {
    mirror = await startMirror()
  })

  readingSuite('a store on the web', async (data) => {
    mirror.files.set('/data', { data, etag: '"1"' })
    return { store, key: `${mirror.url}/data`, missing: `${mirror.url}/nothing` }
  })

  it('takes nothing, and has what lies at an address', async () => {
    await expect(store.begin('key')).rejects.toMatchObject({ kind: 'read-only' })
    const key = await store.keyOf(`${mirror.url}/data`)
    expect([key, store.urlOf(String(key))]).toEqual([`${mirror.url}/data`, `${mirror.url}/data`])
    expect(await store.keyOf('file:///etc/passwd')).toBeUndefined()
    await expect(store.keyOf('http://169.254.169.254/')).rejects.toMatchObject({ kind: 'refused' })
    await expect(store.open('http://169.254.169.254/')).rejects.toThrow('not on the list')
  })

  it('does not go where a redirect leads that may not be gone to', async () => {
    mirror.files.set('/away', {
      data: Buffer.alloc(0),
      answer: (_request, response) => void response.writeHead(302, { location: 'http://[::1]/' }).end(),
    })
    await expect(store.open(`${mirror.url}/away`)).rejects.toThrow('not on the list')
  })
})

describe('the setting of stores', () => {
  it('names stores, and what is said of them', () => {
    expect(readStores(' ')).toBeUndefined()
    expect(
      readStores('fast=folder:/srv/fast, weight=10, description=Flash = quick; slow=folder:/srv/slow,default'),
    ).toEqual([
      {
        id: 'fast',
        type: 'folder',
        place: '/srv/fast',
        description: 'Flash = quick',
        weight: 10,
        isDefault: false,
        readOnly: false,
      },
      { id: 'slow', type: 'folder', place: '/srv/slow', description: '', weight: 0, isDefault: true, readOnly: false },
    ])
    expect(readStores('a=folder:/a, read-only; b=folder:/b')?.map(({ isDefault }) => isDefault)).toEqual([false, true])
  })

  it.each([
    ['fast', "'fast' does not begin with a name and its type"],
    ['os_glance_x=folder:/x', 'does not begin with a name'],
    ['a=tape:/x', "the type 'tape' is not one of folder, http"],
    ['a=folder:', 'which folder?'],
    ['a=folder:/a; a=folder:/b', "'a' is there twice"],
    ['a=folder:/a, default; b=folder:/b, default', 'cannot both be the default'],
    ['a=folder:/a, read-only', 'none of them can be written to'],
    ['a=folder:/a, default, read-only; b=folder:/b', 'read-only, and cannot be the default'],
    ['a=folder:/a, weight=heavy', "'weight=heavy' is none of"],
  ])('%s is refused', (setting, reason) => {
    expect(() => readStores(setting)).toThrow(reason)
  })
})

describe('a service with several stores', () => {
  let subject: Subject
  let places: Record<'one' | 'two' | 'old', string>
  const get = (path: string, headers = {}) => ask(`${subject.url}${path}`, 'GET', undefined, headers)
  const remove = (path: string) => ask(`${subject.url}${path}`, 'DELETE')

  beforeAll(async () => {
    places = { one: folder.fresh(), two: folder.fresh(), old: folder.fresh() }
    for (const place of Object.values(places)) mkdirSync(place, { recursive: true })
    const { one, two, old } = places
    subject = await start({
      importMethods: 'glance-direct,web-download',
      stores: `one=folder:${one}, description=First; two=folder:${two}, weight=5; old=folder:${old}, read-only`,
    })
  })

  /** Puts a second copy of an image into store `two`, as an import would. */
  async function copy(id: string, data: Uint8Array): Promise<void> {
    const { stores, catalog } = subject.service
    const key = `${id}.22222222`
    const second = await stores.dataOf('two').begin(key)
    await second.write(data)
    await second.commit()
    await catalog.update(id, (image) => ({
      ...image,
      locations: [...image.locations, { store: 'two', key, status: 'active', metadata: {} }],
    }))
  }

  it('tells of them', async () => {
    const stores = [
      { id: 'one', description: 'First', default: 'true' },
      { id: 'two' },
      { id: 'old', 'read-only': 'true' },
    ]
    expect((await get('/v2/info/stores')).json()).toEqual({ stores })
    const detail = (await get('/v2/info/stores/detail')).json<{ stores: object[] }>()
    expect(detail.stores[1]).toEqual({
      id: 'two',
      type: 'file',
      weight: 5,
      properties: { data_dir: places.two, thin_provisioning: true },
    })
    const made = await ask(`${subject.url}/v2/images`, 'POST', '{}')
    expect(made.headers).toMatchObject({
      'openstack-image-store-ids': 'one,two,old',
      'openstack-image-import-methods': 'glance-direct,web-download',
    })
  })

  it('puts data where the client says', async () => {
    const data = randomBytes(10_000)
    const [byDefault, chosen] = [await createImage(subject.url), await createImage(subject.url)]
    expect((await upload(subject.url, byDefault, data)).status).toBe(204)
    expect((await upload(subject.url, chosen, data, { 'x-image-meta-store': 'two' })).status).toBe(204)
    expect([(await showImage(subject.url, byDefault)).stores, (await showImage(subject.url, chosen)).stores]).toEqual([
      'one',
      'two',
    ])
    expect(readdirSync(join(places.two, 'images')).some((name) => name.startsWith(chosen))).toBe(true)
    expect((await get(`/v2/images/${chosen}/file`)).body.equals(data)).toBe(true)
    expect((await remove(`/v2/images/${chosen}`)).status).toBe(204)
    expect(readdirSync(join(places.two, 'images')).some((name) => name.startsWith(chosen))).toBe(false)
  })

  it('refuses stores that there are not, and those that are read-only', async () => {
    const id = await createImage(subject.url)
    expect((await upload(subject.url, id, Buffer.from('x'), { 'x-image-meta-store': 'three' })).status).toBe(400)
    expect((await upload(subject.url, id, Buffer.from('x'), { 'x-image-meta-store': 'old' })).status).toBe(410)
    expect((await showImage(subject.url, id)).status).toBe('queued')
  })

  it('reads from the copy with the largest weight, or the one preferred, and from another one when that fails', async () => {
    const data = randomBytes(3_000_000)
    const id = await createImage(subject.url)
    await upload(subject.url, id, data)
    await copy(id, data)
    const whole = async (query = '') => (await get(`/v2/images/${id}/file${query}`)).body.equals(data)
    expect((await showImage(subject.url, id)).stores).toBe('one,two')
    const fileIn = (store: 'one' | 'two') => {
      const images = join(places[store], 'images')
      return join(images, readdirSync(images).find((name) => name.startsWith(id)) ?? '')
    }
    expect(subject.service.stores.inOrder((await subject.service.catalog.get(id))?.locations ?? [])[0]?.store).toBe(
      'two',
    )
    truncateSync(fileIn('two'), 1_500_000)
    expect(await whole()).toBe(true)
    expect(await whole('?prefer=two')).toBe(true)
    rmSync(fileIn('two'))
    expect(await whole()).toBe(true)
    expect((await get(`/v2/images/${id}/file?prefer=nine`)).status).toBe(400)
    rmSync(fileIn('one'))
    expect((await get(`/v2/images/${id}/file`)).status).toBe(500)
  })

  it('lets those choose the copy who may, by a rule of the policy', async () => {
    const policyFile = folder.file('download.yaml')
    writeFileSync(policyFile, 'download_from_store: role:mover\n')
    const [mover, member, admin] = [['member', 'mover'], ['member'], ['admin']].map((roles) => asCaller('p1', roles))
    const statuses = async (settings: object, who = {}) => {
      const stores = `one=folder:${folder.fresh()}; two=folder:${folder.fresh()}`
      const { url } = await start({ stores, ...settings }, (service) => ({ ...service, identity: believing }))
      const body = JSON.stringify({ disk_format: 'raw', container_format: 'bare', owner: 'p1' })
      const made = await ask(`${url}/v2/images`, 'POST', body, { ...admin, 'content-type': 'application/json' })
      const file = `${url}/v2/images/${made.json<{ id: string }>().id}/file`
      await ask(file, 'PUT', Buffer.from('data'), { ...admin, ...binary })
      const answers = ['', '?prefer=one', '?prefer=nine'].map((query) => ask(`${file}${query}`, 'GET', undefined, who))
      return (await Promise.all(answers)).map(({ status }) => status)
    }
    expect(await statuses({}, admin)).toEqual([200, 200, 400])
    expect(await statuses({}, member)).toEqual([200, 403, 403])
    expect(await statuses({ policyFile }, mover)).toEqual([200, 200, 400])
  })

  it('takes data out of one store, but not out of the last', async () => {
    const id = await createImage(subject.url)
    expect((await remove(`/v2/stores/two/${id}`)).status).toBe(409)
    await upload(subject.url, id, Buffer.from('data'))
    expect((await remove(`/v2/stores/one/${id}`)).status).toBe(403)
    await copy(id, Buffer.from('data'))
    expect((await remove(`/v2/stores/nine/${id}`)).status).toBe(409)
    expect((await remove(`/v2/stores/old/${id}`)).status).toBe(404)
    expect((await remove('/v2/stores/one/00000000-0000-4000-8000-000000000000')).status).toBe(404)
    expect((await remove(`/v2/stores/one/${id}`)).status).toBe(204)
    expect((await showImage(subject.url, id)).stores).toBe('two')
    expect(readdirSync(join(places.one, 'images')).some((name) => name.startsWith(id))).toBe(false)
    expect((await get(`/v2/images/${id}/file`)).body.toString()).toBe('data')
  })

  it('is not what a service with one store shows', async () => {
    const plain = await start()
    const id = await createImage(plain.url)
    await upload(plain.url, id, Buffer.from('x'), { 'x-image-meta-store': 'nine' })
    const answers = ['info/stores', 'info/stores/detail', `images/${id}/file?prefer=one`]
    const statuses = await Promise.all(answers.map(async (path) => (await ask(`${plain.url}/v2/${path}`)).status))
    expect([...statuses, (await ask(`${plain.url}/v2/stores/default/${id}`, 'DELETE')).status]).toEqual([
      404, 404, 400, 404,
    ])
    expect(await showImage(plain.url, id)).not.toHaveProperty('stores')
  })
})
