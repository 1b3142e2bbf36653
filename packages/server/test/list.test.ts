/** Lists: filters, order, and pages that neither lose nor repeat an image. */
import { randomUUID } from 'node:crypto'
import { beforeAll, describe, expect, it } from 'vitest'
import type { Image } from '../src/catalog/image.ts'
import { createImage, type ImageDocument, type Subject, services, upload } from './support/service.ts'

const start = services()

interface ListDocument {
  images: ImageDocument[]
  first: string
  next?: string
  schema: string
}

async function list(subject: Subject, query = '', status = 200): Promise<ListDocument> {
  const answer = await subject.app.inject(`/v2/images${query}`)
  expect([query, answer.statusCode]).toEqual([query, status])
  return answer.statusCode === 200 ? answer.json() : { images: [], first: '', schema: '' }
}

const names = (document: ListDocument) => document.images.map(({ name }) => name)

describe('filters', () => {
  let subject: Subject
  const ids: Record<string, string> = {}
  beforeAll(async () => {
    subject = await start()
    const make = async (name: string, attributes: Record<string, unknown> = {}, data?: string) => {
      ids[name] = await createImage(subject.url, { name, ...attributes })
      if (data !== undefined) await upload(subject.url, ids[name] ?? '', Buffer.from(data))
    }
    await make('a', { tags: ['x', 'y'], os_distro: 'debian', min_ram: 5 }, 'one')
    await make('b', { tags: ['x'], os_distro: 'debian', arch: 'arm' }, 'three')
    await make('c,d', { visibility: 'public', protected: true, owner: 'me' })
    await make('hidden', { os_hidden: true })
    await make('communal', { visibility: 'community' })
    await make('say "hi"', { disk_format: 'qcow2', visibility: 'private' })
  })

  it.each([
    ['', ['a', 'b', 'c,d', 'say "hi"']],
    ['name=a', ['a']],
    ['name=eq:a', ['a']],
    ['name=in:a,b', ['a', 'b']],
    ['name=in:"c,d",a', ['a', 'c,d']],
    ['name=absent', []],
    ['status=active', ['a', 'b']],
    ['status=in:active,queued', ['a', 'b', 'c,d', 'say "hi"']],
    ['disk_format=qcow2', ['say "hi"']],
    ['disk_format=in:raw,iso', ['a', 'b', 'c,d']],
    ['container_format=bare', ['a', 'b', 'c,d', 'say "hi"']],
    ['visibility=public', ['c,d']],
    ['visibility=community', ['communal']],
    ['visibility=all', ['a', 'b', 'c,d', 'communal', 'say "hi"']],
    ['os_hidden=true', ['hidden']],
    ['os_hidden=True', ['hidden']],
    ['protected=true', ['c,d']],
    ['owner=me', ['c,d']],
    ['tag=x', ['a', 'b']],
    ['tag=x&tag=y', ['a']],
    ['os_distro=debian', ['a', 'b']],
    ['os_distro=debian&arch=arm', ['b']],
    ['unknown=thing', []],
    ['size_min=4', ['b']],
    ['size_max=3', ['a']],
    ['size_min=-5', ['a', 'b']],
    ['size=3', ['a']],
    ['size=three', []],
    ['min_ram=5', ['a']],
    ['checksum=f97c5d29941bfb1b2fdab0874906ab82', ['a']],
    ['created_at=gt:2020-01-01', ['a', 'b', 'c,d', 'say "hi"']],
    ['created_at=lt:2020-01-01T00:00:00Z', []],
    ['created_at=2020-01-01T00:00:00%2B01:00', []],
    ['updated_at=neq:2020-01-01T00:00:00', ['a', 'b', 'c,d', 'say "hi"']],
    ['member_status=all', ['a', 'b', 'c,d', 'say "hi"']],
  ])('%s', async (query, expected) => {
    expect(names(await list(subject, `?${query}`)).toSorted()).toEqual(expected)
  })

  it('compares times to the second', async () => {
    const created = (await list(subject, '?name=a')).images[0]?.created_at as string
    for (const [operator, count] of [
      ['eq', 1],
      ['gte', 1],
      ['lte', 1],
      ['gt', 0],
      ['lt', 0],
      ['neq', 0],
    ]) {
      const query = `?name=a&created_at=${operator}:${encodeURIComponent(created)}`
      expect([operator, (await list(subject, query)).images.length]).toEqual([operator, count])
    }
  })

  it('finds an image by id', async () => {
    expect(names(await list(subject, `?id=${ids.a}`))).toEqual(['a'])
    expect(names(await list(subject, `?id=in:${ids.a},${ids.b}`)).toSorted()).toEqual(['a', 'b'])
  })

  it.each([
    'limit=x',
    'limit=-1',
    `marker=${randomUUID()}`,
    'sort_key=bogus',
    'sort_dir=up',
    'sort=name:up',
    'sort=bogus',
    'sort=name&sort_key=size',
    'sort_key=name&sort_key=size&sort_dir=asc&sort_dir=asc&sort_dir=asc',
    'visibility=secret',
    'member_status=odd',
    'os_hidden=maybe',
    'protected=maybe',
    'created_at=yesterday',
    'created_at=near:2020-01-01',
    'name=like:a',
    'name=in:"a',
    'name=in:a"b"',
    'size_min=x',
    'changes-since=2020-01-01',
  ])('refuses %s', async (query) => {
    await list(subject, `?${query}`, 400)
  })

  it('names the sort keys', async () => {
    const answer = await subject.app.inject('/v2/images?limit=1&name=wire&sort_key=bogus')
    expect(answer.body).toContain(
      'Invalid sort key: bogus. It must be one of the following: name, status, container_format, disk_format, size, id, created_at, updated_at.',
    )
  })
})

