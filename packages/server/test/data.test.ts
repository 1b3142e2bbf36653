/** Image data over real connections: upload, download, refusals, and what is left when something goes wrong. */
import { createHash, randomBytes } from 'node:crypto'
import { readdirSync, statSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { beforeAll, describe, expect, it } from 'vitest'
import { type ImageStore, StoreError } from '../src/store/store.ts'
import { Stores } from '../src/store/stores.ts'
import { ask, binary, createImage, dataFile, type Subject, services, showImage, upload } from './support/service.ts'

const start = services()
let subject: Subject
beforeAll(async () => {
  subject = await start()
})

const MiB = 1024 * 1024
const digest = (algorithm: string, data: Uint8Array) => createHash(algorithm).update(data).digest('hex')
const download = (id: string, headers: Record<string, string> = {}) =>
  ask(`${subject.url}/v2/images/${id}/file`, 'GET', undefined, headers)

/** Files that a service keeps: of finished images, and of uploads on their way. */
function stored({ data }: Subject): { images: string[]; uploads: string[] } {
  const names = (folder: string) => readdirSync(join(data, 'store', folder)).map((name) => name.replace(/\..*$/, ''))
  return { images: names('images'), uploads: names('uploads') }
}

async function* pieces(data: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < data.length; at += size) yield data.subarray(at, at + size)
}

async function eventually(check: () => Promise<boolean> | boolean): Promise<void> {
  for (const end = Date.now() + 40_000; Date.now() < end; await sleep(25)) if (await check()) return
  throw new Error('it did not come to pass within 40 seconds')
}

describe('upload', () => {
  it.each([0, 1, 1000, 65_536, MiB, MiB + 1, 9 * MiB + 77])('takes %i bytes and gives them back', async (size) => {
    const data = randomBytes(size)
    const id = await createImage(subject.url)
    expect((await upload(subject.url, id, data)).status).toBe(204)
    expect(await showImage(subject.url, id)).toMatchObject({
      status: 'active',
      size,
      virtual_size: size,
      checksum: digest('md5', data),
      os_hash_algo: 'sha512',
      os_hash_value: digest('sha512', data),
    })
    const answer = await download(id)
    expect(answer.status).toBe(200)
    expect(answer.headers).toMatchObject({
      'content-type': 'application/octet-stream',
      'content-length': String(size),
      'content-md5': digest('md5', data),
    })
    expect(answer.body.equals(data)).toBe(true)
  })

  it('takes chunks of any size', async () => {
    const data = randomBytes(3 * MiB + 5)
    for (const size of [777, 65_536, 2 * MiB + 1]) {
      const id = await createImage(subject.url)
      expect((await upload(subject.url, id, pieces(data, size))).status).toBe(204)
      expect((await showImage(subject.url, id)).checksum).toBe(digest('md5', data))
    }
  })

  it('keeps runs of zeros as holes', async () => {
    const data = Buffer.alloc(8 * MiB)
    data.write('middle', 4 * MiB)
    const id = await createImage(subject.url)
    await upload(subject.url, id, data)
    expect((await download(id)).body.equals(data)).toBe(true)
    const { size, blocks } = statSync(dataFile(subject, id))
    expect([size, blocks * 512 <= MiB]).toEqual([8 * MiB, true])
  })

  it('is refused by anything that can be known before', async () => {
    const data = Buffer.from('data')
    const id = await createImage(subject.url)
    const put = (headers: Record<string, string>, target = id) =>
      ask(`${subject.url}/v2/images/${target}/file`, 'PUT', data, headers)
    expect((await put({})).status).toBe(415)
    expect((await put({ 'content-type': 'application/json' })).status).toBe(415)
    expect((await put({ ...binary, 'x-openstack-image-size': '5' })).status).toBe(400)
    expect((await put({ ...binary, 'x-openstack-image-size': 'many' })).status).toBe(400)
    expect((await put(binary, '00000000-0000-0000-0000-000000000000')).status).toBe(404)
    const bare = await createImage(subject.url, { disk_format: null })
    const answer = await put(binary, bare)
    expect([answer.status, answer.body.toString()]).toEqual([
      400,
      expect.stringContaining('Property disk_format must be set prior to saving data.'),
    ])
    const both = await createImage(subject.url, { disk_format: null, container_format: null })
    expect((await put(binary, both)).body.toString()).toContain('Properties disk_format, container_format must be set')
    expect((await showImage(subject.url, id)).status).toBe('queued')
    expect((await put({ ...binary, 'x-openstack-image-size': '4' })).status).toBe(204)
  })

  it('comes once', async () => {
    const id = await createImage(subject.url)
    expect((await upload(subject.url, id, Buffer.from('first'))).status).toBe(204)
    const again = await upload(subject.url, id, Buffer.from('second'))
    expect([again.status, again.body.toString()]).toEqual([
      409,
      expect.stringContaining('Image status transition from active to saving is not allowed'),
    ])
    expect((await download(id)).body.toString()).toBe('first')
  })

  it('is won by one of many at the same time', async () => {
    const id = await createImage(subject.url)
    const data = Array.from({ length: 8 }, () => randomBytes(2 * MiB))
    const answers = await Promise.all(data.map((bytes) => upload(subject.url, id, pieces(bytes, 65_536))))
    expect(answers.map(({ status }) => status).toSorted()).toEqual([204, 409, 409, 409, 409, 409, 409, 409])
    const winner = data[answers.findIndex(({ status }) => status === 204)]
    expect((await download(id)).body.equals(winner ?? Buffer.alloc(0))).toBe(true)
  })

  it('of many images at the same time keeps each apart', async () => {
    const data = Array.from({ length: 12 }, (_, index) => randomBytes(MiB + index))
    const ids = await Promise.all(data.map(() => createImage(subject.url)))
    await Promise.all(ids.map((id, index) => upload(subject.url, id, pieces(data[index] ?? Buffer.alloc(0), 50_000))))
    const bodies = await Promise.all(ids.map((id) => download(id)))
    expect(bodies.map(({ body }) => digest('md5', body))).toEqual(data.map((bytes) => digest('md5', bytes)))
  })

  it('is answered before the body when the client waits for that', async () => {
    const id = await createImage(subject.url)
    await upload(subject.url, id, Buffer.from('first'))
    const head = `PUT /v2/images/${id}/file HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\nContent-Length: 1000000000\r\nExpect: 100-continue\r\n\r\n`
    const socket = connect(Number(new URL(subject.url).port), '127.0.0.1')
    socket.write(head)
    let answer = ''
    for await (const part of socket) answer += String(part)
    expect(answer).toMatch(/^HTTP\/1\.1 409 Conflict\r\n/)
    expect(answer.toLowerCase()).toContain('connection: close')
  })

  it('goes on when the client waits and nothing speaks against it', async () => {
    const id = await createImage(subject.url)
    const data = randomBytes(100_000)
    const answer = await upload(subject.url, id, data, { expect: '100-continue' })
    expect(answer.status).toBe(204)
    const created = await ask(`${subject.url}/v2/images`, 'POST', '{"name":"patient"}', { expect: '100-continue' })
    expect(created.status).toBe(201)
  })
})

