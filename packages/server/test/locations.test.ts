/** Data that is added by its address, and what clients are told of where data lies. */
import { createHash, randomBytes } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, describe, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { type Mirror, startMirror } from './support/mirror.ts'
import { ask, createImage, type ImageDocument, type Subject, services, showImage, upload } from './support/service.ts'

const folder = temporaryFolder()
const start = services()
const data = randomBytes(300_000)
const digest = (name: string) => createHash(name).update(data).digest('hex')
let mirror: Mirror
let subject: Subject

beforeAll(async () => {
  mirror = await startMirror()
  for (let at = 0; at <= 10; at++) mirror.files.set(`/data?${at}`, { data, etag: `"${at}"` })
  mirror.files.set('/data', { data, etag: '"1"' })
  subject = await start({
    ...{ importAllowedHosts: '127.0.0.1', importPorts: '*', showDirectUrl: true, showLocations: true },
    stores: `one=folder:${folder.fresh()}; web=http`,
  })
})

const add = (id: string, body: object) => ask(`${subject.url}/v2/images/${id}/locations`, 'POST', JSON.stringify(body))
const from = (path: string) => ({ url: `${mirror.url}${path}` })

async function settled(id: string): Promise<ImageDocument> {
  for (let at = 0; at < 1000; at++) {
    const image = await showImage(subject.url, id)
    if (image.os_glance_import_task === undefined) return image
    await sleep(10)
  }
  throw new Error('it did not come to its end')
}

