/** Caches: files under a limit, exports that are made once, copies of image data; and the conditions and ranges of whatever is there as a whole. */
import { createHash, randomUUID } from 'node:crypto'
import { mkdirSync, readdirSync, utimesSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { beforeAll, describe, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { FileCache } from '../src/cache/file-cache.ts'
import { believing } from './support/believing.ts'
import { asCaller } from './support/glance.ts'
import { type Answer, ask, createImage, type Subject, services, upload } from './support/service.ts'

const start = services()
const folder = temporaryFolder()
const MiB = 1024 * 1024

async function keep(cache: FileCache, name: string, bytes: Uint8Array): Promise<boolean> {
  const writer = await cache.begin(name)
  await writer?.write(bytes)
  return (await writer?.commit()) ?? false
}

async function contentOf(cache: FileCache, name: string): Promise<Buffer | undefined> {
  const found = await cache.get(name)
  if (found === undefined) return undefined
  const bytes = Buffer.alloc(found.source.size)
  await found.source.read(0, bytes)
  await found.source.close()
  return bytes
}

describe('files under a limit', () => {
  const full = (byte: number, size = MiB) => Buffer.alloc(size, byte)
  const names = Array.from({ length: 5 }, () => randomUUID())

  it('give way to later ones, the one that was used longest ago first', async () => {
    const cache = await FileCache.open(folder.fresh(), 3 * MiB)
    for (const [index, name] of names.slice(0, 3).entries()) {
      expect(await keep(cache, name, full(index + 1))).toBe(true)
      await new Promise((resolve) => setTimeout(resolve, 15))
    }
    expect(await contentOf(cache, names[0] ?? '')).toEqual(full(1))
    await keep(cache, names[3] ?? '', full(4))
    const left = (await cache.entries()).map(({ name }) => name).sort()
    expect(left).toEqual([names[0], names[2], names[3]].sort())
  })

  it('take the room of their data, not of their zeros', async () => {
    const cache = await FileCache.open(folder.fresh(), 2 * MiB)
    const sparse = Buffer.alloc(20 * MiB)
    sparse.write('end', sparse.length - 3)
    expect(await keep(cache, names[0] ?? '', sparse)).toBe(true)
    expect(await contentOf(cache, names[0] ?? '')).toEqual(sparse)
    expect(await keep(cache, names[1] ?? '', full(1, 3 * MiB))).toBe(false)
    expect((await cache.entries()).map(({ name }) => name)).toEqual([names[0]])
  })

  it('are whole or not there, whoever else writes the same one', async () => {
    const path = folder.fresh()
    const [one, other] = [await FileCache.open(path, 9 * MiB), await FileCache.open(path, 9 * MiB)]
    const name = names[0] ?? ''
    const [first, second] = [await one.begin(name), await other.begin(name)]
    await first?.write(full(1))
    await second?.write(full(2))
    expect(await one.get(name)).toBeUndefined()
    expect(await first?.commit()).toBe(true)
    expect(await second?.commit()).toBe(true)
    expect(await contentOf(one, name)).toEqual(full(2))
    const third = await one.begin(name)
    await third?.write(full(3))
    await third?.abort()
    expect(readdirSync(join(path, 'parts'))).toEqual([])
  })

  it('of a process that is gone are cleared away, and its parts with time', async () => {
    const path = folder.fresh()
    mkdirSync(join(path, 'parts'), { recursive: true })
    for (const name of ['old', 'new']) writeFileSync(join(path, 'parts', name), 'part')
    utimesSync(join(path, 'parts', 'old'), 0, 0)
    await FileCache.open(path, MiB)
    expect(readdirSync(join(path, 'parts'))).toEqual(['new'])
  })

  it('are not kept without a limit, and have no odd names', async () => {
    const cache = await FileCache.open(folder.fresh(), 0)
    expect(await cache.begin(names[0] ?? '')).toBeUndefined()
    await expect(cache.get('../../etc/passwd')).rejects.toThrow('is no name')
  })
})

describe('a download', () => {
  const data = Buffer.from('0123456789'.repeat(100))
  const tag = `"${createHash('sha512').update(data).digest('hex')}"`
  let path: string
  beforeAll(async () => {
    const { url } = await start()
    const id = await createImage(url)
    await upload(url, id, data)
    path = `${url}/v2/images/${id}/file`
  })
  const get = (headers: Record<string, string>, method = 'GET'): Promise<Answer> =>
    ask(path, method, undefined, headers)

  it('has a strong tag, and can be asked for without its body', async () => {
    const answer = await get({}, 'HEAD')
    expect(answer.status).toBe(200)
    expect(answer.headers).toMatchObject({ etag: tag, 'content-length': '1000', 'accept-ranges': 'bytes' })
    expect(answer.body).toHaveLength(0)
    expect((await get({ range: 'bytes=0-9' }, 'HEAD')).headers['content-range']).toBe('bytes 0-9/1000')
  })

  it.each<[string, Record<string, string>, number, number]>([
    ['what is known is not sent again', { 'if-none-match': tag }, 304, 0],
    ['in a list, too', { 'if-none-match': `"x", W/${tag}` }, 304, 0],
    ['anything at all', { 'if-none-match': '*' }, 304, 0],
    ['what is not known is sent', { 'if-none-match': '"x"' }, 200, 1000],
    ['what must be the same and is', { 'if-match': tag, range: 'bytes=10-19' }, 206, 10],
    ['what must be the same and is not', { 'if-match': '"x"' }, 412, -1],
    ['a range of the same', { 'if-range': tag, range: 'bytes=990-' }, 206, 10],
    ['a range of another is all of it', { 'if-range': '"x"', range: 'bytes=990-' }, 200, 1000],
    ['a date says nothing', { 'if-range': 'Mon, 23 Nov 2026 00:00:00 GMT', range: 'bytes=990-' }, 200, 1000],
  ])('%s', async (_what, headers, status, length) => {
    const answer = await get(headers)
    expect(answer.status).toBe(status)
    if (length >= 0) expect(answer.body).toHaveLength(length)
  })
})

describe('exports', () => {
  const data = Buffer.alloc(3 * MiB, 'export me ')
  const make = async (subject: Subject): Promise<string> => {
    const id = await createImage(subject.url)
    await upload(subject.url, id, data)
    return id
  }
  const kept = (subject: Subject) => readdirSync(join(subject.data, 'exports')).filter((name) => name !== 'parts')

  it('are made once, and then have ranges', async () => {
    const subject = await start({ exportCacheSize: 64 * MiB })
    const id = await make(subject)
    const url = `${subject.url}/v2/images/${id}/export?format=qcow2`
    const first = await ask(url)
    expect(first.status).toBe(200)
    await expect.poll(() => kept(subject)).toHaveLength(1)
    const second = await ask(url)
    expect(second.body.equals(first.body)).toBe(true)
    expect(second.headers.etag).toMatch(/^".+"$/)
    const part = await ask(url, 'GET', undefined, { range: 'bytes=100-199', 'if-range': String(second.headers.etag) })
    expect([part.status, part.body.equals(first.body.subarray(100, 200))]).toEqual([206, true])
    await ask(`${url}&cluster_size=4096`)
    await expect.poll(() => kept(subject)).toHaveLength(2)
    expect((await ask(`${url}&cluster_size=7`)).status).toBe(400)
    expect((await ask(`${subject.url}/v2/images/${id}`, 'DELETE')).status).toBe(204)
    expect(kept(subject)).toEqual([])
  })

  it('that do not fit are sent all the same', async () => {
    const subject = await start({ exportCacheSize: MiB })
    const id = await make(subject)
    const answer = await ask(`${subject.url}/v2/images/${id}/export?format=raw`)
    expect(answer.body.equals(data)).toBe(true)
    expect(kept(subject)).toEqual([])
  })
})

describe('the cache of image data', () => {
  const admin = asCaller('operators', ['admin', 'member'])
  const member = asCaller('p1', ['member'])
  interface State {
    cached_images: { image_id: string; hits: number; size: number; last_accessed: number; last_modified: number }[]
    queued_images: string[]
  }
  const open = (imageCacheSize: number) => start({ imageCacheSize }, (service) => ({ ...service, identity: believing }))
  const call = (subject: Subject, line: string, who = admin, headers = {}) => {
    const [method = '', path = ''] = line.split(' ')
    return ask(`${subject.url}${path}`, method, undefined, { ...who, ...headers })
  }
  const stateOf = async (subject: Subject) => (await call(subject, 'GET /v2/cache')).json<State>()
  const make = async (subject: Subject, data: string): Promise<string> => {
    const body = JSON.stringify({ disk_format: 'raw', container_format: 'bare', visibility: 'public' })
    const made = await ask(`${subject.url}/v2/images`, 'POST', body, { ...admin, 'content-type': 'application/json' })
    const { id } = made.json<{ id: string }>()
    expect((await upload(subject.url, id, Buffer.from(data), admin)).status).toBe(204)
    return id
  }

  /** The file that a copy is. */
  const copyOf = (subject: Subject, id: string): string => {
    const place = join(subject.data, 'cache')
    return join(place, readdirSync(place).find((name) => name.startsWith(id)) ?? 'nothing')
  }

  it('gets what an operator asks for, and is asked first', async () => {
    const subject = await open(64 * MiB)
    const id = await make(subject, 'cache me')
    expect((await call(subject, `PUT /v2/cache/${id}`)).status).toBe(202)
    await expect
      .poll(() => stateOf(subject))
      .toMatchObject({ cached_images: [{ image_id: id, hits: 0, size: 8 }], queued_images: [] })
    writeFileSync(copyOf(subject, id), 'CACHE ME')
    expect((await call(subject, `GET /v2/images/${id}/file`, member)).body.toString()).toBe('CACHE ME')
    const { cached_images: cached } = await stateOf(subject)
    expect(cached[0]?.hits).toBe(1)
    expect(cached[0]?.last_accessed).toBeGreaterThan(1e9)
    // A copy that is not whole counts for nothing.
    writeFileSync(copyOf(subject, id), 'CACHE')
    expect((await call(subject, `GET /v2/images/${id}/file`, member)).body.toString()).toBe('cache me')
    expect((await stateOf(subject)).cached_images).toEqual([])
  })

  it('has nothing of the data that an image had before', async () => {
    const subject = await open(64 * MiB)
    const id = await make(subject, 'new data')
    const before = createHash('sha256').update('the digest of other data').digest('hex')
    for (const name of [id, `${id}.${before}`]) writeFileSync(join(subject.data, 'cache', name), 'old data')
    expect((await call(subject, `GET /v2/images/${id}/file`, member)).body.toString()).toBe('new data')
    expect((await call(subject, `GET /v2/cache/nodes/${id}`)).json()).toEqual({ cached_nodes: [] })
    expect((await call(subject, `PUT /v2/cache/${id}`)).status).toBe(202)
    await expect.poll(async () => (await stateOf(subject)).queued_images).toEqual([])
    expect((await call(subject, 'POST /v2/cache/clean')).status).toBe(200)
    expect((await stateOf(subject)).cached_images.map(({ image_id }) => image_id)).toEqual([id])
    expect((await call(subject, `GET /v2/images/${id}/file`, member)).body.toString()).toBe('new data')
  })

  it('is emptied by name, by kind, and with the image', async () => {
    const subject = await open(64 * MiB)
    const ids = [await make(subject, 'one'), await make(subject, 'two'), await make(subject, 'three')]
    for (const id of ids) await call(subject, `PUT /v2/cache/${id}`)
    await expect.poll(async () => (await stateOf(subject)).cached_images).toHaveLength(3)
    expect((await call(subject, `DELETE /v2/cache/${ids[0]}`)).status).toBe(204)
    expect((await call(subject, `DELETE /v2/cache/${randomUUID()}`)).status).toBe(404)
    expect((await call(subject, `DELETE /v2/images/${ids[1]}`)).status).toBe(204)
    expect((await stateOf(subject)).cached_images.map(({ image_id }) => image_id)).toEqual([ids[2]])
    const clear = (target: string) => call(subject, 'DELETE /v2/cache', admin, { 'x-image-cache-clear-target': target })
    expect((await clear('everything')).status).toBe(400)
    expect((await clear('queue')).status).toBe(204)
    expect((await stateOf(subject)).cached_images).toHaveLength(1)
    expect((await clear('cache')).status).toBe(204)
    expect(await stateOf(subject)).toEqual({ cached_images: [], queued_images: [] })
  })

  it('says where there is a copy of an image', async () => {
    const subject = await open(64 * MiB)
    const [cached, other] = [await make(subject, 'one'), await make(subject, 'two')]
    await call(subject, `PUT /v2/cache/${cached}`)
    await expect.poll(async () => (await stateOf(subject)).cached_images).toHaveLength(1)
    const nodes = async (id: string, who = admin) => {
      const answer = await call(subject, `GET /v2/cache/nodes/${id}`, who)
      return answer.status === 200 ? answer.json() : answer.status
    }
    expect(await nodes(cached)).toEqual({ cached_nodes: [subject.url] })
    expect(await nodes(other)).toEqual({ cached_nodes: [] })
    expect([await nodes(randomUUID()), await nodes(cached, member)]).toEqual([404, 403])
    expect((await call(subject, `PUT /v2/cache/nodes/${cached}`)).status).toBe(405)
    expect((await call(await open(0), `GET /v2/cache/nodes/${cached}`)).status).toBe(409)
  })

  it('is cleaned of what nobody can use, and pruned to its size', async () => {
    const subject = await open(64 * 1024)
    const [kept, broken] = [await make(subject, 'kept'), await make(subject, 'broken')]
    for (const id of [kept, broken]) await call(subject, `PUT /v2/cache/${id}`)
    await expect.poll(async () => (await stateOf(subject)).cached_images).toHaveLength(2)
    const place = join(subject.data, 'cache')
    const whole = basename(copyOf(subject, kept))
    writeFileSync(copyOf(subject, broken), 'brok')
    // Of an image that is not there any more.
    writeFileSync(join(place, randomUUID()), 'gone')
    for (const name of ['old', 'new']) writeFileSync(join(place, 'parts', name), 'part')
    utimesSync(join(place, 'parts', 'old'), 0, 0)
    const cleaned = await call(subject, 'POST /v2/cache/clean')
    expect([cleaned.status, cleaned.body.length]).toEqual([200, 0])
    expect(readdirSync(place).sort()).toEqual([whole, 'parts'].sort())
    expect(readdirSync(join(place, 'parts'))).toEqual(['new'])

    expect((await call(subject, 'POST /v2/cache/prune')).json()).toEqual({
      total_files_pruned: 0,
      total_bytes_pruned: 0,
    })
    // As another process leaves it that was told of a larger size.
    const large = [randomUUID(), randomUUID()]
    for (const [index, name] of large.entries()) {
      writeFileSync(join(place, name), Buffer.alloc(48 * 1024, 1))
      utimesSync(join(place, name), 1000 + index, 1000 + index)
    }
    const pruned = await call(subject, 'POST /v2/cache/prune')
    expect(pruned.status).toBe(200)
    const { total_files_pruned: files, total_bytes_pruned: bytes } = pruned.json<Record<string, number>>()
    expect(files).toBe(1)
    expect(bytes).toBeGreaterThanOrEqual(48 * 1024)
    expect(readdirSync(place).sort()).toEqual([whole, large[1], 'parts'].sort())
    expect((await call(subject, 'GET /v2/cache/clean')).status).toBe(405)
  })

  it('shows in the list of versions', async () => {
    const shown = async (size: number) => {
      const { versions } = (await ask(`${(await open(size)).url}/versions`)).json<{
        versions: { id: string; status: string }[]
      }>()
      return versions.slice(0, 6).map(({ id, status }) => (status === 'CURRENT' ? `${id} is current` : id))
    }
    expect(await shown(1)).toEqual(['v2.18 is current', 'v2.17', 'v2.16', 'v2.15', 'v2.14', 'v2.9'])
    expect((await shown(0)).slice(0, 3)).toEqual(['v2.17 is current', 'v2.15', 'v2.9'])
  })

  it('is for administrators, for images that are active, and only there when it has room', async () => {
    const subject = await open(64 * MiB)
    const id = await make(subject, 'x')
    const upkeep = ['POST /v2/cache/clean', 'POST /v2/cache/prune']
    const lines = ['GET /v2/cache', 'DELETE /v2/cache', `PUT /v2/cache/${id}`, `DELETE /v2/cache/${id}`, ...upkeep]
    for (const line of lines) {
      expect((await call(subject, line, member)).status, line).toBe(403)
    }
    const queued = await ask(`${subject.url}/v2/images`, 'POST', '{}', { ...admin, 'content-type': 'application/json' })
    expect((await call(subject, `PUT /v2/cache/${queued.json<{ id: string }>().id}`)).status).toBe(400)
    expect((await call(subject, `PUT /v2/cache/${randomUUID()}`)).status).toBe(404)
    const without = await open(0)
    const answer = await call(without, 'GET /v2/cache')
    expect([answer.status, answer.body.toString()]).toEqual([
      404,
      expect.stringContaining('not supported at this site'),
    ])
  })
})
