/** The stock clients against a running service, unchanged. */
import { randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { beforeAll, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWith, type RunResult, run, runOk } from '../../engine/test/support/process.ts'
import { qemuImg } from '../../engine/test/support/qemu.ts'
import { type Subject, services, showImage } from './support/service.ts'

const start = services()
/** Each call starts Python anew. */
const patience = { timeout: 240_000 }
const folder = temporaryFolder()

/** Runs a client in a home of its own: it keeps schemas and settings there. */
function clientSettings() {
  const home = folder.file('home')
  mkdirSync(home, { recursive: true })
  const env: NodeJS.ProcessEnv = { PATH: process.env.PATH, HOME: home, LC_ALL: 'C.UTF-8' }
  return { env, timeout: 60_000 }
}

async function makeQcow2(): Promise<string> {
  const raw = folder.fresh('.raw')
  writeFileSync(raw, Buffer.concat([randomBytes(300_000), Buffer.alloc(2_000_000)]))
  const path = folder.fresh('.qcow2')
  await qemuImg('convert', '-f', 'raw', '-O', 'qcow2', raw, path)
  await qemuImg('resize', '-q', path, '64M')
  return path
}

describeWith(['openstack', 'qemu-img'], 'openstack', () => {
  let subject: Subject
  beforeAll(async () => {
    subject = await start()
  })
  const access = () => ['--os-auth-type', 'none', '--os-endpoint', subject.url]
  const openstack = (...args: string[]) => runOk('openstack', [...access(), 'image', ...args], clientSettings())
  const tryOpenstack = (...args: string[]): Promise<RunResult> =>
    run('openstack', [...access(), 'image', ...args], clientSettings())
  const json = async (...args: string[]) => JSON.parse(await openstack(...args, '-f', 'json'))

  it('creates, shows, lists, changes, saves and deletes an image', patience, async () => {
    const path = await makeQcow2()
    const made = await json(
      ...['create', '--disk-format', 'qcow2', '--container-format', 'bare', '--file', path],
      ...['--property', 'os_distro=debian', '--tag', 'first', '--min-disk', '1', 'guest'],
    )
    expect(await json('show', 'guest')).toMatchObject({
      id: made.id,
      name: 'guest',
      status: 'active',
      disk_format: 'qcow2',
      size: readFileSync(path).length,
      virtual_size: 64 * 1024 * 1024,
      min_disk: 1,
      tags: ['first'],
      properties: { os_distro: 'debian' },
    })
    expect((await json('list')).map((image: { Name: string }) => image.Name)).toEqual(['guest'])
    expect(await json('list', '--property', 'os_distro=fedora')).toEqual([])
    expect(await json('list', '--tag', 'first', '--long', '--sort', 'name:asc')).toHaveLength(1)

    await openstack('set', '--name', 'renamed', '--property', 'foo=bar', '--tag', 'second', '--public', 'guest')
    expect(await showImage(subject.url, made.id)).toMatchObject({
      name: 'renamed',
      foo: 'bar',
      // The client sends them in no order.
      tags: expect.arrayContaining(['first', 'second']),
      visibility: 'public',
    })
    await openstack('unset', '--property', 'foo', '--tag', 'first', 'renamed')
    const unset = await showImage(subject.url, made.id)
    expect([unset.tags, unset.foo]).toEqual([['second'], undefined])

    const back = folder.fresh('.qcow2')
    await openstack('save', '--file', back, 'renamed')
    expect(readFileSync(back).equals(readFileSync(path))).toBe(true)

    await openstack('set', '--deactivate', 'renamed')
    expect((await tryOpenstack('save', '--file', folder.fresh(), 'renamed')).code).not.toBe(0)
    await openstack('set', '--activate', 'renamed')
    await openstack('set', '--protected', 'renamed')
    expect((await tryOpenstack('delete', 'renamed')).code).not.toBe(0)
    await openstack('set', '--unprotected', 'renamed')
    await openstack('delete', 'renamed')
    expect(await json('list')).toEqual([])
  })

  it('is told when the data is not what was said', patience, async () => {
    const path = folder.fresh('.raw')
    writeFileSync(path, randomBytes(5_000_000))
    const answer = await tryOpenstack('create', '--disk-format', 'qcow2', '--file', path, 'wrong')
    expect([answer.code === 0, answer.stderr]).toEqual([false, expect.stringContaining('415')])
  })
})

describeWith(['glance', 'qemu-img'], 'glance', () => {
  let subject: Subject
  beforeAll(async () => {
    subject = await start()
  })
  const access = () => ['--os-image-url', subject.url, '--os-auth-token', 'any']
  // Without a terminal the client takes standard input for image data, so it gets none at all.
  const tryGlance = (...args: string[]): Promise<RunResult> =>
    run('sh', ['-c', 'exec "$0" "$@" <&-', 'glance', ...access(), ...args], clientSettings())
  async function glance(...args: string[]): Promise<string> {
    const answer = await tryGlance(...args)
    if (answer.code !== 0) throw new Error(`glance ${args.join(' ')}: ${answer.stdout}${answer.stderr}`)
    return answer.stdout
  }
  /** A row of the tables that the client prints. */
  const row = (table: string, name: string) =>
    table
      .split('\n')
      .map((line) => line.split('|').map((cell) => cell.trim()))
      .find((cells) => cells[1] === name)?.[2]

  it('creates, shows, lists, updates, tags, downloads and deletes an image', patience, async () => {
    const path = await makeQcow2()
    const id = '12345678-1234-1234-1234-123456789abc'
    const made = await glance(
      ...['image-create', '--id', id, '--name', 'guest', '--disk-format', 'qcow2', '--container-format', 'bare'],
      ...['--file', path, '--property', 'os_distro=debian', '--min-ram', '64'],
    )
    expect([row(made, 'status'), row(made, 'virtual_size'), row(made, 'min_ram')]).toEqual(['active', '67108864', '64'])
    expect(row(await glance('image-show', id), 'os_distro')).toBe('debian')
    expect(row(await glance('image-list', '--property-filter', 'os_distro=debian'), id)).toBe('guest')
    expect(row(await glance('image-list', '--sort', 'name:asc', '--page-size', '1'), id)).toBe('guest')

    const updated = await glance(
      ...['image-update', '--name', 'renamed', '--property', 'x=y', '--remove-property', 'os_distro'],
      ...['--visibility', 'public', '--min-disk', '2', id],
    )
    expect([row(updated, 'name'), row(updated, 'x'), row(updated, 'os_distro')]).toEqual(['renamed', 'y', undefined])
    await glance('image-tag-update', id, 'kept tag')
    expect((await showImage(subject.url, id)).tags).toEqual(['kept tag'])
    await glance('image-tag-delete', id, 'kept tag')

    const back = folder.fresh('.qcow2')
    await glance('image-download', '--file', back, id)
    expect(readFileSync(back).equals(readFileSync(path))).toBe(true)

    await glance('image-deactivate', id)
    const refused = await tryGlance('image-download', '--file', folder.fresh(), id)
    expect([refused.code === 0, refused.stdout + refused.stderr]).toEqual([
      false,
      expect.stringContaining('The requested image has been deactivated.'),
    ])
    await glance('image-reactivate', id)
    await glance('image-delete', id)
    expect(row(await glance('image-list'), id)).toBeUndefined()
  })

  it('uploads to an image that is queued, and to no other', patience, async () => {
    const path = await makeQcow2()
    const id = '12345678-1234-1234-1234-123456789abd'
    await glance('image-create', '--id', id, '--disk-format', 'qcow2', '--container-format', 'bare')
    await glance('image-upload', '--file', path, id)
    expect((await showImage(subject.url, id)).status).toBe('active')
    const again = await tryGlance('image-upload', '--file', path, id)
    expect([again.code === 0, again.stdout + again.stderr]).toEqual([false, expect.stringContaining('409')])
  })

  it('walks pages of any size', patience, async () => {
    for (let index = 0; index < 30; index++)
      await subject.service.catalog.create({ id: `page${index}`, name: `n${index}` })
    const table = await glance('image-list', '--page-size', '7', '--sort-key', 'name', '--sort-dir', 'asc')
    expect(table.split('\n').filter((line) => line.includes('| page')).length).toBe(30)
  })
})
