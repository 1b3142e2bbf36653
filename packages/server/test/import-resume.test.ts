/** Downloads that go on in the next process, with what the last one has kept; and servers that make that hard. */
import { createHash, randomBytes } from 'node:crypto'
import { existsSync, readdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { gzipSync } from 'node:zlib'
import { beforeAll, describe, expect, it, vi } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { catalogPath } from '../src/catalog/open.ts'
import { type Mirror, type MirrorFile, startMirror } from './support/mirror.ts'
import { launchedProcesses } from './support/served.ts'
import { ask, createImage, type Subject, services, showImage } from './support/service.ts'

const start = services()
const launch = launchedProcesses()
const folder = temporaryFolder()
const web = { importAllowedHosts: '127.0.0.1', importPorts: '*', importRetries: 2 }
const MiB = 1024 * 1024
const data = randomBytes(8 * MiB)
const waiting = { timeout: 20_000, interval: 20 }
let mirror: Mirror
let files = 0

beforeAll(async () => {
  mirror = await startMirror()
})

const digest = (bytes: Uint8Array) => createHash('sha512').update(bytes).digest('hex')
const kept = (folderOfData: string, store = 'store') => readdirSync(join(folderOfData, store, 'uploads'))
/** Bytes of what is kept. */
const stored = (home: string) =>
  ['store', 'staging'].flatMap((store) =>
    kept(home, store).map((name) => statSync(join(home, store, 'uploads', name), { throwIfNoEntry: false })?.size ?? 0),
  )
const ranges = (path: string) =>
  mirror.requests.filter((line) => line.startsWith(`GET ${path} `) || line === `GET ${path}`)

/** Rows of uploads in the catalog. */
function uploadsOf({ data: home }: Pick<Subject, 'data'>): number {
  const database = new DatabaseSync(catalogPath(home), { readOnly: true })
  const { count } = database.prepare('select count(*) as count from uploads').get() as { count: number }
  database.close()
  return count
}

async function importFrom(url: string, path: string, more = {}): Promise<string> {
  const id = await createImage(url, more)
  const method = { name: 'web-download', uri: `${mirror.url}${path}` }
  expect((await ask(`${url}/v2/images/${id}/import`, 'POST', JSON.stringify({ method }))).status).toBe(202)
  return id
}

async function settled(url: string, id: string) {
  await vi.waitUntil(async () => (await showImage(url, id)).os_glance_import_task === undefined, waiting)
  return showImage(url, id)
}

/** An import whose service has stopped when about half of the file was there. */
async function cutOff(
  file: MirrorFile,
  config = {},
  image = {},
): Promise<{ path: string; id: string; first: Subject }> {
  const path = `/file${++files}`
  const first = await start({ ...web, ...config })
  mirror.files.set(path, { ...file, milliseconds: 5 })
  const id = await importFrom(first.url, path, image)
  await vi.waitUntil(() => stored(first.data).some((size) => size >= 2 * MiB), { ...waiting, interval: 5 })
  await first.close()
  mirror.requests.length = 0
  mirror.files.set(path, file)
  return { path, id, first }
}

/** The same data in the next process of the service. */
async function goesOn({ id, first }: Awaited<ReturnType<typeof cutOff>>, expected: Uint8Array, config = {}) {
  const next = await start({ ...web, ...config, data: first.data })
  const image = await settled(next.url, id)
  expect(image).toMatchObject({ status: 'active', size: expected.length, os_hash_value: digest(expected) })
  expect((await ask(`${next.url}/v2/images/${id}/file`)).body.equals(expected)).toBe(true)
  expect([kept(first.data), kept(first.data, 'staging')]).toEqual([[], []])
  return next
}

describe('a download whose service stops', () => {
  it('goes on where it was', async () => {
    const cut = await cutOff({ data, etag: '"1"' })
    expect(kept(cut.first.data)).toHaveLength(1)
    await goesOn(cut, data)
    const [request, ...others] = ranges(cut.path)
    expect(others).toEqual([])
    const from = Number(/ bytes=(\d+)-$/.exec(request ?? '')?.[1])
    expect(from).toBeGreaterThan(100_000)
    expect(from).toBeLessThan(data.length)
  })

  it('goes on with what is staged, to be unpacked', async () => {
    const config = { importDecompress: true }
    const cut = await cutOff({ data: gzipSync(data), etag: '"1"' }, config, { container_format: 'compressed' })
    expect(kept(cut.first.data, 'staging')).toHaveLength(1)
    await goesOn(cut, data, config)
    expect(ranges(cut.path)).toEqual([expect.stringMatching(/ bytes=\d+-$/)])
  })

  it('goes on in another process as soon as its task is given back', async () => {
    const path = `/file${++files}`
    const first = await start(web)
    mirror.files.set(path, { data, etag: '"1"', milliseconds: 5 })
    const id = await importFrom(first.url, path)
    await vi.waitUntil(() => stored(first.data).some((size) => size >= 2 * MiB), { ...waiting, interval: 5 })
    // It lives on, as while it waits for other tasks to be put away.
    await first.service.tasks.stop()
    mirror.requests.length = 0
    mirror.files.set(path, { data, etag: '"1"' })
    const next = await goesOn({ path, id, first }, data)
    expect(ranges(path)).toEqual([expect.stringMatching(/ bytes=\d+-$/)])
    await next.close()
  })

  it('goes on through several stops', async () => {
    const cut = await cutOff({ data, etag: '"1"' })
    mirror.files.set(cut.path, { data, etag: '"1"', milliseconds: 10 })
    for (let times = 0; times < 2; times++) {
      const before = Math.max(...stored(cut.first.data))
      const next = await start({ ...web, data: cut.first.data })
      await vi.waitUntil(() => stored(cut.first.data).some((size) => size > before), { ...waiting, interval: 5 })
      await next.close()
    }
    const starts = ranges(cut.path).map((line) => Number(/ bytes=(\d+)-$/.exec(line)?.[1]))
    expect(starts.toSorted((one, other) => one - other)).toEqual(starts)
    expect(new Set(starts).size).toBe(2)
    await goesOn(cut, data)
  })

  it('asks for nothing more when all of it had come', async () => {
    const file = { data, etag: '"1"' }
    const cut = await cutOff(file)
    const database = new DatabaseSync(catalogPath(cut.first.data))
    const { received } = database.prepare('select received from uploads').get() as { received: number }
    const half = data.subarray(0, received)
    const version = JSON.stringify({ etag: '"1"', size: received })
    database.prepare('update uploads set version = ?').run(version)
    database.close()
    await goesOn(cut, half)
    expect(ranges(cut.path)).toEqual([])
  })
})

describe('begins anew', () => {
  const other = randomBytes(MiB)
  it.each<[string, MirrorFile, MirrorFile | undefined, Uint8Array]>([
    ['when the file was changed meanwhile', { data, etag: '"1"' }, { data: other, etag: '"2"' }, other],
    ['when the server told nothing to know the file by', { data }, undefined, data],
  ])('%s', async (_why, before, after, expected) => {
    const cut = await cutOff(before)
    if (after !== undefined) mirror.files.set(cut.path, after)
    await goesOn(cut, expected)
  })

  it('in the same process, when it breaks and nothing tells that the rest would be of the same file', async () => {
    const { url, data: home } = await start(web)
    const [first, second] = [randomBytes(2 * MiB), randomBytes(2 * MiB)]
    const file = { data: first, cutAfter: MiB }
    let times = 0
    mirror.files.set('/swapped', {
      data: first,
      answer({ headers }, response) {
        expect(headers.range).toBeUndefined()
        response.writeHead(200, { 'content-length': file.data.length })
        if (++times === 3) response.end(second)
        else response.write((times === 1 ? first : second).subarray(0, file.cutAfter), () => response.destroy())
      },
    })
    const id = await importFrom(url, '/swapped')
    expect(await settled(url, id)).toMatchObject({ status: 'active', os_hash_value: digest(second) })
    expect([times, kept(home)]).toEqual([3, []])
  })

  it('when what was kept is not there any more', async () => {
    const cut = await cutOff({ data, etag: '"1"' })
    rmSync(join(cut.first.data, 'store', 'uploads'), { recursive: true })
    await goesOn(cut, data)
  })
})

it('belongs to the process that took it: one that was held for dead cannot finish it', async () => {
  const { service, url } = await start()
  const { work } = service.catalog
  const imageId = await createImage(url)
  const lease = { host: 'elsewhere', pid: 1, started: '', leaseUntil: 2 ** 40 }
  const upload = (key: string) => ({
    key,
    store: 'default',
    imageId,
    workerId: 'w1',
    kind: 'import' as const,
    taskId: 't1',
  })
  await work.greet({ id: 'w1', ...lease })
  for (const key of ['kept', 'unknown']) await work.openUpload(upload(key))
  await work.keepUpload('kept', 100, { etag: '"1"', size: 200 })
  // Of the other one nobody knows what it is part of.
  expect((await work.bury('w1')).map(({ key }) => key)).toEqual(['unknown'])
  expect(await work.knownData('default', ['kept', 'unknown'])).toEqual(new Set(['kept']))
  expect(await work.takeKept('t2', 'w2', 'other')).toBeUndefined()
  const taken = await work.takeKept('t1', 'w2', 'new')
  expect(taken).toMatchObject({ key: 'kept', received: 100, version: { etag: '"1"', size: 200 } })
  expect(await work.takeKept('t1', 'w3', 'newer')).toBeUndefined()
  await work.keepUpload('kept', 150, {})
  await expect(service.catalog.update(imageId, (image) => image, { closes: 'kept' })).rejects.toThrow('taken for dead')
  expect(await work.knownData('default', ['kept', 'new'])).toEqual(new Set(['new']))
  expect(await work.closeUpload('new')).toBe(true)
})

it('what a worker has that nobody knows is taken from it at the next start', async () => {
  const first = await start()
  const [image, other] = [await createImage(first.url), await createImage(first.url)]
  const { catalog } = first.service
  const opens = { key: `${image}.1`, store: 'default', imageId: image, workerId: 'gone', kind: 'upload' as const }
  await catalog.update(image, (now) => ({ ...now, status: 'saving' }), { opens })
  const id = '0d7a3f0e-8a25-4f3a-b7d4-222222222222'
  const task = { id, type: 'import' as const, owner: null, imageId: other, userId: null, requestId: null }
  await catalog.work.tasks.create({ ...task, input: {}, workerId: 'gone' })
  expect(await catalog.work.strays()).toEqual(['gone'])
  await first.close()
  const next = await start({ data: first.data, importPorts: '1' })
  expect((await showImage(next.url, image)).status).toBe('queued')
  expect([uploadsOf(first), await next.service.catalog.work.strays()]).toEqual([0, []])
  await vi.waitUntil(async () => (await next.service.catalog.work.tasks.get(id))?.status === 'failure', waiting)
})

describe('what was kept goes', () => {
  it('when its image is deleted', async () => {
    const cut = await cutOff({ data, etag: '"1"' })
    // As if another process were at the task: nobody here takes it.
    const database = new DatabaseSync(catalogPath(cut.first.data))
    database.exec("update tasks set worker_id = 'another'")
    database.exec(
      "insert into workers (id, host, pid, started, lease_until) values ('another', 'elsewhere', 1, '', 9999999999)",
    )
    database.close()
    const next = await start({ ...web, data: cut.first.data })
    expect(kept(cut.first.data)).toHaveLength(1)
    expect((await ask(`${next.url}/v2/images/${cut.id}`, 'DELETE')).status).toBe(204)
    expect(kept(cut.first.data)).toEqual([])
    expect(uploadsOf(cut.first)).toBe(0)
  })

  it('when its image is deleted while it comes', async () => {
    const path = `/file${++files}`
    const subject = await start(web)
    mirror.files.set(path, { data, etag: '"1"', milliseconds: 20 })
    const id = await importFrom(subject.url, path)
    await vi.waitUntil(() => stored(subject.data).some((size) => size >= MiB), { ...waiting, interval: 5 })
    expect((await ask(`${subject.url}/v2/images/${id}`, 'DELETE')).status).toBe(204)
    await vi.waitUntil(() => kept(subject.data).length === 0 && uploadsOf(subject) === 0, waiting)
  })

  it('when its task is over, and when it is ended before it runs again', async () => {
    for (const change of ["status = 'failure'", "cancelled = 'enough'", 'attempts = 3']) {
      const cut = await cutOff({ data, etag: '"1"' })
      const database = new DatabaseSync(catalogPath(cut.first.data))
      database.exec(`update tasks set ${change}`)
      database.close()
      await start({ ...web, data: cut.first.data })
      await vi.waitUntil(() => kept(cut.first.data).length === 0, waiting)
      expect(ranges(cut.path)).toEqual([])
      expect(uploadsOf(cut.first)).toBe(0)
    }
  })
})

it('goes on after the process was killed, with what was on the disk by then', { timeout: 90_000 }, async () => {
  const path = '/killed'
  const file = { data: randomBytes(12 * MiB), etag: '"1"' }
  mirror.files.set(path, { ...file, milliseconds: 25 })
  const home = folder.fresh()
  const environment = { MORAINE_IMPORT_ALLOWED_HOSTS: '127.0.0.1', MORAINE_IMPORT_PORTS: '*' }
  const life = launch(home, environment)
  const id = await importFrom(await life.url, path)
  const received = () => {
    if (!existsSync(catalogPath(home))) return 0
    const database = new DatabaseSync(catalogPath(home), { readOnly: true })
    const row = database.prepare('select received from uploads').get() as { received: number } | undefined
    database.close()
    return row?.received ?? 0
  }
  await vi.waitUntil(() => received() > 0, { timeout: 30_000, interval: 100 })
  await life.kill()
  const onDisk = received()
  mirror.requests.length = 0
  mirror.files.set(path, file)
  const next = await launch(home, environment).url
  const image = await settled(next, id)
  expect(image).toMatchObject({ status: 'active', size: file.data.length, os_hash_value: digest(file.data) })
  expect(ranges(path)).toEqual([`GET ${path} bytes=${onDisk}-`])
  expect((await ask(`${next}/v2/images/${id}/file`)).body.equals(file.data)).toBe(true)
  expect(kept(home)).toEqual([])
})