describe('a refused upload', () => {
  it('lets a client that sends all before it reads see the answer', async () => {
    const id = await createImage(subject.url, { disk_format: 'qcow2' })
    // 24 MiB of what is no qcow2: refused after the first 128 KiB.
    const answer = await upload(subject.url, id, pieces(randomBytes(24 * MiB), MiB))
    expect([answer.status, answer.body.toString()]).toEqual([
      415,
      expect.stringContaining('the image data is raw, but disk_format says qcow2'),
    ])
    expect((await showImage(subject.url, id)).status).toBe('queued')
    expect(stored(subject).uploads).toEqual([])
  })

  it('is cut off when it does not end', async () => {
    const small = await start({ imageSizeCap: MiB, drainBytes: 4 * MiB })
    const id = await createImage(small.url)
    let sent = 0
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (const block = randomBytes(65_536); sent < 512 * MiB; sent += block.length) yield block
    }
    const answer = await upload(small.url, id, endless()).catch((error: NodeJS.ErrnoException) => error.code)
    expect(typeof answer === 'string' ? ['ECONNRESET', 'EPIPE'].includes(answer) : answer?.status === 413).toBe(true)
    expect(sent).toBeLessThan(64 * MiB)
    await eventually(async () => (await showImage(small.url, id)).status === 'queued')
    expect(stored(small)).toEqual({ images: [], uploads: [] })
  })

  it('says when it is too large, before and while it comes', async () => {
    const small = await start({ imageSizeCap: 1000 })
    const id = await createImage(small.url)
    expect((await upload(small.url, id, Buffer.alloc(1001))).status).toBe(413)
    expect((await upload(small.url, id, pieces(Buffer.alloc(1001), 100))).status).toBe(413)
    expect((await upload(small.url, id, pieces(Buffer.alloc(1000), 100))).status).toBe(204)
  })

  it('says when the quota is used up, and counts exactly', async () => {
    const small = await start({ storageQuota: 10_000 })
    const ids = await Promise.all(Array.from({ length: 4 }, () => createImage(small.url)))
    const [a = '', b = '', c = '', d = ''] = ids
    expect((await upload(small.url, a, Buffer.alloc(6000, 1))).status).toBe(204)
    expect((await upload(small.url, b, Buffer.alloc(4001, 1))).status).toBe(413)
    expect((await upload(small.url, b, pieces(Buffer.alloc(4001, 1), 1000))).status).toBe(413)
    const race = await Promise.all([b, c, d].map((id) => upload(small.url, id, pieces(Buffer.alloc(3000, 1), 500))))
    expect(race.filter(({ status }) => status === 204).length).toBeLessThanOrEqual(1)
    await ask(`${small.url}/v2/images/${a}`, 'DELETE')
    const left = ids[race.findIndex(({ status }) => status !== 204) + 1] ?? ''
    expect((await upload(small.url, left, Buffer.alloc(6000, 1))).status).toBe(204)
  })

  it('by a full disk is 413, by a read-only one 503, by a broken one 500; each leaves a queued image', async () => {
    for (const [error, status] of [
      [new StoreError('full', 'no space left on device'), 413],
      [new StoreError('denied', 'read-only file system'), 503],
      [new Error('EIO: i/o error, write'), 500],
    ] as const) {
      const failing = await start({}, (service) => ({ ...service, stores: failAfter(service.stores, 2 * MiB, error) }))
      const id = await createImage(failing.url)
      const answer = await upload(failing.url, id, pieces(randomBytes(8 * MiB), 65_536))
      expect([error.message, answer.status]).toEqual([error.message, status])
      if (status === 500) expect(answer.body.toString()).not.toContain('EIO')
      expect(await showImage(failing.url, id)).toMatchObject({ status: 'queued', size: null, checksum: null })
      expect(stored(failing)).toEqual({ images: [], uploads: [] })
    }
  })

  it('says at once when the disk has no room for what was announced', async () => {
    const huge = await start({ imageSizeCap: 2 ** 52 })
    const id = await createImage(huge.url)
    const answer = await upload(huge.url, id, pieces(Buffer.alloc(10), 5), {
      'x-openstack-image-size': String(2 ** 50),
    })
    expect([answer.status, answer.body.toString()]).toEqual([413, expect.stringContaining('storage media is full')])
  })
})

