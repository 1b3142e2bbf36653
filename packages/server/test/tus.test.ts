/** Uploads that go on where they were cut: the tus protocol, crashes, several processes, and the checks that every upload passes. */
import { createHash, randomBytes } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWith } from '../../engine/test/support/process.ts'
import { qemuImg } from '../../engine/test/support/qemu.ts'
import { abandonExpired, abandon as abandonUpload } from '../src/api/data/tus-parts.ts'
import { StoreError } from '../src/store/store.ts'
import { servedProcesses } from './support/served.ts'
import { type Answer, ask, createImage, type Subject, services, showImage, upload } from './support/service.ts'

const start = services()
const serve = servedProcesses()
const folder = temporaryFolder()
const MiB = 1024 * 1024
const version = { 'tus-resumable': '1.0.0' }
const part = { ...version, 'content-type': 'application/offset+octet-stream' }

const address = (url: string, id: string) => `${url}/v2/images/${id}/tus`

function begin(url: string, id: string, length: number | string): Promise<Answer> {
  return ask(address(url, id), 'POST', '', { ...version, 'upload-length': String(length) })
}

function send(url: string, id: string, offset: number, body: Uint8Array | AsyncIterable<Uint8Array>): Promise<Answer> {
  return ask(address(url, id), 'PATCH', body, { ...part, 'upload-offset': String(offset) })
}

async function offsetOf(url: string, id: string): Promise<number> {
  return Number((await ask(address(url, id), 'HEAD', undefined, version)).headers['upload-offset'])
}

async function* slowly(bytes: Uint8Array, pause: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 65_536) {
    yield bytes.subarray(at, at + 65_536)
    await sleep(pause)
  }
}

/** Sends half a body, and goes away. */
async function cutOff(url: string, id: string, offset: number, bytes: Uint8Array, length: number): Promise<void> {
  async function* body() {
    yield bytes
    await sleep(100)
    throw new Error('gone')
  }
  const headers = { ...part, 'upload-offset': String(offset), 'content-length': String(length) }
  await ask(address(url, id), 'PATCH', body(), headers, { signal: AbortSignal.timeout(400) }).catch(() => {})
}

const stored = (subject: Pick<Subject, 'data'>) =>
  ['images', 'uploads'].flatMap((name) => readdirSync(join(subject.data, 'store', name)))
const sha512 = (bytes: Uint8Array) => createHash('sha512').update(bytes).digest('hex')

