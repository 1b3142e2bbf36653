/** Imports: data that is staged, fetched from the web, or copied from store to store, by tasks. */
import { createHash, randomBytes } from 'node:crypto'
import { readdirSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { gzipSync } from 'node:zlib'
import { beforeAll, describe, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { type Mirror, startMirror } from './support/mirror.ts'
import {
  ask,
  binary,
  createImage,
  type ImageDocument,
  type Subject,
  services,
  showImage,
  upload,
} from './support/service.ts'

const folder = temporaryFolder()
const start = services()
const web = { importAllowedHosts: '127.0.0.1', importPorts: '*', importRetries: 2 }
const MiB = 1024 * 1024
let subject: Subject
let mirror: Mirror

interface TaskDocument {
  id: string
  type: string
  status: string
  message: string
  result: unknown
  request_id: string
  [name: string]: unknown
}

beforeAll(async () => {
  mirror = await startMirror()
  subject = await start({ ...web, importMethods: 'glance-direct,web-download,copy-image,glance-download' })
})

const stage = (id: string, body: Uint8Array, url = subject.url) =>
  ask(`${url}/v2/images/${id}/stage`, 'PUT', body, binary)
const importInto = (id: string, body: object, url = subject.url) =>
  ask(`${url}/v2/images/${id}/import`, 'POST', JSON.stringify(body), { 'content-type': 'application/json' })
const direct = { method: { name: 'glance-direct' } }
const fromWeb = (path: string, more = {}) => ({
  method: { name: 'web-download', uri: `${mirror.url}${path}`, ...more },
})
const tasksOf = async (id: string, url = subject.url) =>
  (await ask(`${url}/v2/images/${id}/tasks`)).json<{ tasks: TaskDocument[] }>().tasks
const dataOf = async (id: string, url = subject.url) => (await ask(`${url}/v2/images/${id}/file`)).body
const stagedFiles = ({ data }: Subject) =>
  ['images', 'uploads'].flatMap((name) => readdirSync(join(data, 'staging', name)))

/** Waits until nothing is done to the image any more. */
async function settled(id: string, url = subject.url): Promise<ImageDocument> {
  for (const end = Date.now() + 20_000; Date.now() < end; await sleep(10)) {
    const image = await showImage(url, id)
    const tasks = await tasksOf(id, url)
    const isOver = tasks.every(({ status }) => status === 'success' || status === 'failure')
    if (isOver && image.os_glance_import_task === undefined) return image
  }
  throw new Error('the import did not come to its end within 20 seconds')
}

/** Imports, and expects it to fail with this reason. */
async function fails(id: string, body: object, reason: string, url = subject.url): Promise<ImageDocument> {
  const { status, headers } = await importInto(id, body, url)
  expect(status).toBe(202)
  const image = await settled(id, url)
  const task = (await tasksOf(id, url)).find(({ request_id }) => request_id === headers['x-openstack-request-id'])
  expect(task).toMatchObject({ status: 'failure', message: expect.stringContaining(reason) })
  return image
}

/** A qcow2 whose header names a backing file. */
function hostile(): Buffer {
  const image = Buffer.alloc(65_536 * 4)
  image.write('QFI\xfb', 'latin1')
  image.writeUInt32BE(3, 4)
  image.writeBigUInt64BE(512n, 8)
  image.writeUInt32BE(11, 16)
  image.writeUInt32BE(16, 20)
  image.writeBigUInt64BE(BigInt(MiB), 24)
  image.writeUInt32BE(104, 100)
  image.write('/etc/passwd', 512)
  return image
}

describe('staged data', () => {
  it('becomes the image when it is imported', async () => {
    const data = randomBytes(3 * MiB)
    const id = await createImage(subject.url)
    expect((await stage(id, data)).status).toBe(204)
    expect(await showImage(subject.url, id)).toMatchObject({ status: 'uploading', size: data.length, checksum: null })
    expect((await ask(`${subject.url}/v2/images/${id}/file`)).status).toBe(204)
    expect((await stage(id, data)).status).toBe(409)
    expect((await upload(subject.url, id, data)).status).toBe(409)
    const answer = await importInto(id, direct)
    expect([answer.status, answer.body.length]).toEqual([202, 0])
    const image = await settled(id)
    const digest = (name: string) => createHash(name).update(data).digest('hex')
    expect(image).toMatchObject({
      status: 'active',
      size: data.length,
      checksum: digest('md5'),
      os_hash_value: digest('sha512'),
    })
    expect((await dataOf(id)).equals(data)).toBe(true)
    expect(stagedFiles(subject)).toEqual([])
    const [task, second] = await tasksOf(id)
    expect(second).toBeUndefined()
    expect(task).toMatchObject({ type: 'api_image_import', status: 'success', image_id: id, result: { image_id: id } })
    expect(task?.request_id).toBe(answer.headers['x-openstack-request-id'])
  })

  it('goes when the image is deleted', async () => {
    const id = await createImage(subject.url)
    await stage(id, Buffer.from('data'))
    expect(stagedFiles(subject)).toHaveLength(1)
    expect((await ask(`${subject.url}/v2/images/${id}`, 'DELETE')).status).toBe(204)
    expect(stagedFiles(subject)).toEqual([])
  })

  it('is refused with the reason when nobody may upload it', async () => {
    const id = await createImage(subject.url, { disk_format: 'qcow2' })
    await stage(id, hostile())
    const image = await fails(id, direct, 'backing file')
    expect(image).toMatchObject({ status: 'queued', size: null, checksum: null })
    expect(stagedFiles(subject)).toEqual([])
    expect((await stage(id, Buffer.from('again'))).status).toBe(204)
  })

  it('is not taken where that way is not offered', async () => {
    const other = await start({ importMethods: 'web-download' })
    const id = await createImage(other.url)
    expect((await stage(id, Buffer.from('x'), other.url)).status).toBe(404)
    expect((await ask(`${other.url}/v2/info/import`)).json()).toMatchObject({
      'import-methods': { value: ['web-download'] },
    })
    expect((await importInto(id, direct, other.url)).status).toBe(400)
  })

  it('is imported by another process than the one that took it', async () => {
    const second = await start({ data: subject.data })
    const data = randomBytes(MiB)
    const id = await createImage(subject.url)
    await stage(id, data)
    expect((await importInto(id, direct, second.url)).status).toBe(202)
    expect((await settled(id, second.url)).status).toBe('active')
    expect((await dataOf(id)).equals(data)).toBe(true)
    await second.close()
  })
})

describe('a download', () => {
  const data = randomBytes(2 * MiB)
  beforeAll(() => {
    mirror.files.set('/image', { data, etag: '"x"' })
    mirror.files.set('/truncated', { data, etag: '"x"', cutAfter: 700_000 })
    mirror.files.set('/slow', { data: randomBytes(50 * MiB), milliseconds: 20 })
    mirror.files.set('/hostile', { data: hostile() })
  })

  it('becomes the image, also when the server breaks off again and again', async () => {
    for (const path of ['/image', '/truncated']) {
      const id = await createImage(subject.url)
      expect((await importInto(id, fromWeb(path))).status).toBe(202)
      expect((await settled(id)).status).toBe('active')
      expect((await dataOf(id)).equals(data)).toBe(true)
    }
  })

  it('is checked against the digest that is expected', async () => {
    const digest = createHash('sha256').update(data).digest('hex')
    const good = await createImage(subject.url)
    await importInto(good, fromWeb('/image', { os_hash_algo: 'sha256', os_hash_value: digest }))
    expect((await settled(good)).status).toBe('active')
    const bad = await createImage(subject.url)
    const wrong = fromWeb('/image', { os_hash_algo: 'sha256', os_hash_value: digest.replace(/^../, '00') })
    expect((await fails(bad, wrong, 'was expected')).status).toBe('queued')
    expect((await importInto(bad, fromWeb('/image', { os_hash_algo: 'crc32', os_hash_value: 'ab' }))).status).toBe(400)
  })

  it('fails with the reason', async () => {
    const id = await createImage(subject.url, { disk_format: 'qcow2' })
    for (const [path, reason] of [
      ['/nothing', 'the server answered 404'],
      ['/hostile', 'backing file'],
      ['/image', 'the image data is raw, but disk_format says qcow2'],
    ] as const) {
      expect(await fails(id, fromWeb(path), reason)).toMatchObject({ status: 'queued', size: null })
    }
    const small = await start({ ...web, imageSizeCap: MiB })
    expect((await fails(await createImage(small.url), fromWeb('/image'), 'too large', small.url)).status).toBe('queued')
    const short = await start({ ...web, importSeconds: 1 })
    expect((await fails(await createImage(short.url), fromWeb('/slow'), 'longer than', short.url)).status).toBe(
      'queued',
    )
    expect(readdirSync(join(short.data, 'store', 'uploads'))).toEqual([])
  })

  it('is not made from where the service alone can reach', async () => {
    const strict = await start()
    const id = await createImage(strict.url)
    for (const uri of [mirror.url, 'http://localhost/', 'http://2130706433/', 'file:///etc/passwd', 'http://[::1]/']) {
      const answer = await importInto(id, { method: { name: 'web-download', uri } }, strict.url)
      expect([uri, answer.status, answer.body.toString()]).toEqual([
        uri,
        400,
        expect.stringContaining('does not pass filtering'),
      ])
    }
    expect((await importInto(id, { method: { name: 'web-download' } }, strict.url)).status).toBe(400)
    expect(await tasksOf(id, strict.url)).toEqual([])
    mirror.files.set('/inside', {
      data: Buffer.alloc(0),
      answer: (_request, response) => void response.writeHead(302, { location: 'http://169.254.169.254/' }).end(),
    })
    await fails(await createImage(subject.url), fromWeb('/inside'), 'not on the list')
  })

  it('ends when the image is deleted, and is the only one meanwhile', async () => {
    const id = await createImage(subject.url)
    await importInto(id, fromWeb('/slow'))
    const during = await showImage(subject.url, id)
    expect(during.os_glance_import_task).toBe((await tasksOf(id))[0]?.id)
    expect((await importInto(id, fromWeb('/image'))).status).toBe(409)
    expect((await upload(subject.url, id, Buffer.from('x'))).status).toBe(409)
    const taskId = String(during.os_glance_import_task)
    for (let at = 0; (await showImage(subject.url, id)).status !== 'importing' && at < 500; at++) await sleep(10)
    await ask(`${subject.url}/v2/images/${id}`, 'DELETE')
    const end = await ask(`${subject.url}/v2/tasks/${taskId}`)
    expect(end.json()).toMatchObject({
      status: 'failure',
      message: 'the image was deleted',
      expires_at: expect.any(String),
    })
    for (let at = 0; readdirSync(join(subject.data, 'store', 'uploads')).length > 0 && at < 500; at++) await sleep(10)
    expect(readdirSync(join(subject.data, 'store', 'uploads'))).toEqual([])
  })

  it('has the image from the moment that it was asked for: no upload comes between', async () => {
    const still = await start(web)
    // Nobody takes the task, so that the moment between 202 and `importing` lasts.
    await still.service.tasks.stop()
    const id = await createImage(still.url)
    expect((await importInto(id, fromWeb('/image'), still.url)).status).toBe(202)
    const before = await showImage(still.url, id)
    expect(before.status).toBe('queued')
    const tus = { 'tus-resumable': '1.0.0', 'upload-length': '5' }
    for (const answer of [
      await upload(still.url, id, Buffer.from('other')),
      await stage(id, Buffer.from('other'), still.url),
      await ask(`${still.url}/v2/images/${id}/tus`, 'POST', undefined, tus),
    ]) {
      expect([answer.status, answer.body.toString()]).toEqual([409, expect.stringContaining('active task')])
    }
    expect(await showImage(still.url, id)).toEqual(before)
    await still.close()
    const next = await start({ ...web, data: still.data })
    expect((await settled(id, next.url)).status).toBe('active')
    expect((await dataOf(id, next.url)).equals(data)).toBe(true)
  })

  it('that is over leaves the image to uploads, also when its lock was left', async () => {
    const { service, url } = await start(web)
    const id = await createImage(url)
    const properties = new Map([['os_glance_import_task', '00000000-0000-4000-8000-000000000000']])
    await service.catalog.update(id, (image) => ({ ...image, properties }))
    // As long as its task may still be on its way into the catalog, it counts.
    expect((await upload(url, id, Buffer.from('data'))).status).toBe(409)
    const task = { id: '00000000-0000-4000-8000-000000000000', type: 'import' as const }
    const none = { owner: null, imageId: id, userId: null, requestId: null, input: {} }
    await service.tasks.stop()
    await service.catalog.work.tasks.create({ ...task, ...none })
    await service.catalog.work.tasks.finish(task.id, null, { status: 'failure', message: '' }, 2 ** 40)
    expect((await upload(url, id, Buffer.from('data'))).status).toBe(204)
    expect(await showImage(url, id)).not.toHaveProperty('os_glance_import_task')
  })

  it('goes on in the next process when the service stops', async () => {
    const first = await start(web)
    mirror.files.set('/later', { data, milliseconds: 100 })
    const id = await createImage(first.url)
    await importInto(id, fromWeb('/later'), first.url)
    for (let at = 0; (await showImage(first.url, id)).status !== 'importing' && at < 500; at++) await sleep(10)
    await first.close()
    mirror.files.set('/later', { data })
    const next = await start({ ...web, data: first.data })
    expect((await settled(id, next.url)).status).toBe('active')
    expect((await dataOf(id, next.url)).equals(data)).toBe(true)
    expect(await tasksOf(id, next.url)).toHaveLength(1)
  })

  it('waits for its turn', async () => {
    const narrow = await start({ ...web, taskLimit: 1 })
    mirror.files.set('/bit', { data: randomBytes(200_000), milliseconds: 50 })
    const ids = await Promise.all([1, 2, 3].map(() => createImage(narrow.url)))
    await Promise.all(ids.map((id) => importInto(id, fromWeb('/bit'), narrow.url)))
    await sleep(100)
    const running = (await Promise.all(ids.map((id) => tasksOf(id, narrow.url)))).flat()
    expect(running.filter(({ status }) => status === 'processing')).toHaveLength(1)
    for (const id of ids) expect((await settled(id, narrow.url)).status).toBe('active')
  })
})

describe('several stores', () => {
  let many: Subject
  beforeAll(async () => {
    const [one, two, three] = [folder.fresh(), folder.fresh(), folder.fresh()]
    many = await start({
      ...web,
      stores: `one=folder:${one}; two=folder:${two}; three=folder:${three}; old=folder:${folder.fresh()}, read-only`,
    })
    mirror.files.set('/many', { data: randomBytes(300_000), etag: '"m"' })
  })

  it('get the data, all or those that are named', async () => {
    const all = await createImage(many.url)
    await importInto(all, { ...fromWeb('/many'), all_stores: true }, many.url)
    expect(await settled(all, many.url)).toMatchObject({
      status: 'active',
      stores: 'one,two,three',
      os_glance_importing_to_stores: '',
    })
    const some = await createImage(many.url)
    await stage(some, randomBytes(1000), many.url)
    await importInto(some, { ...direct, stores: ['three', 'one'] }, many.url)
    expect((await settled(some, many.url)).stores).toBe('three,one')
    expect(mirror.requests.filter((line) => line === 'GET /many')).toHaveLength(1)
  })

  it('get it all or not at all, unless some may fail', async () => {
    const id = await createImage(many.url)
    const image = await fails(id, { ...fromWeb('/many'), stores: ['one', 'old'] }, 'takes no data', many.url)
    expect(image).toMatchObject({
      status: 'queued',
      os_glance_failed_import: 'old',
      os_glance_importing_to_stores: '',
      size: null,
    })
    expect(image).not.toHaveProperty('stores')
    await importInto(
      id,
      { ...fromWeb('/many'), stores: ['one', 'old', 'two'], all_stores_must_succeed: false },
      many.url,
    )
    expect(await settled(id, many.url)).toMatchObject({
      status: 'active',
      stores: 'one,two',
      os_glance_failed_import: 'old',
    })
  })

  it('get copies of images that are there', async () => {
    const data = randomBytes(500_000)
    const id = await createImage(many.url)
    const copy = (more: object) => importInto(id, { method: { name: 'copy-image' }, ...more }, many.url)
    expect((await copy({ stores: ['two'] })).status).toBe(409)
    await upload(many.url, id, data)
    expect((await copy({ stores: ['one'] })).status).toBe(400)
    expect((await copy({ stores: ['nine'] })).status).toBe(409)
    expect((await copy({ stores: ['two'], all_stores: true })).status).toBe(400)
    expect((await copy({ stores: ['two'] })).status).toBe(202)
    expect(await settled(id, many.url)).toMatchObject({ status: 'active', stores: 'one,two' })
    await copy({ all_stores: true })
    expect((await settled(id, many.url)).stores).toBe('one,two,three')
    expect((await ask(`${many.url}/v2/stores/one/${id}`, 'DELETE')).status).toBe(204)
    expect((await dataOf(id, many.url)).equals(data)).toBe(true)
    await fails(id, { method: { name: 'copy-image' }, stores: ['old'] }, 'takes no data', many.url)
    expect(await showImage(many.url, id)).toMatchObject({ status: 'active', stores: 'two,three' })
  })
})

describe('plugins', () => {
  const raw = Buffer.alloc(4 * MiB)
  raw.write('a disk', 2 * MiB)

  it('unpack, convert and give properties', async () => {
    const rich = await start({
      ...web,
      importDecompress: true,
      importConvert: 'qcow2',
      importInject: 'origin=elsewhere, os_glance_x=no',
      importInjectIgnoreRoles: '',
    })
    mirror.files.set('/raw.gz', { data: gzipSync(raw) })
    const id = await createImage(rich.url, { container_format: 'compressed' })
    await importInto(id, fromWeb('/raw.gz'), rich.url)
    const image = await settled(id, rich.url)
    expect(image).toMatchObject({
      ...{
        status: 'active',
        disk_format: 'qcow2',
        container_format: 'bare',
        virtual_size: raw.length,
        origin: 'elsewhere',
      },
    })
    const back = await ask(`${rich.url}/v2/images/${id}/export?format=raw`)
    expect(back.body.equals(raw)).toBe(true)
    expect(image).not.toHaveProperty('os_glance_x')
    expect(stagedFiles(rich)).toEqual([])
  })

  it('convert staged data, and nothing that is not safe', async () => {
    const to = await start({ importConvert: 'raw' })
    const id = await createImage(to.url, { disk_format: 'qcow2' })
    await stage(id, hostile(), to.url)
    await fails(id, direct, 'backing file', to.url)
    await stage(id, Buffer.from('no disk at all'), to.url)
    expect((await fails(id, direct, 'disk_format says qcow2', to.url)).disk_format).toBe('qcow2')
  })

  it('give nothing to those whose roles the operator names', async () => {
    const plain = await start({ ...web, importInject: 'origin=elsewhere' })
    const id = await createImage(plain.url)
    await stage(id, Buffer.from('x'), plain.url)
    await importInto(id, direct, plain.url)
    expect(await settled(id, plain.url)).not.toHaveProperty('origin')
  })
})

describe('another image service', () => {
  it('gives its image, with what is known of it', async () => {
    const source = await start()
    const data = randomBytes(100_000)
    const remote = await createImage(source.url, { hw_disk_bus: 'virtio', os_distro: 'debian', secret: 'no' })
    const target = await start({ importMethods: 'glance-download', importRegions: `two=${source.url}/` })
    const id = await createImage(target.url)
    const request = { method: { name: 'glance-download', glance_region: 'two', glance_image_id: remote } }
    await fails(id, request, 'should be active instead of queued', target.url)
    await upload(source.url, remote, data)
    await importInto(id, request, target.url)
    const image = await settled(id, target.url)
    expect(image).toMatchObject({ status: 'active', hw_disk_bus: 'virtio', os_distro: 'debian', size: data.length })
    expect(image).not.toHaveProperty('secret')
    expect((await dataOf(id, target.url)).equals(data)).toBe(true)
    const bare = await createImage(target.url)
    const with_ = (more: object) => importInto(bare, { method: { ...request.method, ...more } }, target.url)
    expect((await with_({ glance_image_id: 'x' })).status).toBe(400)
    await fails(bare, { method: { ...request.method, glance_region: 'nine' } }, 'no image service is known', target.url)
  })
})

describe('the quota', () => {
  const quota = 10_000
  it('counts imported data once, in every process, and what is given back', async () => {
    const first = await start({ storageQuota: quota })
    const second = await start({ data: first.data, storageQuota: quota })
    const [one, two, three] = await Promise.all([1, 2, 3].map(() => createImage(first.url)))
    expect((await stage(one ?? '', randomBytes(6000), first.url)).status).toBe(204)
    await importInto(one ?? '', direct, second.url)
    expect((await settled(one ?? '', first.url)).status).toBe('active')
    expect((await upload(second.url, two ?? '', randomBytes(4000))).status).toBe(204)
    expect((await upload(first.url, three ?? '', randomBytes(1))).status).toBe(413)
    await ask(`${first.url}/v2/images/${one}`, 'DELETE')
    expect((await upload(second.url, three ?? '', randomBytes(6000))).status).toBe(204)
    await second.close()
  })

  it('stops a download', async () => {
    const small = await start({ ...web, storageQuota: quota })
    mirror.files.set('/large', { data: randomBytes(10_001) })
    const id = await createImage(small.url)
    expect((await fails(id, fromWeb('/large'), 'may take 10000 bytes', small.url)).status).toBe('queued')
    expect((await upload(small.url, id, randomBytes(10_000))).status).toBe(204)
  })
})