describe('an upload that is cut off', () => {
  it('leaves a queued image and no data', async () => {
    const id = await createImage(subject.url)
    const before = stored(subject)
    const socket = connect(Number(new URL(subject.url).port), '127.0.0.1')
    const head = `PUT /v2/images/${id}/file HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\nContent-Length: 100000000\r\n\r\n`
    socket.write(head)
    socket.write(randomBytes(5 * MiB))
    await eventually(async () => (await showImage(subject.url, id)).status === 'saving')
    await eventually(() => stored(subject).uploads.length === 1)
    socket.destroy()
    await eventually(async () => (await showImage(subject.url, id)).status === 'queued')
    expect(stored(subject)).toEqual(before)
    expect((await upload(subject.url, id, Buffer.from('again'))).status).toBe(204)
  })

  it('by silence is given up', async () => {
    const impatient = await start({ uploadIdleSeconds: 1 })
    const id = await createImage(impatient.url)
    async function* halting(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('some')
      await sleep(4000)
      yield Buffer.from('more')
    }
    const answer = await upload(impatient.url, id, halting()).catch((error: NodeJS.ErrnoException) => error.code)
    expect(answer).toBe('ECONNRESET')
    await eventually(async () => (await showImage(impatient.url, id)).status === 'queued')
    expect(stored(impatient)).toEqual({ images: [], uploads: [] })
  })

  it('by the deletion of its image says so', async () => {
    const id = await createImage(subject.url)
    let go = () => {}
    const gate = new Promise<void>((resolve) => {
      go = resolve
    })
    async function* slow(): AsyncGenerator<Uint8Array> {
      yield randomBytes(100_000)
      await gate
      yield randomBytes(100_000)
    }
    const answer = upload(subject.url, id, slow())
    await eventually(async () => (await showImage(subject.url, id)).status === 'saving')
    expect((await ask(`${subject.url}/v2/images/${id}`, 'DELETE')).status).toBe(204)
    go()
    expect((await answer).status).toBe(410)
    expect(stored(subject).images).not.toContain(id)
    expect(stored(subject).uploads).toEqual([])
  })

  it('by the end of the service goes back to queued', async () => {
    const ending = await start()
    const id = await createImage(ending.url)
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (;;) {
        yield randomBytes(65_536)
        await sleep(5)
      }
    }
    const cut = upload(ending.url, id, endless()).catch(() => 'cut')
    await eventually(async () => (await showImage(ending.url, id)).status === 'saving')
    await ending.close()
    expect(await cut).toBe('cut')
    const next = await start({ data: ending.data })
    expect((await showImage(next.url, id)).status).toBe('queued')
    expect(stored(next)).toEqual({ images: [], uploads: [] })
  })
})