describe('an upload in parts', () => {
  it('is begun, asked after, and ends with an image like any other', async () => {
    const subject = await start()
    const { url } = subject
    const options = await ask(address(url, await createImage(url)), 'OPTIONS')
    expect(options.status).toBe(204)
    expect(options.headers).toMatchObject({
      'tus-version': '1.0.0',
      'tus-extension': 'creation,expiration,termination',
    })
    const data = randomBytes(5 * MiB + 3)
    const id = await createImage(url)
    const begun = await begin(url, id, data.length)
    expect(begun.status).toBe(201)
    expect(begun.headers).toMatchObject({ location: address(url, id), 'tus-resumable': '1.0.0', 'upload-offset': '0' })
    expect(Date.parse(String(begun.headers['upload-expires']))).toBeGreaterThan(Date.now() + 47 * 3600_000)
    expect((await showImage(url, id)).status).toBe('uploading')
    for (const [from, to] of [
      [0, MiB],
      [MiB, 3 * MiB + 1],
    ] as const) {
      const answer = await send(url, id, from, data.subarray(from, to))
      expect([answer.status, answer.headers['upload-offset']]).toEqual([204, String(to)])
    }
    const head = await ask(address(url, id), 'HEAD', undefined, version)
    expect(head.headers).toMatchObject({
      'upload-offset': String(3 * MiB + 1),
      'upload-length': String(data.length),
      'cache-control': 'no-store',
    })
    expect((await send(url, id, 3 * MiB + 1, data.subarray(3 * MiB + 1))).status).toBe(204)
    const image = await showImage(url, id)
    expect(image).toMatchObject({ status: 'active', size: data.length, os_hash_value: sha512(data) })
    expect((await ask(`${url}/v2/images/${id}/file`)).body.equals(data)).toBe(true)
    // Who did not hear of its end still can.
    expect(await offsetOf(url, id)).toBe(data.length)
    expect((await ask(`${url}/v2/images/${id}`, 'DELETE')).status).toBe(204)
    expect(stored(subject)).toEqual([])
  })

  it('may end with a part of a length that nobody said', async () => {
    const { url } = await start()
    const data = randomBytes(2 * MiB)
    const id = await createImage(url)
    await begin(url, id, data.length)
    expect((await send(url, id, 0, slowly(data, 0))).status).toBe(204)
    expect(await showImage(url, id)).toMatchObject({ status: 'active', os_hash_value: sha512(data) })
  })

  it('goes on after its connection broke', async () => {
    const { url } = await start()
    const data = randomBytes(4 * MiB)
    const id = await createImage(url)
    await begin(url, id, data.length)
    await cutOff(url, id, 0, data.subarray(0, 3 * MiB), data.length)
    await expect.poll(() => offsetOf(url, id)).toBeGreaterThan(MiB)
    const offset = await offsetOf(url, id)
    expect(offset).toBeLessThanOrEqual(3 * MiB)
    expect((await send(url, id, offset, data.subarray(offset))).status).toBe(204)
    expect(await showImage(url, id)).toMatchObject({ status: 'active', os_hash_value: sha512(data) })
  })

  it('goes on while its old connection hangs, and waits for another process', async () => {
    const one = await start()
    const other = await start({ data: one.data })
    const data = randomBytes(3 * MiB)
    const id = await createImage(one.url)
    await begin(one.url, id, data.length)
    await send(one.url, id, 0, data.subarray(0, MiB))
    const hanging = send(one.url, id, MiB, slowly(data.subarray(MiB), 100)).catch(() => 'cut')
    await sleep(400)
    expect((await send(other.url, id, MiB, data.subarray(MiB))).status).toBe(423)
    const refused = await send(one.url, id, 0, data)
    expect(refused.status).toBe(409)
    expect(await hanging).toBe('cut')
    const offset = await offsetOf(other.url, id)
    expect((await send(other.url, id, offset, data.subarray(offset))).status).toBe(204)
    expect(await showImage(one.url, id)).toMatchObject({ status: 'active', os_hash_value: sha512(data) })
  })

  it('goes on after the service was killed', { timeout: 60_000 }, async () => {
    const data = folder.fresh()
    mkdirSync(data, { recursive: true })
    const first = await serve(data)
    const bytes = randomBytes(6 * MiB)
    const id = await createImage(first.url)
    await begin(first.url, id, bytes.length)
    expect((await send(first.url, id, 0, bytes.subarray(0, 2 * MiB))).status).toBe(204)
    const running = send(first.url, id, 2 * MiB, slowly(bytes.subarray(2 * MiB), 30)).catch(() => 'cut')
    await sleep(300)
    await first.kill()
    expect(await running).toBe('cut')
    const second = await serve(data)
    expect((await showImage(second.url, id)).status).toBe('uploading')
    expect(await offsetOf(second.url, id)).toBe(2 * MiB)
    expect((await send(second.url, id, 2 * MiB, bytes.subarray(2 * MiB))).status).toBe(204)
    expect(await showImage(second.url, id)).toMatchObject({ status: 'active', os_hash_value: sha512(bytes) })
    await second.end()
  })
})

describe('an upload whose last step fails', () => {
  it('is not said to be whole, and goes on', async () => {
    let fails = false
    const subject = await start({}, (service) => {
      const { data } = service.stores.default
      const resume = data.resume?.bind(data)
      data.resume = async (...given) => {
        const upload = await resume?.(...given)
        if (upload === undefined) throw new Error('it cannot')
        const read = upload.read.bind(upload)
        return Object.assign(upload, { read: () => (fails ? Promise.reject(new Error('EIO: read')) : read()) })
      }
      return service
    })
    const { url } = subject
    for (const isSaid of [true, false]) {
      const data = randomBytes(MiB)
      const id = await createImage(url)
      await begin(url, id, data.length)
      fails = true
      expect((await send(url, id, 0, isSaid ? data : slowly(data, 0))).status).toBe(500)
      fails = false
      const offset = await offsetOf(url, id)
      expect(offset).toBeLessThan(data.length)
      expect((await send(url, id, offset, data.subarray(offset))).status).toBe(204)
      expect(await showImage(url, id)).toMatchObject({ status: 'active', os_hash_value: sha512(data) })
    }
  })
})

