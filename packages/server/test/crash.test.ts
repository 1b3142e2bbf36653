/** The service killed in the middle of uploads, as a real process: what it finds when it comes back. */
import { randomBytes } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { startMirror } from './support/mirror.ts'
import { servedProcesses, until } from './support/served.ts'
import { ask, binary, createImage, showImage, upload } from './support/service.ts'

const folder = temporaryFolder()
const MiB = 1024 * 1024
const serve = servedProcesses()

async function* endless(): AsyncGenerator<Uint8Array> {
  for (const block = randomBytes(65_536); ; await sleep(1)) yield block
}

/** The images that have files. */
const files = (data: string, name: string) =>
  readdirSync(join(data, 'store', name)).map((file) => file.replace(/\..*$/, ''))

describe('kill -9', () => {
  it('in the middle of uploads leaves queued images, no data of theirs, and all the rest', async () => {
    const data = folder.fresh()
    const first = await serve(data)
    const kept = await createImage(first.url, { name: 'kept', tags: ['t'] })
    const content = randomBytes(3 * MiB)
    expect((await upload(first.url, kept, content)).status).toBe(204)
    const cut = await Promise.all([1, 2, 3].map((number) => createImage(first.url, { name: `cut ${number}` })))
    const uploads = cut.map((id) => upload(first.url, id, endless()).catch(() => 'cut'))
    await until(async () =>
      (await Promise.all(cut.map((id) => showImage(first.url, id)))).every(({ status }) => status === 'saving'),
    )
    await until(() => files(data, 'uploads').length === 3)
    await sleep(200)
    await first.kill()
    expect(await Promise.all(uploads)).toEqual(['cut', 'cut', 'cut'])
    expect(files(data, 'uploads').length).toBe(3)

    const second = await serve(data)
    expect(files(data, 'uploads')).toEqual([])
    expect(files(data, 'images')).toEqual([kept])
    for (const id of cut) {
      expect(await showImage(second.url, id)).toMatchObject({ status: 'queued', size: null, checksum: null })
    }
    expect((await ask(`${second.url}/v2/images/${kept}/file`)).body.equals(content)).toBe(true)
    expect((await upload(second.url, cut[0] ?? '', content)).status).toBe(204)
    await second.end()
  })

  it('at any moment around the end of an upload leaves all of it or nothing', async () => {
    const data = folder.fresh()
    let service = await serve(data)
    const content = randomBytes(MiB)
    const outcomes: string[] = []
    for (let round = 0; round < 8; round++) {
      const id = await createImage(service.url)
      const sent = upload(service.url, id, content).then(
        ({ status }) => status,
        () => 0,
      )
      await sleep(round * 4)
      await service.kill()
      const status = await sent
      service = await serve(data)
      const image = await showImage(service.url, id)
      const there = files(data, 'images').includes(id)
      outcomes.push(image.status)
      expect([image.status, there]).toEqual(image.status === 'active' ? ['active', true] : ['queued', false])
      // What the client was told holds.
      if (status === 204) expect(image.status).toBe('active')
      if (there) expect((await ask(`${service.url}/v2/images/${id}/file`)).body.equals(content)).toBe(true)
      expect(files(data, 'uploads')).toEqual([])
    }
    expect(outcomes).toHaveLength(8)
    await service.kill()
  })
})

describe('kill -9 in the middle of an import', () => {
  it('is made up for by the next process: the same task brings the data', async () => {
    const mirror = await startMirror()
    const content = randomBytes(4 * MiB)
    mirror.files.set('/image', { data: content, etag: '"1"', milliseconds: 20 })
    const data = folder.fresh()
    const environment = { MORAINE_IMPORT_ALLOWED_HOSTS: '127.0.0.1', MORAINE_IMPORT_PORTS: '*' }
    const first = await serve(data, environment)
    const [fetched = '', staged = ''] = await Promise.all([createImage(first.url), createImage(first.url)])
    const post = (id: string, method: object) =>
      ask(`${first.url}/v2/images/${id}/import`, 'POST', JSON.stringify({ method }))
    await ask(`${first.url}/v2/images/${staged}/stage`, 'PUT', content, binary)
    expect((await post(fetched, { name: 'web-download', uri: `${mirror.url}/image` })).status).toBe(202)
    await until(() => files(data, 'uploads').length === 1)
    expect((await post(staged, { name: 'glance-direct' })).status).toBe(202)
    await first.kill()

    const second = await serve(data, environment)
    for (const id of [fetched, staged]) {
      await until(async () => {
        const { status, os_glance_import_task } = await showImage(second.url, id)
        return status === 'active' && os_glance_import_task === undefined
      })
      expect((await ask(`${second.url}/v2/images/${id}/file`)).body.equals(content)).toBe(true)
      const { tasks } = (await ask(`${second.url}/v2/images/${id}/tasks`)).json<{ tasks: { status: string }[] }>()
      expect(tasks).toHaveLength(1)
    }
    expect(files(data, 'uploads')).toEqual([])
    expect(files(data, 'images').toSorted()).toEqual([fetched, staged].toSorted())
    expect(readdirSync(join(data, 'staging', 'images'))).toEqual([])
    await second.end()
  })
})

