import { randomUUID } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import { Kysely, sql } from 'kysely'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { EmptyStep } from '../src/catalog/batch.ts'
import type { Catalog } from '../src/catalog/catalog.ts'
import { openCatalog } from '../src/catalog/open.ts'
import { sqliteDialect } from '../src/catalog/sqlite/dialect.ts'

const folder = temporaryFolder()

interface Numbers {
  numbers: { value: number }
}

describe('batches', () => {
  const dialect = sqliteDialect(folder.file('numbers.sqlite'))
  const db = new Kysely<Numbers>({ dialect })
  const insert = (value: number) => ({ query: db.insertInto('numbers').values({ value }).compile() })
  const values = async () =>
    (await db.selectFrom('numbers').selectAll().orderBy('value').execute()).map((row) => row.value)

  beforeAll(() => sql`create table numbers (value integer primary key)`.execute(db))
  afterAll(() => db.destroy())

  it('happen together or not at all, whatever others do with the same commit', async () => {
    const batches = Array.from({ length: 20 }, (_, at) =>
      dialect.batch([insert(at * 2), insert(at % 5 === 4 ? 0 : at * 2 + 1)]),
    )
    const ends = await Promise.allSettled(batches)
    expect(ends.map(({ status }) => status === 'fulfilled')).toEqual(ends.map((_, at) => at % 5 !== 4))
    expect(await values()).toEqual(
      Array.from({ length: 40 }, (_, at) => at).filter((at) => Math.floor(at / 2) % 5 !== 4),
    )
  })

  it('are taken back by a step that changes and finds nothing', async () => {
    const before = await values()
    const none = db.selectFrom('numbers').selectAll().where('value', '=', -1).compile()
    const refused = dialect.batch([insert(1000), { query: none, mustGive: true }])
    await expect(refused).rejects.toThrow(EmptyStep)
    await expect(refused).rejects.toMatchObject({ step: 1 })
    expect(await values()).toEqual(before)
  })

  it('and other writes wait for a transaction, and reads do not see it before its end', async () => {
    const before = await values()
    let meanwhile: Promise<unknown>[] = []
    const failed = db.transaction().execute(async (transaction) => {
      await transaction.insertInto('numbers').values({ value: 2000 }).execute()
      meanwhile = [dialect.batch([insert(2001)]), db.insertInto('numbers').values({ value: 2002 }).execute()]
      expect(await values()).toEqual(before)
      throw new Error('taken back')
    })
    await expect(failed).rejects.toThrow('taken back')
    await Promise.all(meanwhile)
    expect(await values()).toEqual([...before, 2001, 2002])
  })

  it('read columns that a table got meanwhile', async () => {
    await db.selectFrom('numbers').selectAll().limit(1).execute()
    await sql`alter table numbers add column word text default 'one'`.execute(db)
    expect(await db.selectFrom('numbers').selectAll().where('value', '=', 0).execute()).toEqual([
      { value: 0, word: 'one' },
    ])
  })
})

describe('images created at once', () => {
  let catalog: Catalog
  beforeAll(async () => {
    const data = folder.fresh()
    mkdirSync(data, { recursive: true })
    catalog = await openCatalog(data)
  })
  afterAll(() => catalog.close())

  it('get each id once, with its properties and tags as of who was first', async () => {
    const id = randomUUID()
    const tries = await Promise.allSettled(
      Array.from({ length: 10 }, (_, at) =>
        catalog.create({ id, properties: new Map([['__proto__', `${at}`]]), tags: ['b', `${at}`, 'a'] }),
      ),
    )
    expect(tries.map(({ status }) => status)).toEqual(['fulfilled', ...Array(9).fill('rejected')])
    const image = await catalog.get(id)
    expect(image?.properties).toEqual(new Map([['__proto__', '0']]))
    expect(image?.tags).toEqual(['b', '0', 'a'])
  })

  it('are no more than their owner may have', async () => {
    const create = () => catalog.create({ id: randomUUID(), owner: 'bounded' }, 3)
    const tries = await Promise.allSettled(Array.from({ length: 10 }, create))
    expect(tries.filter(({ status }) => status === 'fulfilled')).toHaveLength(3)
    for (const end of tries) if (end.status === 'rejected') expect(end.reason).toMatchObject({ kind: 'too-many' })
  })
})