it('an upload of no bytes is whole once it is begun', async () => {
  const { url } = await start()
  const id = await createImage(url)
  const { status, headers } = await begin(url, id, 0)
  expect([status, headers['upload-offset']]).toEqual([201, '0'])
  expect(await showImage(url, id)).toMatchObject({ status: 'active', size: 0, os_hash_value: sha512(Buffer.alloc(0)) })
  expect(await offsetOf(url, id)).toBe(0)
})

it('a store without room says so before anything is sent', async () => {
  const subject = await start({}, (service) => {
    service.stores.default.data.begin = () => Promise.reject(new StoreError('full', 'no room'))
    return service
  })
  const id = await createImage(subject.url)
  expect((await begin(subject.url, id, 10)).status).toBe(413)
  expect((await showImage(subject.url, id)).status).toBe('queued')
})

describe('what is refused', () => {
  it.each<[string, Record<string, string>, number]>([
    ['no version', { 'content-type': part['content-type'], 'upload-offset': '0' }, 412],
    ['another version', { ...part, 'tus-resumable': '0.2.2', 'upload-offset': '0' }, 412],
    ['another type', { ...part, 'content-type': 'application/octet-stream', 'upload-offset': '0' }, 415],
    ['no offset', part, 400],
    ['an offset that is none', { ...part, 'upload-offset': '-1' }, 400],
    ['an offset ahead', { ...part, 'upload-offset': '5' }, 409],
  ])('%s', async (_what, headers, status) => {
    const { url } = await start()
    const id = await createImage(url)
    await begin(url, id, 10)
    expect((await ask(address(url, id), 'PATCH', Buffer.from('12345'), headers)).status).toBe(status)
    expect(await offsetOf(url, id)).toBe(0)
    expect((await send(url, id, 0, Buffer.from('1234567890'))).status).toBe(204)
  })

  it('more than was said, with and without a length', async () => {
    const { url } = await start()
    const id = await createImage(url)
    await begin(url, id, 100_000)
    expect((await send(url, id, 0, Buffer.alloc(100_001))).status).toBe(413)
    expect((await send(url, id, 0, slowly(Buffer.alloc(300_000), 0))).status).toBe(413)
    const offset = await offsetOf(url, id)
    expect(offset).toBeLessThanOrEqual(100_000)
    expect((await send(url, id, offset, Buffer.alloc(100_000 - offset))).status).toBe(204)
    expect((await showImage(url, id)).status).toBe('active')
  })

  it('lengths, images and rooms that there are not', async () => {
    const { url } = await start({ imageSizeCap: 1000, storageQuota: 500 })
    const id = await createImage(url)
    for (const [length, status] of [
      ['x', 400],
      [1001, 413],
      [501, 413],
    ] as const) {
      expect((await begin(url, id, length)).status, String(length)).toBe(status)
      expect((await showImage(url, id)).status).toBe('queued')
    }
    expect((await begin(url, '00000000-0000-4000-8000-000000000000', 1)).status).toBe(404)
    expect((await ask(address(url, id), 'HEAD', undefined, version)).status).toBe(404)
    expect((await begin(url, await createImage(url, { disk_format: null }), 1)).status).toBe(400)
    expect((await begin(url, id, 400)).status).toBe(201)
    expect((await begin(url, id, 400)).status).toBe(409)
    expect((await upload(url, id, Buffer.from('x'))).status).toBe(409)
    // What is promised to it is nobody else's.
    expect((await upload(url, await createImage(url), Buffer.alloc(200))).status).toBe(413)
  })
})

