/** Backups and restores of the catalog, changes of its tables, and the doctor. */
import { existsSync, mkdirSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { Kysely } from 'kysely'
import { Migrator } from 'kysely/migration'
import { describe, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { catalogPath, openCatalog } from '../src/catalog/open.ts'
import { sqliteDialect } from '../src/catalog/sqlite/dialect.ts'
import { migrations, type Tables } from '../src/catalog/tables.ts'
import { backUp, doctor, type Finding, restore } from '../src/upkeep.ts'
import { expectFilled, fill } from './support/old-catalog.ts'
import { createImage, type ImageDocument, services, showImage, upload } from './support/service.ts'

const start = services()
const folder = temporaryFolder()

async function examined(data: string, repair = false, verify = false): Promise<Finding[]> {
  const found: Finding[] = []
  for await (const finding of doctor({ data }, { repair, verify })) found.push(finding)
  return found
}

const images = (data: string) => join(data, 'store', 'images')

describe('a backup', () => {
  it('is one moment of a catalog in use, and only its owner may read it', async () => {
    const { url, data } = await start()
    const made: Promise<string>[] = []
    for (let index = 0; index < 40; index++) made.push(createImage(url, { name: `image ${index}` }))
    const copy = folder.file('backup.sqlite')
    backUp({ data }, copy)
    const ids = await Promise.all(made)
    expect(statSync(copy).mode & 0o777).toBe(0o600)
    const database = new DatabaseSync(copy, { readOnly: true })
    const count = Number(database.prepare('select count(*) as n from images').get()?.n)
    database.close()
    expect(count).toBeLessThanOrEqual(ids.length)
    expect(() => backUp({ data }, copy)).toThrow('is there already')
    expect(() => backUp({ data: folder.file('nothing') }, folder.file('no.sqlite'))).toThrow('there is no')
  })

  it('comes back: images as they were, data of later ones kept until the doctor has looked', async () => {
    const first = await start()
    const { data } = first
    const old = await createImage(first.url, { name: 'old' })
    await upload(first.url, old, Buffer.from('old data'))
    const copy = folder.file('restorable.sqlite')
    backUp({ data }, copy)
    const late = await createImage(first.url, { name: 'late' })
    await upload(first.url, late, Buffer.from('late data'))
    await expect(restore({ data }, copy)).rejects.toMatchObject({ kind: 'locked' })
    await first.close()

    const aside = await restore({ data }, copy)
    expect(existsSync(aside ?? '')).toBe(true)
    const second = await start({ data })
    expect((await showImage(second.url, old)).status).toBe('active')
    expect(readdirSync(images(data))).toHaveLength(2)
    expect(await examined(data)).toMatchObject([{ kind: 'orphan-data', repaired: false }])
    expect(await examined(data, true)).toMatchObject([{ kind: 'orphan-data', repaired: true }])
    expect(readdirSync(images(data))).toHaveLength(1)
    expect(await examined(data, false, true)).toEqual([])
  })

  it('that cannot be used is refused, and nothing is changed', async () => {
    const subject = await start()
    const { data } = subject
    const id = await createImage(subject.url)
    const copy = folder.file('newer.sqlite')
    backUp({ data }, copy)
    await subject.close()
    const database = new DatabaseSync(copy)
    database.exec("insert into kysely_migration values ('9999_from_the_future', '2100-01-01')")
    database.close()
    const nonsense = folder.file('nonsense.sqlite')
    writeFileSync(nonsense, 'no database at all')
    const other = folder.file('other.sqlite')
    new DatabaseSync(other).exec('create table t (a)')
    await expect(restore({ data }, copy)).rejects.toMatchObject({ kind: 'unsupported' })
    await expect(restore({ data }, nonsense)).rejects.toMatchObject({ kind: 'corrupt' })
    await expect(restore({ data }, other)).rejects.toMatchObject({ kind: 'corrupt' })
    await expect(restore({ data }, folder.file('nowhere.sqlite'))).rejects.toMatchObject({ kind: 'missing' })
    const again = await start({ data })
    expect((await showImage(again.url, id)).id).toBe(id)
  })
})

describe('changes of the tables', () => {
  const names = Object.keys(migrations)

  /** A catalog as a version left it that knew only the first changes. */
  async function older(count: number): Promise<string> {
    const data = folder.fresh()
    mkdirSync(data, { recursive: true })
    const db = new Kysely<Tables>({ dialect: sqliteDialect(catalogPath(data)) })
    const known = Object.fromEntries(Object.entries(migrations).slice(0, count))
    const { error } = await new Migrator({ db, provider: { getMigrations: async () => known } }).migrateToLatest()
    await db.destroy()
    if (error !== undefined) throw error
    return data
  }

  it.each(names.slice(0, -1).map((name, index) => [name, index + 1] as const))(
    'are made to a catalog that ends with %s, with a copy of it beside',
    async (_name, count) => {
      const data = await older(count)
      const database = new DatabaseSync(catalogPath(data))
      fill(database, names.slice(0, count))
      database.close()
      const catalog = await openCatalog(data)
      try {
        await expectFilled(catalog, names.slice(0, count))
      } finally {
        await catalog.close()
      }
      const copy = `${catalogPath(data)}.before-${names[count]}`
      const before = new DatabaseSync(copy, { readOnly: true })
      const seen = before.prepare('select name from kysely_migration order by name').all()
      before.close()
      expect(seen.map(({ name }) => name)).toEqual(names.slice(0, count))
    },
  )

  it('are made once by two processes that start at once', async () => {
    const data = await older(1)
    const both = await Promise.all([openCatalog(data), openCatalog(data)])
    for (const catalog of both) {
      expect((await catalog.usages.of(null)).bytes).toBe(0)
      await catalog.close()
    }
  })

  it('of a newer version are refused by name', async () => {
    const data = await older(names.length)
    const database = new DatabaseSync(catalogPath(data))
    database.exec("insert into kysely_migration values ('9999_from_the_future', '2100-01-01')")
    database.close()
    await expect(openCatalog(data)).rejects.toMatchObject({
      kind: 'unsupported',
      message: expect.stringContaining('9999_from_the_future'),
    })
  })
})

describe('the doctor', () => {
  it('finds what is missing, cut, changed or owned by nobody, and puts it right', async () => {
    const { url, data, service } = await start({
      stores: `one=folder:${folder.fresh()}, default; two=folder:${folder.fresh()}`,
    })
    const make = async (name: string) => {
      const id = await createImage(url, { name })
      await upload(url, id, Buffer.from(`the data of ${name}`))
      const [location] = (await service.catalog.get(id))?.locations ?? []
      const place = String(service.stores.get('one')?.data.properties.data_dir)
      return { id, path: join(place, 'images', location?.key ?? '') }
    }
    const [whole, gone, cut, changed] = [
      await make('whole'),
      await make('gone'),
      await make('cut'),
      await make('changed'),
    ]
    rmSync(gone.path)
    truncateSync(cut.path, 3)
    writeFileSync(changed.path, 'THE DATA of changed')
    const orphan = join(changed.path, '..', '00000000-0000-4000-8000-00000000abcd.12345678')
    writeFileSync(orphan, 'nobody')
    const stores = service.config.stores
    const run = async (repair: boolean, verify: boolean) => {
      const found: Finding[] = []
      for await (const finding of doctor({ data, stores }, { repair, verify })) found.push(finding)
      return found.map(({ kind, image }) => `${kind} ${image ?? ''}`).sort()
    }
    const expected = [`missing-data ${gone.id}`, 'orphan-data ', `short-data ${cut.id}`]
    expect(await run(false, false)).toEqual(expected)
    expect(await run(false, true)).toEqual([...expected, `wrong-digest ${changed.id}`])
    await run(true, true)
    expect(await run(false, true)).toEqual([])
    const statuses = await Promise.all(
      [whole, gone, cut, changed].map(async ({ id }) => (await showImage(url, id)).status),
    )
    expect(statuses).toEqual(['active', 'queued', 'queued', 'queued'])
    expect((await upload(url, gone.id, Buffer.from('again'))).status).toBe(204)
    expect(existsSync(orphan)).toBe(false)
  })

  it('leaves alone what waits for a store that the settings do not name', async () => {
    const place = folder.fresh()
    const subject = await start({ stores: `far=folder:${place}, default` })
    const id = await createImage(subject.url)
    await upload(subject.url, id, Buffer.from('far away'))
    await subject.close()
    const found = await examined(subject.data, true)
    expect(found).toMatchObject([{ kind: 'unknown-store', image: id, store: 'far', repaired: false }])
    const again = await start({ data: subject.data, stores: `far=folder:${place}, default` })
    const shown: ImageDocument = await showImage(again.url, id)
    expect(shown.status).toBe('active')
  })
})