describe('kill -9 in the middle of imports, three times', () => {
  it('is not made up for any more: the images wait for data again', async () => {
    const mirror = await startMirror()
    const content = randomBytes(4 * MiB)
    mirror.files.set('/image', { data: content, etag: '"1"', milliseconds: 250 })
    const data = folder.fresh()
    const environment = {
      ...{ MORAINE_IMPORT_ALLOWED_HOSTS: '127.0.0.1', MORAINE_IMPORT_PORTS: '*' },
      MORAINE_STORES: `one=folder:${folder.fresh()}, default; web=http`,
    }
    let service = await serve(data, environment)
    const ids = await Promise.all([createImage(service.url), createImage(service.url)])
    const source = `${mirror.url}/image`
    const post = (path: string, body: object) => ask(`${service.url}/v2/images/${path}`, 'POST', JSON.stringify(body))
    const fetched = { method: { name: 'web-download', uri: source } }
    expect((await post(`${ids[0]}/import`, fetched)).status).toBe(202)
    expect((await post(`${ids[1]}/locations`, { url: source })).status).toBe(202)
    await until(async () => (await showImage(service.url, ids[0])).status === 'importing')
    for (let death = 1; death <= 3; death++) {
      await until(() => attempts(data).every((count) => count === death))
      await service.kill()
      service = await serve(data, environment)
    }
    for (const id of ids) {
      await until(async () => (await showImage(service.url, id)).os_glance_import_task === undefined)
      expect(await showImage(service.url, id)).toMatchObject({ status: 'queued', size: null, checksum: null })
      expect((await upload(service.url, id, content)).status).toBe(204)
    }
    await service.end()
  })
})

/** How often each task was begun. */
function attempts(data: string): number[] {
  const database = new DatabaseSync(join(data, 'catalog.sqlite'), { readOnly: true })
  const rows = database.prepare('select attempts from tasks').all()
  database.close()
  return rows.map((row) => Number(row.attempts))
}

describe('a data folder', () => {
  it('loses what no image owns, but nothing of a stranger', async () => {
    const data = folder.fresh()
    const first = await serve(data)
    const id = await createImage(first.url)
    await upload(first.url, id, Buffer.from('data'))
    await first.end()
    writeFileSync(join(data, 'store', 'images', '00000000-1111-2222-3333-444444444444'), 'orphan')
    writeFileSync(join(data, 'store', 'images', 'README'), 'of the owner')
    mkdirSync(join(data, 'store', 'other'))
    const second = await serve(data)
    expect(files(data, 'images').toSorted()).toEqual([id, 'README'].toSorted())
    await second.end()
  })

  it('may be shared by several processes: one that starts leaves alone what another is at', async () => {
    const data = folder.fresh()
    const first = await serve(data)
    const [slow = '', done = ''] = await Promise.all([createImage(first.url), createImage(first.url)])
    let go = false
    const content = randomBytes(MiB)
    async function* waiting(): AsyncGenerator<Uint8Array> {
      yield content
      while (!go) await sleep(10)
      yield content
    }
    const sent = upload(first.url, slow, waiting())
    await until(async () => (await showImage(first.url, slow)).status === 'saving')
    await until(() => files(data, 'uploads').length === 1)
    const second = await serve(data)
    expect((await upload(second.url, done, content)).status).toBe(204)
    expect((await showImage(second.url, slow)).status).toBe('saving')
    go = true
    expect((await sent).status).toBe(204)
    expect((await ask(`${second.url}/v2/images/${slow}/file`)).body.length).toBe(2 * MiB)
    expect((await ask(`${first.url}/v2/images/${done}/file`)).body.equals(content)).toBe(true)
    await first.end()
    await second.end()
  })

  it('is made by one of several processes that start at once', async () => {
    const data = folder.fresh()
    const all = await Promise.all([1, 2, 3].map(() => serve(data)))
    for (const { url } of all) expect((await ask(`${url}/v2/images`)).status).toBe(200)
    await Promise.all(all.map(({ end }) => end()))
  })

  it('is cleaned of what a killed process was at by one that lives on', async () => {
    const data = folder.fresh()
    const [first, second] = await Promise.all([serve(data), serve(data)])
    const id = await createImage(first.url)
    const sent = upload(first.url, id, endless()).catch(() => 'cut')
    await until(() => files(data, 'uploads').length === 1)
    await first.kill()
    expect(await sent).toBe('cut')
    await until(async () => (await showImage(second.url, id)).status === 'queued')
    await until(() => files(data, 'uploads').length === 0)
    await second.end()
  })
})

describe('memory', () => {
  it('is bounded while large images come and go', async () => {
    const service = await serve(folder.fresh())
    const id = await createImage(service.url)
    const peak = () => Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${service.pid}/status`, 'utf8'))?.[1]) * 1024
    await upload(service.url, await createImage(service.url), randomBytes(MiB))
    const before = peak()
    const size = 384 * MiB
    async function* data(): AsyncGenerator<Uint8Array> {
      const block = randomBytes(MiB)
      for (let sent = 0; sent < size; sent += block.length) yield block
    }
    expect((await upload(service.url, id, data())).status).toBe(204)
    const answer = await fetch(`${service.url}/v2/images/${id}/file`)
    let read = 0
    for await (const part of answer.body ?? []) read += part.length
    expect(read).toBe(size)
    expect(peak() - before).toBeLessThan(96 * MiB)
    await service.end()
  })
})
