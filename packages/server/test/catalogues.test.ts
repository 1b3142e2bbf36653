/** Catalogues of cloud images as a source of imports: what comes, what is shown, hidden and deleted, and what happens when something goes wrong. */
import { cpSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest'
import { type MadeMirror, makeMirror, readProducts, writeStreams } from '../../cloud-images/test/support/mirror.ts'
import { serveFolder, type Web } from '../../cloud-images/test/support/web.ts'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import type { ConfigInput } from '../src/config.ts'
import { readConfig } from '../src/config.ts'
import { Schedule } from '../src/sync/schedule.ts'
import { readSources } from '../src/sync/sources.ts'
import type { SyncResult } from '../src/sync/sync.ts'
import { cancelTask, sync } from '../src/upkeep.ts'
import { ask, type Subject, services } from './support/service.ts'

const folder = temporaryFolder()
const start = services()
const ago = (days: number) => new Date(Date.now() - days * 24 * 3600 * 1000)
let made: MadeMirror
let web: Web
/** A copy of the mirror for each test. */
let copy: string
beforeAll(async () => {
  made = await makeMirror(folder.file('mirror'), { only: ['ubuntu'], time: ago(1) })
  mkdirSync(folder.file('copies'))
  web = await serveFolder(folder.file('copies'))
})
afterAll(() => web.close())
let turn = 0
beforeEach(() => {
  web.faults.clear()
  web.requests.length = 0
  turn++
  copy = folder.file(`copies/${turn}`)
  cpSync(join(made.folder, 'ubuntu'), copy, { recursive: true })
})

const pathOf = (serial: string, arch = 'amd64') =>
  `/${turn}/releases/server/releases/noble/release-${serial}/ubuntu-24.04-server-cloudimg-${arch}.img`

/** Settings of a service that keeps noble in step. */
function settings(source: object = {}, over: ConfigInput = {}): ConfigInput {
  const catalogueFile = folder.fresh('.yaml')
  const usual = {
    name: 'u',
    distribution: 'ubuntu',
    mirror: `${web.url}/${turn}`,
    keyring: made.keyring,
    releases: ['noble'],
  }
  writeFileSync(catalogueFile, JSON.stringify([{ ...usual, ...source }]))
  const gate = { importAllowedHosts: '127.0.0.1', importPorts: '*', importRetries: 0 }
  return { data: folder.fresh('data'), catalogueFile, catalogueHours: 0, ...gate, ...over }
}

async function look(config: ConfigInput, dryRun = false): Promise<SyncResult> {
  const options = { names: [], dryRun, signal: AbortSignal.timeout(30_000) }
  for await (const result of sync(config, options)) return result
  throw new Error('no result')
}

interface Shown {
  name: string
  os_hidden: boolean
  [property: string]: unknown
}
/** All images of a service, hidden ones too. */
async function imagesOf(config: ConfigInput): Promise<Shown[]> {
  const { catalogueFile: _, ...rest } = config
  const subject = await start(rest)
  const found = await allOf(subject)
  await subject.close()
  return found
}
async function allOf({ url }: Subject): Promise<Shown[]> {
  const lists = await Promise.all(
    ['', '&os_hidden=true'].map(async (more) => {
      const answer = await ask(`${url}/v2/images?limit=100${more}`)
      return answer.json<{ images: Shown[] }>().images
    }),
  )
  return lists.flat().toSorted((one, other) => (one.name < other.name ? 1 : -1))
}
const seen = (images: Shown[]) =>
  images.map(({ name, os_hidden }) => `${name.split(' ').at(-1)}${os_hidden ? ' hidden' : ''}`)

/** Adds a build that is a copy of another. */
async function addBuild(serial: string, from = '20260901.1'): Promise<void> {
  const base = join(copy, 'releases')
  const text = JSON.stringify(await readProducts(base))
  const products = JSON.parse(text) as Record<string, { versions: Record<string, unknown> }>
  for (const product of Object.values(products)) {
    const before = product.versions[from]
    if (before === undefined) continue
    product.versions[serial] = JSON.parse(JSON.stringify(before).replaceAll(`release-${from}`, `release-${serial}`))
  }
  cpSync(join(base, `server/releases/noble/release-${from}`), join(base, `server/releases/noble/release-${serial}`), {
    recursive: true,
  })
  await writeStreams(base, made.signer, { products, updated: ago(0) })
}

describe('a look at a catalogue', () => {
  test('brings what is missing, with its properties, and does nothing the second time', async () => {
    const config = settings({ keep: 2, properties: { team: 'cloud', hw_disk_bus: 'scsi' } })
    expect(await look(config)).toMatchObject({ failed: [], deleted: [], hidden: [] })
    const images = await imagesOf(config)
    expect(seen(images)).toEqual(['20260901.1', '20260901 hidden'])
    const data = readFileSync(join(copy, pathOf('20260901.1').slice(`/${turn}/`.length)))
    expect(images[0]).toMatchObject({
      ...{ name: 'Ubuntu 24.04 LTS amd64 20260901.1', status: 'active', visibility: 'public', size: data.length },
      ...{ disk_format: 'qcow2', container_format: 'bare', min_disk: 1, os_distro: 'ubuntu', os_version: '24.04' },
      ...{ architecture: 'x86_64', hw_disk_bus: 'scsi', hw_vif_model: 'virtio', os_type: 'linux', team: 'cloud' },
      ...{ moraine_catalogue: 'u', product_name: 'com.ubuntu.cloud:server:24.04:amd64', version_name: '20260901.1' },
    })
    web.requests.length = 0
    expect(await look(config)).toMatchObject({ imported: [], shown: [], hidden: [], deleted: [], failed: [] })
    expect(web.requests.filter((line) => line.includes('.img'))).toEqual([])
  })

  test('arm64 gets the firmware that it needs', async () => {
    const config = settings({ architectures: ['arm64'], releases: ['24.04'] })
    await look(config)
    const [image] = await imagesOf(config)
    expect(image).toMatchObject({ architecture: 'aarch64', hw_firmware_type: 'uefi', hw_machine_type: 'virt' })
  })

  test('a newer build hides the one before, and takes the place of the oldest', async () => {
    const config = settings({ keep: 2 })
    await look(config)
    await addBuild('20261120')
    expect(await look(config, true)).toMatchObject({
      imported: [expect.stringContaining('20261120')],
      hidden: [expect.stringContaining('20260901.1')],
      deleted: [expect.stringMatching(/20260901$/)],
    })
    expect(seen(await imagesOf(config))).toEqual(['20260901.1', '20260901 hidden'])
    await look(config)
    expect(seen(await imagesOf(config))).toEqual(['20261120', '20260901.1 hidden'])
  })

  test('by policy the superseded stay in sight, and the expired stay', async () => {
    const config = settings({ keep: 2, superseded: 'show', expired: 'hide' })
    await look(config)
    await addBuild('20261120')
    await look(config)
    expect(seen(await imagesOf(config))).toEqual(['20261120', '20260901 hidden', '20260901.1'].toSorted().toReversed())
  })

  test('what is protected, or somebody else’s, is left alone', async () => {
    const config = settings({ keep: 1 })
    await look(config)
    const { catalogueFile: _, ...rest } = config
    const subject = await start(rest)
    const [image] = await allOf(subject)
    const patch = [{ op: 'replace', path: '/protected', value: true }]
    const type = { 'content-type': 'application/openstack-images-v2.1-json-patch' }
    await ask(`${subject.url}/v2/images/${image?.id}`, 'PATCH', JSON.stringify(patch), type)
    const fake = { name: 'fake 20990101', moraine_catalogue: 'u', version_name: '20990101', owner: 'stranger' }
    const created = await ask(`${subject.url}/v2/images`, 'POST', JSON.stringify(fake), {
      'content-type': 'application/json',
    })
    expect(created.status).toBe(201)
    await subject.close()
    await addBuild('20261120')
    await look(config)
    expect(seen(await imagesOf(config))).toEqual(['20990101', '20261120', '20260901.1 hidden'])
  })

  test('an image that fails keeps no other away, leaves nothing, and is tried again', async () => {
    const config = settings({ releases: ['noble', 'jammy', 'xenial'] })
    web.faults.set(pathOf('20260901.1'), {
      data: Buffer.from(readFileSync(join(copy, pathOf('20260901.1').slice(`/${turn}/`.length)))).fill(1, 300_000),
    })
    const first = await look(config)
    expect(first.imported).toEqual([expect.stringContaining('22.04')])
    expect(first.failed).toEqual([
      { name: 'xenial amd64', reason: expect.stringContaining('no image of xenial') },
      { name: expect.stringContaining('20260901.1'), reason: expect.stringContaining('sha256 digest is') },
    ])
    expect(seen(await imagesOf(config))).toEqual(['20261001'])
    web.faults.clear()
    expect((await look(config)).imported).toEqual([expect.stringContaining('20260901.1')])
  })

  test('no image is hidden or deleted before its successor is there', async () => {
    const config = settings()
    await look(config)
    await addBuild('20261120')
    web.faults.set(pathOf('20261120'), { status: 404 })
    expect(await look(config)).toMatchObject({
      hidden: [],
      deleted: [],
      failed: [{ reason: expect.stringContaining('404') }],
    })
    expect(seen(await imagesOf(config))).toEqual(['20260901.1'])
  })

  test.each<[string, object, ConfigInput, string]>([
    ['a catalogue by another key', { keyring: undefined }, {}, 'no such key is in the keyring'],
    ['a mirror that the gate forbids', {}, { importAllowedHosts: '' }, 'not on the internet'],
    ['a mirror that is not there', { mirror: 'http://127.0.0.1:9/x' }, {}, 'cannot be fetched'],
  ])('%s fails by its name', { timeout: 60_000 }, async (_, source, over, message) => {
    const { failed, imported } = await look(settings(source, over))
    expect(imported).toEqual([])
    expect(failed[0]?.reason).toContain(message)
  })

  test('an older catalogue than before is refused', async () => {
    const config = settings()
    await look(config)
    await writeStreams(join(copy, 'releases'), made.signer, { products: {}, updated: ago(30) })
    expect((await look(config)).failed[0]?.reason).toContain('seen before')
  })
})

describe('the service itself', () => {
  const idle = async (...subjects: Subject[]) => {
    for (const { service } of subjects) await service.schedule.look()
    for (let calm = 0; calm < 3; calm++) {
      for (const { service } of subjects) await service.tasks.idle()
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }

  test('looks by itself, once for all processes', async () => {
    const config = settings({ keep: 3, hours: 24 })
    const both = [await start(config), await start(config)] as const
    await idle(...both)
    expect(seen(await allOf(both[0]))).toEqual(
      ['20260901.1', '20260901 hidden', '20260815 hidden'].toSorted().toReversed(),
    )
    expect(web.requests.filter((line) => line.startsWith('GET') && line.includes('.img'))).toHaveLength(3)
    const { tasks } = await both[0].service.catalog.work.tasks.list({ sort: 'id', descending: false, limit: 9 })
    expect(tasks.filter(({ type }) => type === 'catalogue_sync')).toMatchObject([{ status: 'success' }])
    for (const subject of both) await subject.close()
  })

  test('what a stop cuts off, the next process brings to its end', async () => {
    const config = settings({ keep: 2, hours: 24 })
    for (const serial of ['20260901', '20260901.1']) web.faults.set(pathOf(serial), { milliseconds: 60 })
    const first = await start(config)
    while (!web.requests.some((line) => line.includes('.img'))) await new Promise((resolve) => setTimeout(resolve, 10))
    await first.close()
    web.faults.clear()
    const second = await start(config)
    await idle(second)
    expect(seen(await allOf(second))).toEqual(['20260901.1', '20260901 hidden'])
    await second.close()
  })

  test('a look that is cancelled leaves nothing of what it was at', async () => {
    const config = settings({ keep: 1, hours: 24 })
    web.faults.set(pathOf('20260901.1'), { milliseconds: 60 })
    const subject = await start(config)
    await vi.waitUntil(() => web.requests.some((line) => line.includes('.img')), 10_000)
    const { tasks } = subject.service.catalog.work
    const find = async () =>
      (await tasks.list({ sort: 'id', descending: false, limit: 9 })).tasks.find(
        ({ type }) => type === 'catalogue_sync',
      )
    await cancelTask({ data: subject.data }, (await find())?.id ?? '')
    await vi.waitUntil(async () => (await find())?.status === 'failure', 10_000)
    expect(await find()).toMatchObject({ message: 'cancelled by an operator' })
    expect(await allOf(subject)).toEqual([])
    await subject.close()
  })

  test('two looks at one catalogue: the second leaves it to the first', async () => {
    const config = settings({ keep: 2 })
    const gate = Promise.withResolvers<void>()
    for (const serial of ['20260901', '20260901.1']) web.faults.set(pathOf(serial), { until: gate.promise })
    const before = web.requests.length
    const first = look(config)
    await vi.waitUntil(() => web.requests.slice(before).some((line) => line.includes('.img')), 10_000)
    const second = await look(config)
    gate.resolve()
    web.faults.clear()
    expect([(await first).skipped, second.skipped]).toEqual([false, true])
    expect(seen(await imagesOf(config))).toEqual(['20260901.1', '20260901 hidden'])
  })

  test('a schedule asks once in its hours', async () => {
    const { service } = await start(settings())
    const sources = readSources({ catalogueFile: settings({ hours: 2 }).catalogueFile ?? '', catalogueHours: 24 })
    let now = 7200 * 1000
    let kicks = 0
    const { tasks } = service.catalog.work
    const schedule = new Schedule({
      sources,
      tasks,
      kick: () => kicks++,
      onError: (error) => expect.unreachable(String(error)),
      now: () => now,
    })
    for (const [seconds, expected] of [
      [0, 1],
      [7199, 1],
      [1, 2],
      [7200, 3],
    ] as const) {
      now += seconds
      await schedule.look()
      expect(kicks).toBe(expected)
    }
  })
})

describe('the file of catalogues', () => {
  const read = (text: string) => {
    const catalogueFile = folder.fresh('.yaml')
    writeFileSync(catalogueFile, text)
    return readSources(readConfig({ catalogueFile }, {}))
  }

  test('what is not said has a default', () => {
    expect(read('')).toEqual([])
    expect(read('- distribution: debian')).toEqual([
      {
        ...{ name: 'debian', distribution: 'debian', unsigned: false, allowOlder: false, releases: ['latest'] },
        ...{
          architectures: ['amd64'],
          keep: 1,
          superseded: 'hide',
          expired: 'delete',
          visibility: 'public',
          owner: null,
        },
        ...{ stores: [], properties: {}, hours: 24 },
      },
    ])
  })

  test.each([
    ['a map', 'distribution: ubuntu', 'no list of catalogues'],
    ['no YAML', '- [', 'cannot read'],
    ['a text', '- ubuntu', 'catalogue 1: this is no map'],
    ['no distribution', '- name: x', 'distribution is missing'],
    ['an unknown distribution', '- distribution: plan9', "there is no catalogue 'plan9'"],
    ['an unknown word', '- {distribution: ubuntu, color: red}', 'there is no color'],
    ['a release that lost its zero', '- {distribution: ubuntu, releases: [24.10]}', 'must stand in quotes'],
    ['an unknown stream', '- {distribution: ubuntu, stream: weekly}', 'no stream weekly'],
    ['a kind that is no disk', '- {distribution: ubuntu, kind: squashfs}', 'kind squashfs is no disk'],
    ['a folder', '- {distribution: ubuntu, mirror: /srv/mirror}', 'no URL of http or https'],
    ['keep 0', '- {distribution: ubuntu, keep: 0}', 'keep is no whole number from 1'],
    ['an unknown visibility', '- {distribution: ubuntu, visibility: all}', 'visibility is not one of'],
    ['a property of the service', '- {distribution: ubuntu, properties: {os_glance_x: 1}}', "the service's own"],
    ['two of one name', '- {distribution: ubuntu}\n- {distribution: ubuntu}', 'two catalogues have the name ubuntu'],
    ['unsigned with a keyring', '- {distribution: ubuntu, unsigned: true, keyring: k}', 'contradicts'],
  ])('%s', (_, text, message) => {
    expect(() => read(text)).toThrow(message)
  })

  test('a file that is not there', () => {
    expect(() => readSources({ catalogueFile: folder.file('none.yaml'), catalogueHours: 1 })).toThrow('cannot read')
  })
})