describe('download', () => {
  const data = randomBytes(1000)
  let id = ''
  beforeAll(async () => {
    id = await createImage(subject.url)
    await upload(subject.url, id, data)
  })

  it.each([
    ['bytes=0-9', 0, 10],
    ['bytes=990-', 990, 1000],
    ['bytes=-10', 990, 1000],
    ['bytes=-5000', 0, 1000],
    ['bytes=0-0', 0, 1],
    ['bytes=999-999', 999, 1000],
    ['bytes=500-5000', 500, 1000],
    ['Bytes = 5 - 7', 5, 8],
  ])('%s', async (range, from, to) => {
    const answer = await download(id, { range })
    expect(answer.status).toBe(206)
    expect(answer.headers).toMatchObject({
      'content-range': `bytes ${from}-${to - 1}/1000`,
      'content-length': String(to - from),
      'content-md5': digest('md5', data),
    })
    expect(answer.body.equals(data.subarray(from, to))).toBe(true)
  })

  it.each([
    ['bytes=5000-', 416],
    ['bytes=1000-1000', 416],
    ['bytes=7-5', 416],
    ['bytes=-', 416],
    ['bytes=-0', 416],
    ['bytes=x', 416],
    ['lines=1-2', 416],
    ['bytes=0-1,4-5', 400],
  ])('refuses %s', async (range, status) => {
    const answer = await download(id, { range, accept: '*/*' })
    expect(answer.status).toBe(status)
    if (status === 416) expect(answer.headers['content-range']).toBe('bytes */1000')
  })

  it('says which positions there are', async () => {
    const answer = await download(id, { range: 'bytes=5000-', accept: '*/*' })
    expect(answer.body.toString()).toContain(
      'The Range requested is not available.<br /><br />\nInvalid start position in Range header. Start position MUST be in the inclusive range [0, 999].\n',
    )
  })

  it('takes Content-Range as a request, as clients of old do', async () => {
    const answer = await download(id, { 'content-range': 'bytes 10-19/*' })
    expect([answer.status, answer.body.equals(data.subarray(10, 20))]).toEqual([206, true])
  })

  it('of an image without data is 204', async () => {
    const queued = await createImage(subject.url)
    const answer = await download(queued, { range: 'bytes=0-9' })
    expect([answer.status, answer.body.length]).toEqual([204, 0])
  })

  it('of an empty image is empty, and has no ranges', async () => {
    const empty = await createImage(subject.url)
    await upload(subject.url, empty, Buffer.alloc(0))
    expect([(await download(empty)).status, (await download(empty)).headers['content-length']]).toEqual([200, '0'])
    expect((await download(empty, { range: 'bytes=0-' })).status).toBe(416)
  })

  it('goes on while the image is deleted', async () => {
    const large = await createImage(subject.url)
    const content = randomBytes(24 * MiB)
    await upload(subject.url, large, content)
    const socket = connect(Number(new URL(subject.url).port), '127.0.0.1')
    socket.write(`GET /v2/images/${large}/file HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`)
    const parts: Buffer[] = []
    for await (const part of socket) {
      if (parts.length === 0) await ask(`${subject.url}/v2/images/${large}`, 'DELETE')
      parts.push(part as Buffer)
    }
    const whole = Buffer.concat(parts)
    expect(whole.subarray(whole.indexOf('\r\n\r\n') + 4).equals(content)).toBe(true)
    expect(stored(subject).images).not.toContain(large)
  })
})

/** One store whose uploads fail after so many bytes. */
function failAfter({ default: store, staging }: Stores, bytes: number, error: Error): Stores {
  const failing: ImageStore = Object.assign(Object.create(store.data), {
    async begin(key: string, expected?: number) {
      const real = await store.data.begin(key, expected)
      let left = bytes
      return {
        read: () => real.read(),
        commit: () => real.commit(),
        abort: () => real.abort(),
        write: (piece: Uint8Array) => {
          left -= piece.length
          return left < 0 ? Promise.reject(error) : real.write(piece)
        },
      }
    },
    remove: (key: string) => store.data.remove(key),
  })
  return new Stores([{ ...store, data: failing }], staging, false)
}
