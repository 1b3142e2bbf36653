/** A real Glance is taken over. */
import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { readGlanceConfig } from '../src/migrate/glance-config.ts'
import { describeWithGlance, type Glance, startGlance } from './support/glance.ts'
import { active, compare, content, damaged, deleted, documents, fill, lost, off, taken } from './support/migration.ts'
import { ask, services } from './support/service.ts'

const folder = temporaryFolder()
const start = services()

describeWithGlance('migration of a Glance on SQLite', () => {
  let glance: Glance
  const home = folder.fresh()
  const from = join(home, 'api.conf')
  const images = join(home, 'images')
  beforeAll(async () => {
    mkdirSync(home, { recursive: true })
    glance = await startGlance(home)
    await fill(glance, images)
  }, 120_000)
  afterAll(() => glance?.stop())

  it('tells what it would do, and changes nothing', async () => {
    const data = folder.fresh()
    const steps = await taken(data, { from, dryRun: true })
    expect(steps.get(active)).toMatchObject({ kind: 'image', action: 'taken', data: 'copied', bytes: content.length })
    expect(steps.get(lost)?.notes[0]).toContain(`no whole data at file://${images}/${lost}`)
    expect(readdirSync(join(data, 'store', 'images'))).toEqual([])
    expect((await documents((await start({ data })).url)).size).toBe(0)
  })

  it('copies all of it, once, while the service runs', async () => {
    const { url, data } = await start({ data: folder.fresh() })
    const steps = await taken(data, { from })
    expect(steps.get(damaged)).toMatchObject({ action: 'taken', data: 'none' })
    expect(steps.get(damaged)?.notes[0]).toContain('is damaged')
    expect(steps.get(deleted)).toMatchObject({ kind: 'deleted-image', action: 'taken' })
    await compare(url, glance.url)
    const second = await taken(data, { from })
    for (const [, { kind, action }] of second)
      expect([kind, action]).toEqual([kind, kind === 'tasks' ? 'left' : 'kept'])
    expect(readdirSync(join(data, 'store', 'images'))).toHaveLength(4)
    const { uploads } = { uploads: readdirSync(join(data, 'store', 'uploads')) }
    expect(uploads).toEqual([])
  })

  it('links data, and brings later what was left at first', async () => {
    const { url, data } = await start({ data: folder.fresh() })
    const without = await taken(data, { from, data: 'none' })
    expect(without.get(active)?.notes).toEqual(['without its data, it is queued'])
    expect((await documents(url)).get(active)?.status).toBe('queued')
    const steps = await taken(data, { from: join(home, 'glance.sqlite'), data: 'link' })
    expect(steps.get(active)).toMatchObject({ action: 'completed', data: 'linked' })
    const own = (await documents(url)).get(active)
    expect(own?.os_hash_value).toBe((await documents(glance.url)).get(active)?.os_hash_value)
    const file = readdirSync(join(data, 'store', 'images')).find((name) => name.startsWith(active)) ?? ''
    expect(statSync(join(data, 'store', 'images', file)).ino).toBe(statSync(join(images, active)).ino)
    expect((await ask(`${url}/v2/images/${active}/file`)).body.equals(content)).toBe(true)
    await ask(`${url}/v2/images/${off}`, 'DELETE')
    expect(readFileSync(join(images, off), 'utf8')).toBe('x')
  })
})

describe('settings of a Glance', () => {
  it('name its database and the folders of its stores', () => {
    const path = folder.file('glance-api.conf')
    const lines = [
      ...[
        '# a comment',
        '[DEFAULT]',
        'enabled_backends = fast:file, slow:file,',
        '    web:http',
        'connection = not this',
      ],
      ...['[database]', 'connection = mysql+pymysql://glance:p%40ss=1@db/glance', '[fast]'],
      ...['filesystem_store_datadirs = /srv/a:200', 'filesystem_store_datadirs = /srv/b:100', '[slow]'],
      ...['filesystem_store_datadir: /srv/slow', '[glance_store]', 'filesystem_store_datadir=/srv/old'],
    ]
    writeFileSync(path, lines.join('\n'))
    const { connection, folders } = readGlanceConfig(path)
    expect(connection).toBe('mysql+pymysql://glance:p%40ss=1@db/glance')
    expect([...folders]).toEqual([
      ['', ['/srv/old']],
      ['fast', ['/srv/a', '/srv/b']],
      ['slow', ['/srv/slow']],
    ])
  })

  it('are refused when they name no database, and when there are none', async () => {
    const path = folder.file('without.conf')
    writeFileSync(path, '[DEFAULT]\n')
    expect(() => readGlanceConfig(path)).toThrow('has no connection in [database]')
    await expect(taken(folder.fresh(), { from: folder.file('nowhere.conf') })).rejects.toMatchObject({
      kind: 'missing',
    })
    await expect(taken(folder.fresh(), { from: 'oracle://db/glance' })).rejects.toMatchObject({ kind: 'unsupported' })
    await expect(taken(folder.fresh(), { from: 'sqlite:////nowhere' })).rejects.toMatchObject({ kind: 'missing' })
  })
})