describe('pages', () => {
  let subject: Subject
  const count = 2000
  const all: Image[] = []
  beforeAll(async () => {
    subject = await start()
    for (let index = 0; index < count; index++) {
      all.push(
        await subject.service.catalog.create({
          id: randomUUID(),
          // Names repeat, and one in seven images has none: ties and gaps in every order.
          name: index % 7 === 0 ? null : `name ${index % 50}`,
          diskFormat: index % 3 === 0 ? null : index % 3 === 1 ? 'raw' : 'qcow2',
          tags: index % 2 === 0 ? ['even'] : [],
        }),
      )
    }
  })

  async function walk(query: string): Promise<ImageDocument[]> {
    const found: ImageDocument[] = []
    for (let url: string | undefined = query; url !== undefined; ) {
      const page = await list(subject, url)
      found.push(...page.images)
      url = page.next?.replace('/v2/images', '')
    }
    return found
  }

  it.each([
    '?limit=700',
    '?limit=999&sort=name:asc',
    '?limit=333&sort=name:desc,created_at:asc',
    '?limit=500&sort_key=disk_format&sort_dir=asc&sort_key=name&sort_dir=desc',
    '?limit=1000&sort_key=size&sort_dir=asc',
    '?limit=400&sort=id',
    '?limit=800&sort=status,updated_at:asc',
  ])('%s shows every image once', async (query) => {
    const found = await walk(query)
    expect(found.length).toBe(count)
    expect(new Set(found.map(({ id }) => id)).size).toBe(count)
  })

  it('sorts as asked, what has no name first', async () => {
    const found = await walk('?limit=1000&sort=name:asc,id:desc')
    const expected = all.toSorted((a, b) => compare(a.name ?? '', b.name ?? '') || -compare(a.id, b.id))
    expect(found.map(({ id }) => id)).toEqual(expected.map(({ id }) => id))
  })

  it('has the newest first by default, and 25 on a page', async () => {
    const page = await list(subject)
    const expected = all.toSorted((a, b) => b.createdAt - a.createdAt || -compare(a.id, b.id)).slice(0, 25)
    expect(page.images.map(({ id }) => id)).toEqual(expected.map(({ id }) => id))
    expect([page.first, page.schema]).toEqual(['/v2/images', '/v2/schemas/images'])
    expect(page.next).toBe(`/v2/images?marker=${page.images.at(-1)?.id}`)
  })

  it('keeps the query in its links, and filters on every page', async () => {
    const page = await list(subject, '?limit=10&sort=created_at:desc&tag=even')
    expect(page.first).toBe('/v2/images?limit=10&sort=created_at%3Adesc&tag=even')
    expect(page.next).toBe(`${page.first}&marker=${page.images.at(-1)?.id}`)
    expect((await walk('?limit=1000&tag=even')).length).toBe(count / 2)
  })

  it('clips the limit, and gives nothing for none', async () => {
    expect((await list(subject, '?limit=5000')).images.length).toBe(1000)
    expect((await list(subject, '?limit=0')).images).toEqual([])
    expect(await list(subject, '?limit=1000&name=name 1')).not.toHaveProperty('next')
  })

  it('begins behind its marker, whatever came in between', async () => {
    const first = await list(subject, '?limit=3&sort=id:asc')
    const marker = first.images.at(-1)?.id
    const rest = await list(subject, `?limit=3&sort=id:asc&marker=${marker}`)
    const order = all.map(({ id }) => id).toSorted()
    expect([...first.images, ...rest.images].map(({ id }) => id)).toEqual(order.slice(0, 6))
  })
})

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
