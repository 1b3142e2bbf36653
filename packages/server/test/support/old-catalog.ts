/** Rows in a catalog as older versions left it: something in each table that was there then, and what must be there of it after the changes. */
import type { DatabaseSync } from 'node:sqlite'
import { expect } from 'vitest'
import type { Catalog } from '../../src/catalog/catalog.ts'
import { singleStore } from '../../src/catalog/image.ts'

const image = (digit: number) => `12345678-0000-4000-8000-00000000000${digit}`
const [kept, active, saving] = [image(1), image(2), image(3)]
const task = (digit: number) => `87654321-0000-4000-8000-00000000000${digit}`
const facts = {
  visibility: 'public',
  protected: 0,
  os_hidden: 0,
  min_ram: 0,
  min_disk: 0,
  created_at: 5,
  updated_at: 6,
}

type Row = Readonly<Record<string, string | number | null>>

function insert(database: DatabaseSync, table: string, row: Row): void {
  const names = Object.keys(row)
  const places = names.map(() => '?').join(', ')
  database.prepare(`insert into ${table} (${names.join(', ')}) values (${places})`).run(...Object.values(row))
}

/** The tables by the change that made them; each is filled when the catalog knows that change. */
const rows: Readonly<Record<string, readonly (readonly [string, Row])[]>> = {
  '0001_images': [
    ['images', { id: kept, name: 'kept', status: 'queued', ...facts, owner: 'p1' }],
    ['image_properties', { image_id: kept, name: 'color', value: 'green' }],
    ['image_tags', { image_id: kept, position: 0, value: 'blue' }],
  ],
  '0003_members': [
    ['image_members', { image_id: kept, member: 'p2', status: 'accepted', created_at: 7, updated_at: 8 }],
  ],
  '0004_work': [
    ['workers', { id: 'w1', host: 'elsewhere', pid: 1, started: '', lease_until: 9 }],
    ['uploads', { key: 'on-its-way', store: singleStore, image_id: kept, worker_id: 'w1', kind: 'upload' }],
    ['tasks', taskRow(task(1), 'success', null, 99)],
    ['tasks', taskRow(task(2), 'processing', 'w1', null)],
  ],
  '0005_accounts': [
    ['account_users', { id: 'u1', name: 'ann', enabled: 1, password_hash: 'hash' }],
    ['account_projects', { id: 'p1', name: 'one', enabled: 1, description: '', tags: '["t"]' }],
    ['account_roles', { id: 'r1', name: 'member' }],
    ['account_assignments', { user_id: 'u1', role_id: 'r1', project_id: 'p1' }],
  ],
  '0006_cache': [
    ['cache_uses', { node: 'n1', image_id: active, hits: 3, last_accessed: 10.5 }],
    ['cache_queue', { node: 'n1', image_id: kept, queued_at: 11.5 }],
  ],
  '0008_resumables': [
    [
      'resumable_uploads',
      { image_id: kept, store: singleStore, key: 'on-its-way', length: 100, received: 40, expires_at: 12 },
    ],
  ],
  '0009_task_holds': [['task_holds', { held: 'catalogue one', task_id: task(2) }]],
}

function taskRow(id: string, status: string, workerId: string | null, expiresAt: number | null): Row {
  return {
    ...{ id, type: 'api_image_import', status, owner: 'p1', image_id: kept, user_id: 'u1', request_id: 'req-1' },
    ...{ input: '{"image_id":"x"}', result: null, message: 'said', progress: 0.5, attempts: 2, worker_id: workerId },
    ...{ created_at: 7, updated_at: 8, expires_at: expiresAt },
  }
}

