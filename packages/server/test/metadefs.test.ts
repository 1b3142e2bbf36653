/** The metadata definitions, where no Glance is there to compare with: what differs from it on purpose, all or nothing, restarts, older catalogs. */
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { Kysely, sql } from 'kysely'
import { Migrator } from 'kysely/migration'
import { beforeAll, describe, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { starterNamespaces } from '../src/catalog/metadefs-starter.ts'
import { openCatalog } from '../src/catalog/open.ts'
import { sqliteDialect } from '../src/catalog/sqlite/dialect.ts'
import { migrations, type Tables } from '../src/catalog/tables.ts'
import { type Answer, ask, services } from './support/service.ts'

const start = services()
const folder = temporaryFolder()
const all = '/v2/metadefs/namespaces'

type Request = (line: string, body?: unknown) => Promise<Answer>

async function asker(): Promise<Request> {
  const { url } = await start()
  return (line, body) => {
    const [method = '', path = ''] = line.split(' ')
    const accept = { accept: 'application/json', 'content-type': 'application/json' }
    return ask(`${url}${path}`, method, body === undefined ? undefined : JSON.stringify(body), accept)
  }
}

interface List {
  namespaces: { namespace: string }[]
  next?: string
  first: string
}

describe('requests that Glance fails on', () => {
  let request: Request
  beforeAll(async () => {
    request = await asker()
  })

  it.each([
    ['a body that is a list', []],
    ['a tag without a name', { namespace: 'N', tags: [{}] }],
    ['an object without a name', { namespace: 'N', objects: [{ description: 'x' }] }],
    ['an association without a name', { namespace: 'N', resource_type_associations: [{ prefix: 'x' }] }],
    ['an unknown attribute of a property', { namespace: 'N', properties: { p: { title: 'P', type: 'string', x: 1 } } }],
    ['an enum of numbers', { namespace: 'N', properties: { p: { title: 'P', type: 'integer', enum: [1] } } }],
    ['items without a type', { namespace: 'N', properties: { p: { title: 'P', type: 'array', items: {} } } }],
    ['a name of nothing', { namespace: '' }],
    ['a name of nothing inside', { namespace: 'N', tags: [{ name: '' }] }],
    ['a name that is too long inside', { namespace: 'N', tags: [{ name: 'x'.repeat(81) }] }],
    [
      'a property whose name is too long',
      { namespace: 'N', properties: { ['x'.repeat(81)]: { title: 'P', type: 'string' } } },
    ],
  ])('%s is 400, and makes nothing', async (_what, body) => {
    expect((await request(`POST ${all}`, body)).status).toBe(400)
    expect((await request(`GET ${all}/N`)).status).toBe(404)
  })

  it.each(['limit=x', 'limit=', 'sort_key=colour', 'sort_key='])('%s of a list is 400', async (query) => {
    expect((await request(`GET ${all}?${query}`)).status).toBe(400)
  })

  it.each([20, 400])('a limit of %d digits is a limit', async (digits) => {
    const limit = '9'.repeat(digits)
    for (const path of [all, `${all}/Moraine::Guest/tags`, `${all}/Moraine::Guest/objects`])
      expect((await request(`GET ${path}?limit=${limit}`)).status).toBe(200)
  })

  it('a namespace needs no owner', async () => {
    expect((await request(`POST ${all}`, { namespace: 'N' })).status).toBe(201)
    expect((await request(`PUT ${all}/N`, { namespace: 'N', display_name: 'n' })).json()).toMatchObject({
      namespace: 'N',
      display_name: 'n',
      visibility: 'private',
      protected: false,
    })
  })
})

it('names may have any character, and be those of every object', async () => {
  const request = await asker()
  const properties = '{"__proto__": {"title": "P", "type": "string", "default": "ä"}}'
  for (const name of ['ä/b %', '__proto__', 'constructor']) {
    const path = `${all}/${encodeURIComponent(name)}`
    const body = { namespace: name, properties: JSON.parse(properties), tags: [{ name }] }
    const made = await request(`POST ${all}`, body)
    expect([made.status, made.headers.location]).toEqual([201, expect.stringMatching(/^http:[!-~]+$/)])
    expect(JSON.stringify((await request(`GET ${path}/properties`)).json().properties)).toContain('"__proto__":{')
    expect((await request(`GET ${path}/properties/__proto__`)).json()).toMatchObject({ default: 'ä' })
    expect((await request(`DELETE ${path}/tags/${encodeURIComponent(name)}`)).status).toBe(204)
    expect((await request(`DELETE ${path}`)).status).toBe(204)
    expect((await request(`GET ${path}`)).status).toBe(404)
  }
})

it('a namespace is made with all its parts or not at all', async () => {
  const request = await asker()
  const body = { namespace: 'N', resource_type_associations: [{ name: 'New' }], tags: [{ name: 'a' }, { name: 'a' }] }
  expect((await request(`POST ${all}`, body)).status).toBe(409)
  expect((await request(`GET ${all}/N`)).status).toBe(404)
  const { resource_types: types } = (await request('GET /v2/metadefs/resource_types')).json()
  expect(types).not.toContainEqual(expect.objectContaining({ name: 'New' }))
})

it('many requests for one name make one namespace', async () => {
  const request = await asker()
  const answers = await Promise.all(Array.from({ length: 8 }, () => request(`POST ${all}`, { namespace: 'N' })))
  expect(answers.map(({ status }) => status).sort()).toEqual([201, ...Array(7).fill(409)])
})

it('pages in every order show each namespace once', async () => {
  const request = await asker()
  for (let i = 0; i < 12; i++) {
    const body = { namespace: `N${i}`, display_name: i % 3 === 0 ? undefined : `same ${i % 2}`, protected: i % 2 === 0 }
    await request(`POST ${all}`, body)
  }
  const whole = (await request(`GET ${all}?limit=100`)).json<List>().namespaces.map(({ namespace }) => namespace)
  expect(whole).toHaveLength(12 + starterNamespaces.length)
  for (const key of ['namespace', 'display_name', 'protected', 'owner', 'updated_at', 'id']) {
    for (const direction of ['asc', 'desc']) {
      const seen: string[] = []
      let next: string | undefined = `${all}?sort_key=${key}&sort_dir=${direction}&limit=5`
      while (next !== undefined) {
        const page: List = (await request(`GET ${next}`)).json<List>()
        seen.push(...page.namespaces.map(({ namespace }) => namespace))
        next = page.next
      }
      expect([...seen].sort(), `${key} ${direction}`).toEqual([...whole].sort())
    }
  }
})

describe('the starter set', () => {
  it('keeps to the rules for what comes from outside', async () => {
    const request = await asker()
    for (const document of starterNamespaces) {
      const again = { ...document, namespace: `${document.namespace}::Again` }
      const made = await request(`POST ${all}`, again)
      expect(made.status, document.namespace).toBe(201)
      const [ours, theirs] = await Promise.all(
        [document.namespace, again.namespace].map(async (name) => (await request(`GET ${all}/${name}`)).json()),
      )
      expect(ours?.properties).toEqual(theirs?.properties)
      expect(ours?.tags).toEqual(theirs?.tags)
    }
  })

  it('is put into a catalog once: what was deleted stays so', async () => {
    const path = folder.fresh()
    await mkdir(path)
    const first = await openCatalog(path)
    expect((await first.metadefs.get('Moraine::Guest'))?.protected).toBe(true)
    await first.metadefs.remove('Moraine::Guest', () => {})
    await first.close()
    const second = await openCatalog(path)
    expect(await second.metadefs.get('Moraine::Guest')).toBeUndefined()
    expect(await second.metadefs.get('Moraine::Origin')).toBeDefined()
    await second.close()
  })

  it('comes to a catalog that is older than it, and leaves its images', async () => {
    const path = folder.fresh()
    await mkdir(path)
    const { '0001_images': oldest } = migrations
    if (oldest === undefined) throw new Error('no first migration')
    const db = new Kysely<Tables>({ dialect: sqliteDialect(join(path, 'catalog.sqlite')) })
    const provider = { getMigrations: () => Promise.resolve({ '0001_images': oldest }) }
    expect((await new Migrator({ db, provider }).migrateToLatest()).error).toBeUndefined()
    const zeros = { protected: 0, os_hidden: 0, min_ram: 0, min_disk: 0, created_at: 1, updated_at: 1 }
    const image = { id: 'a', name: 'kept', status: 'queued', visibility: 'shared', ...zeros }
    await sql`insert into images (${sql.join(Object.keys(image).map((name) => sql.ref(name)))})
      values (${sql.join(Object.values(image))})`.execute(db)
    await db.destroy()
    const catalog = await openCatalog(path)
    expect((await catalog.get('a'))?.name).toBe('kept')
    expect(await catalog.metadefs.get('Moraine::Guest')).toBeDefined()
    await catalog.close()
  })
})