describe('a location', () => {
  it('makes an image active, and its digests are computed', async () => {
    const id = await createImage(subject.url)
    expect((await add(id, from('/data'))).status).toBe(202)
    expect(await settled(id)).toMatchObject({
      ...{ status: 'active', size: data.length, checksum: digest('md5'), os_hash_value: digest('sha512') },
      ...{ stores: 'web', direct_url: `${mirror.url}/data` },
      locations: [{ url: `${mirror.url}/data`, metadata: { store: 'web' } }],
    })
    expect((await ask(`${subject.url}/v2/images/${id}/file`)).body.equals(data)).toBe(true)
    const shown = (await ask(`${subject.url}/v2/images/${id}/locations`)).json()
    expect(shown).toEqual([{ url: `${mirror.url}/data`, metadata: { store: 'web' } }])
    expect((await add(id, from('/data'))).status).toBe(409)
    expect((await ask(`${subject.url}/v2/images/${id}`, 'DELETE')).status).toBe(204)
  })

  it('must have the data that was said', async () => {
    const id = await createImage(subject.url)
    const said = { os_hash_algo: 'sha512', os_hash_value: digest('sha512'), checksum: digest('md5') }
    await add(id, { ...from('/data'), validation_data: { ...said, os_hash_value: '00'.repeat(64) } })
    expect(await settled(id)).toMatchObject({ status: 'queued', size: null, os_hash_value: null, locations: [] })
    const message = async () => {
      const { tasks } = (await ask(`${subject.url}/v2/images/${id}/tasks`)).json<{ tasks: { message: string }[] }>()
      return tasks[0]?.message
    }
    // The image is let go before the task is over.
    await expect.poll(message).toContain('the data is not what was said')
    await add(id, { ...from('/data'), validation_data: said })
    expect((await settled(id)).status).toBe('active')
  })

  it('that turned out wrong leaves no copy that the next one would be served from', async () => {
    let release = () => {}
    const held = new Promise<void>((resolve) => {
      release = resolve
    })
    const hosted = await start(
      {
        ...{ importAllowedHosts: '127.0.0.1', importPorts: '*', imageCacheSize: 2 ** 30 },
        stores: `one=folder:${folder.fresh()}; web=http`,
      },
      (service) => {
        const begin = service.hashes.start.bind(service.hashes)
        // The digests are known only when the test says so.
        service.hashes.start = (algorithm) => {
          const hash = begin(algorithm)
          return { ...hash, digest: () => held.then(() => hash.digest()) }
        }
        return service
      },
    )
    const [bad, good] = [randomBytes(100_000), randomBytes(100_000)]
    mirror.files.set('/bad', { data: bad, etag: '"bad"' })
    mirror.files.set('/good', { data: good, etag: '"good"' })
    const at = `${hosted.url}/v2/images/${await createImage(hosted.url)}`
    const status = async () => (await ask(at)).json<ImageDocument>().status
    const said = { os_hash_algo: 'sha512', os_hash_value: '00'.repeat(64) }
    const post = (body: object) => ask(`${at}/locations`, 'POST', JSON.stringify(body))
    await post({ ...from('/bad'), validation_data: said })
    await expect.poll(status).toBe('active')
    expect((await ask(`${at}/file`)).body.equals(bad)).toBe(true)
    release()
    await expect.poll(status).toBe('queued')
    await post(from('/good'))
    await expect.poll(status).toBe('active')
    expect((await ask(`${at}/file`)).body.equals(good)).toBe(true)
  })

  it('is refused when the data is not safe', async () => {
    const hostile = Buffer.alloc(200_000)
    hostile.write('KDMV')
    mirror.files.set('/hostile', { data: hostile })
    const id = await createImage(subject.url, { disk_format: 'vmdk' })
    await add(id, from('/hostile'))
    expect((await settled(id)).status).toBe('queued')
  })

  it.each([
    [{}, 'url'],
    [{ url: 5 }, 'url'],
    [{ url: 'file:///etc/passwd' }, 'Invalid location'],
    [{ url: 'http://169.254.169.254/' }, 'does not pass filtering'],
    [{ url: 'http://x', extra: 1 }, 'schema'],
    [{ url: 'http://127.0.0.1/', validation_data: { os_hash_algo: 'md5', os_hash_value: 'ab' } }, 'validation_data'],
  ])('%j is refused', async (body, reason) => {
    const id = await createImage(subject.url)
    const answer = await add(id, body)
    expect([answer.status, answer.body.toString()]).toEqual([400, expect.stringContaining(reason)])
    expect((await showImage(subject.url, id)).status).toBe('queued')
  })

  it('is added, replaced and removed by patches', async () => {
    const id = await createImage(subject.url)
    const type = { 'content-type': 'application/openstack-images-v2.1-json-patch' }
    const patch = (op: string, path: string, value?: unknown) =>
      ask(`${subject.url}/v2/images/${id}`, 'PATCH', JSON.stringify([{ op, path, value }]), type)
    const one = { ...from('/data'), metadata: {} }
    const two = { ...from('/data?2'), metadata: { note: 'second' } }
    mirror.files.set('/data?2', { data, etag: '"2"' })
    expect((await patch('remove', '/locations/0')).status).toBe(409)
    expect((await patch('add', '/locations/-', { url: 'file:///etc/passwd', metadata: {} })).status).toBe(400)
    expect((await patch('add', '/locations/-', { ...from('/nothing'), metadata: {} })).status).toBe(400)
    expect((await patch('add', '/locations', one)).status).toBe(400)
    const added = await patch('add', '/locations/-', one)
    expect(added.status).toBe(200)
    expect(added.json()).toMatchObject({ status: 'active', size: data.length, virtual_size: data.length })
    expect((await patch('add', '/locations/-', one)).status).toBe(400)
    expect((await patch('remove', '/locations/0')).status).toBe(403)
    const both = await patch('add', '/locations/0', two)
    expect(both.json<{ locations: unknown[] }>().locations).toEqual([
      { url: two.url, metadata: { note: 'second', store: 'web' } },
      { url: one.url, metadata: { store: 'web' } },
    ])
    expect((await patch('remove', '/locations/5')).status).toBe(400)
    expect((await patch('remove', '/locations/0')).json()).toMatchObject({ locations: [{ url: one.url }] })
    // Its digests are of what is there.
    expect((await patch('replace', '/locations', [two])).status).toBe(400)
    expect((await patch('replace', '/locations', [])).status).toBe(403)
    expect((await ask(`${subject.url}/v2/images/${id}/file`)).body.equals(data)).toBe(true)
  })

  it('is one of several that an image without data gets at once', async () => {
    const id = await createImage(subject.url)
    const type = { 'content-type': 'application/openstack-images-v2.1-json-patch' }
    const replace = (value: unknown) =>
      ask(
        `${subject.url}/v2/images/${id}`,
        'PATCH',
        JSON.stringify([{ op: 'replace', path: '/locations', value }]),
        type,
      )
    const many = Array.from({ length: 11 }, (_, at) => ({ ...from(`/data?${at}`), metadata: {} }))
    expect((await replace(many)).status).toBe(413)
    const two = [from('/data?1'), from('/data?2')].map((one) => ({ ...one, metadata: {} }))
    expect((await replace(two)).json()).toMatchObject({ status: 'active', locations: two.map(({ url }) => ({ url })) })
  })

  it('is not shown where the settings do not say so', async () => {
    const plain = await start()
    const id = await createImage(plain.url)
    await upload(plain.url, id, data)
    const image = await showImage(plain.url, id)
    expect(image).not.toHaveProperty('locations')
    expect(image).not.toHaveProperty('direct_url')
  })
})