describe('an upload that ends otherwise', () => {
  it('is taken back by its owner', async () => {
    const subject = await start()
    const { url } = subject
    const id = await createImage(url)
    await begin(url, id, 1000)
    await send(url, id, 0, Buffer.alloc(500))
    expect((await ask(address(url, id), 'DELETE', undefined, version)).status).toBe(204)
    expect((await showImage(url, id)).status).toBe('queued')
    expect(stored(subject)).toEqual([])
    expect((await ask(address(url, id), 'HEAD', undefined, version)).status).toBe(404)
    expect((await upload(url, id, Buffer.from('at once'))).status).toBe(204)
  })

  it('goes with its image, and with time', async () => {
    const subject = await start()
    const { url, service } = subject
    const [deleted, old, running] = [await createImage(url), await createImage(url), await createImage(url)]
    for (const id of [deleted, old, running]) {
      await begin(url, id, 1000)
      await send(url, id, 0, Buffer.alloc(500))
    }
    await ask(`${url}/v2/images/${deleted}`, 'DELETE')
    expect(stored(subject)).toHaveLength(2)
    const { resumables } = service.catalog
    expect(await abandonExpired(service)).toBe(0)
    await resumables.hold(old, service.worker.id)
    await resumables.report(old, service.worker.id, 500, 1, true)
    expect(await abandonExpired(service)).toBe(1)
    expect([(await showImage(url, old)).status, (await showImage(url, running)).status]).toEqual([
      'queued',
      'uploading',
    ])
    expect(stored(subject)).toHaveLength(1)
  })
})

describe('a process that ends at the worst moment', () => {
  const data = randomBytes(MiB)
  /** All that is left to do for a client is the last part. */
  async function almost(subject: Subject): Promise<string> {
    const id = await createImage(subject.url)
    await begin(subject.url, id, data.length)
    await send(subject.url, id, 0, data.subarray(0, 1000))
    return id
  }

  it('after the data got its name, and before the image counts on it: the upload goes on', async () => {
    const subject = await start()
    const id = await almost(subject)
    const [name = ''] = readdirSync(join(subject.data, 'store', 'uploads'))
    renameSync(join(subject.data, 'store', 'uploads', name), join(subject.data, 'store', 'images', name))
    expect((await send(subject.url, id, 1000, data.subarray(1000))).status).toBe(204)
    expect((await ask(`${subject.url}/v2/images/${id}/file`)).body.equals(data)).toBe(true)
    expect(stored(subject)).toHaveLength(1)
  })

  it('never leaves an upload that stands for unfinished beside an image that has its data', async () => {
    const subject = await start()
    const id = await almost(subject)
    const { catalog } = subject.service
    const before = await catalog.resumables.get(id)
    expect(before).toMatchObject({ received: 1000, length: data.length })
    await send(subject.url, id, 1000, data.subarray(1000))
    expect(await catalog.resumables.get(id)).toMatchObject({ received: data.length, workerId: null })
    // What another process had read before has no effect on the data.
    if (before !== undefined) await abandonUpload(subject.service, before)
    expect((await send(subject.url, id, 1000, randomBytes(data.length - 1000))).status).toBe(409)
    expect((await ask(`${subject.url}/v2/images/${id}/file`)).body.equals(data)).toBe(true)
  })

  it('after the image was deleted: nobody claims the data any more', async () => {
    const subject = await start()
    const id = await almost(subject)
    const { catalog } = subject.service
    const upload = await catalog.resumables.get(id)
    await catalog.remove(id, () => {})
    expect(await catalog.resumables.get(id)).toBeUndefined()
    expect(await catalog.work.knownData(upload?.store ?? '', [upload?.key ?? ''])).toEqual(new Set())
  })
})

describeWith(['qemu-img'], 'dangerous data', () => {
  it('is refused when the last part comes, and leaves nothing', async () => {
    const path = folder.file('overlay.qcow2')
    await qemuImg('create', '-q', '-f', 'qcow2', '-u', '-b', '/etc/passwd', '-F', 'raw', path, '1M')
    const bytes = readFileSync(path)
    const subject = await start()
    const id = await createImage(subject.url, { disk_format: 'qcow2' })
    await begin(subject.url, id, bytes.length)
    expect((await send(subject.url, id, 0, bytes.subarray(0, 1000))).status).toBe(204)
    const refused = await send(subject.url, id, 1000, bytes.subarray(1000))
    expect([refused.status, refused.body.toString()]).toEqual([400, expect.stringContaining('backing file')])
    expect((await showImage(subject.url, id)).status).toBe('queued')
    expect(stored(subject)).toEqual([])
  })
})