/** @param known The changes that the catalog has seen. */
export function fill(database: DatabaseSync, known: readonly string[]): void {
  for (const name of known) for (const [table, row] of rows[name] ?? []) insert(database, table, row)
  const whole = { ...facts, owner: 'p1', size: 100, checksum: 'md5' }
  if (known.includes('0004_work')) {
    insert(database, 'images', { id: active, name: 'active', status: 'active', ...whole })
    const location = { image_id: active, position: 0, store: singleStore, key: 'the-data', status: 'active' }
    insert(database, 'image_locations', { ...location, metadata: '{}' })
  } else {
    // Where data lies stood with its image then, and uploads were not written down.
    insert(database, 'images', { id: active, name: 'active', status: 'active', ...whole, data_key: 'the-data' })
    insert(database, 'images', { id: saving, name: 'saving', status: 'saving', ...facts, owner: 'p1' })
  }
}

/** Looks for all of it in the catalog that came of it. */
export async function expectFilled(catalog: Catalog, known: readonly string[]): Promise<void> {
  const image = await catalog.get(kept)
  expect(image).toMatchObject({ name: 'kept', visibility: 'public', owner: 'p1', createdAt: 5, tags: ['blue'] })
  expect(image?.properties).toEqual(new Map([['color', 'green']]))
  expect(await catalog.get(active)).toMatchObject({
    ...{ status: 'active', size: 100, checksum: 'md5' },
    locations: [{ store: singleStore, key: 'the-data', status: 'active', metadata: {} }],
  })
  expect(await catalog.usages.of('p1')).toMatchObject({ bytes: 100 })
  if (known.includes('0003_members')) {
    expect(await catalog.members.list(kept)).toMatchObject([{ status: 'accepted', createdAt: 7, updatedAt: 8 }])
  }
  if (known.includes('0004_work')) await expectWork(catalog)
  else expect((await catalog.get(saving))?.status).toBe('queued')
  if (known.includes('0005_accounts')) {
    expect(await catalog.accounts.userByName('ann')).toMatchObject({ id: 'u1', enabled: true, passwordHash: 'hash' })
    expect(await catalog.accounts.assignments({})).toMatchObject([
      { user: { name: 'ann' }, role: { name: 'member' }, project: { name: 'one' } },
    ])
    expect(await catalog.accounts.projectByName('one')).toMatchObject({ id: 'p1', enabled: true, tags: ['t'] })
  }
  if (known.includes('0006_cache')) {
    expect(await catalog.cached.uses('n1')).toMatchObject([{ imageId: active, hits: 3, lastAccessed: 10.5 }])
    expect(await catalog.cached.queued('n1')).toEqual([kept])
  }
  if (known.includes('0008_resumables')) {
    expect(await catalog.resumables.get(kept)).toMatchObject({ key: 'on-its-way', length: 100, received: 40 })
  }
  if (known.includes('0009_task_holds')) {
    expect(await catalog.work.tasks.hold(task(1), 'catalogue one')).toBe(false)
    expect(await catalog.work.tasks.hold(task(2), 'catalogue one')).toBe(true)
  }
}

/** Tasks are as they were, and one that was begun goes on when its worker is found dead. */
async function expectWork({ work }: Catalog): Promise<void> {
  const said = {
    ...{ type: 'api_image_import', owner: 'p1', imageId: kept, userId: 'u1', requestId: 'req-1', attempts: 2 },
    ...{ input: { image_id: 'x' }, result: null, message: 'said', progress: 0.5, cancelled: null },
    ...{ createdAt: 7, updatedAt: 8 },
  }
  expect(await work.tasks.get(task(1))).toEqual({
    ...{ ...said, id: task(1), status: 'success', workerId: null, expiresAt: 99 },
  })
  expect(await work.tasks.get(task(2))).toEqual({
    ...{ ...said, id: task(2), status: 'processing', workerId: 'w1', expiresAt: null },
  })
  expect(await work.workers()).toMatchObject([{ id: 'w1', host: 'elsewhere', leaseUntil: 9 }])
  expect([...(await work.knownData(singleStore, ['on-its-way', 'the-data', 'nobodys']))].toSorted()).toEqual([
    'on-its-way',
    'the-data',
  ])
  expect(await work.tasks.claim('w2', ['api_image_import'])).toBeUndefined()
}
