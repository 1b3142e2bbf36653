/** The image client against Debian's own Keystone and Glance, and beside the stock client. */
import { randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { temporaryFolder } from '../../../engine/test/support/folder.ts'
import { describeWith, runOk } from '../../../engine/test/support/process.ts'
import { qemuImg } from '../../../engine/test/support/qemu.ts'
import { describeWithGlance, type Glance, startGlanceBehind } from '../../../server/test/support/glance.ts'
import { describeWithKeystone, type Keystone, startKeystone } from '../../../server/test/support/keystone.ts'
import { type ImageCommand, imageCommand } from './support/command.ts'

const folder = temporaryFolder()
/** Each answer of Glance behind Keystone takes its time on a busy machine. */
const patience = { timeout: 120_000 }

interface Image {
  id: string
  name: string
  status: string
  size: number
  stores: string
  [more: string]: unknown
}

describeWithKeystone('keystone', () => {
  describeWithGlance('and glance', () => {
    describeWith(['openstack', 'qemu-img'], 'and openstack', tests)
  })
})

function tests(): void {
  const demo = { user: 'demo', password: 'demo secret', project: 'garden' }
  const other = { user: 'other', password: 'other secret', project: 'field' }
  let keystone: Keystone
  let glance: Glance | undefined
  let command: ImageCommand
  let neighbour: ImageCommand
  let qcow2: string
  let raw: string
  beforeAll(async () => {
    keystone = await startKeystone(folder.file('keystone'))
    await keystone.user(demo.user, demo.password, { garden: ['member', 'reader'] })
    await keystone.user(other.user, other.password, { field: ['member', 'reader'] })
    glance = await startGlanceBehind(keystone, folder.file('glance'))
    command = imageCommand(folder, keystone.environment(demo))
    neighbour = imageCommand(folder, keystone.environment(other))
    raw = folder.file('disk.raw')
    qcow2 = folder.file('disk.qcow2')
    writeFileSync(raw, Buffer.concat([randomBytes(700_000), Buffer.alloc(1_500_000), randomBytes(100_416)]))
    await qemuImg('convert', '-f', 'raw', '-O', 'qcow2', raw, qcow2)
  })
  afterAll(async () => {
    await glance?.stop()
    await keystone?.stop()
  })
  const stock = async (...args: string[]) =>
    JSON.parse(await runOk('openstack', ['image', ...args, '-f', 'json'], { env: command.env }))

  it('pushes, lists and shows what the stock client sees', patience, async () => {
    const pushed = await command.json<Image>(
      'push',
      qcow2,
      '--name',
      'guest',
      '--property',
      'os_distro=debian',
      '--tag',
      'first',
      '--min-disk',
      '1',
    )
    expect(pushed).toMatchObject({ status: 'active', disk_format: 'qcow2', os_distro: 'debian' })
    const seen = await stock('show', pushed.id)
    for (const key of [
      'id',
      'name',
      'status',
      'size',
      'checksum',
      'min_disk',
      'owner',
      'tags',
      'visibility',
      'created_at',
    ]) {
      expect(pushed[key], key).toEqual(seen[key])
    }
    expect(seen.properties).toMatchObject({ os_distro: 'debian', os_hash_value: pushed.os_hash_value })
    for (const filter of [[], ['--property', 'os_distro=fedora'], ['--tag', 'first']]) {
      const ours = (await command.json<Image[]>('list', ...filter)).map(({ id, name, status }) => ({
        ID: id,
        Name: name,
        Status: status,
      }))
      expect(ours, filter.join(' ')).toEqual(await stock('list', ...filter))
    }
    const back = folder.fresh('.qcow2')
    await command.ok('pull', 'guest', back)
    expect(readFileSync(back).equals(readFileSync(qcow2))).toBe(true)
    await command.ok('pull', '-O', 'raw', 'guest', `${back}.raw`)
    expect(readFileSync(`${back}.raw`).equals(readFileSync(raw))).toBe(true)
  })

  it('converts while it pushes, with and without a known length', patience, async () => {
    const plain = await command.json<Image>('push', qcow2, '--convert-to', 'raw', '--store', 'two')
    expect(plain).toMatchObject({ status: 'active', disk_format: 'raw', size: readFileSync(raw).length, stores: 'two' })
    const packed = await command.json<Image>('push', raw, '--convert-to', 'qcow2', '--compress')
    const back = folder.fresh('.qcow2')
    await command.ok('pull', packed.id, back)
    await qemuImg('compare', back, raw)
  })

  it('imports from the stage, from the web and into other stores, and follows the task', patience, async () => {
    const staged = await command.json<Image>(
      'push',
      raw,
      '--method',
      'glance-direct',
      '--name',
      'staged',
      '--stores',
      'two',
    )
    expect(staged).toMatchObject({ status: 'active', stores: 'two', size: readFileSync(raw).length })
    const web = createServer((_, response) => response.end(readFileSync(raw)))
    await new Promise<void>((resolve) => web.listen(0, '127.0.0.1', resolve))
    try {
      const uri = `http://127.0.0.1:${(web.address() as AddressInfo).port}/disk.raw`
      const fetched = await command.json<Image>(
        'push',
        '--method',
        'web-download',
        '--uri',
        uri,
        '--disk-format',
        'raw',
      )
      expect(fetched).toMatchObject({ name: 'disk.raw', status: 'active', checksum: staged.checksum })
    } finally {
      web.close()
    }
    const admin = imageCommand(folder, keystone.environment(keystone.admin))
    const copied = await admin.json<Image>('import', staged.id, '--method', 'copy-image', '--stores', 'one', '--wait')
    expect(copied.stores.split(',').sort()).toEqual(['one', 'two'])
    expect(await command.ok('tasks', staged.id)).toContain('success')
    expect((await command.json<{ id: string }[]>('stores')).map(({ id }) => id)).toEqual(
      expect.arrayContaining(['one', 'two']),
    )
    const refused = await command.run(
      'push',
      '--method',
      'web-download',
      '--uri',
      'http://127.0.0.1:1/none',
      '--disk-format',
      'raw',
      '--name',
      'none',
    )
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining('moraine: ')])
    expect(await command.json('list', '--name', 'none')).toEqual([])
  })

  it('shares with another project, which accepts and rejects', patience, async () => {
    const { id } = await command.json<Image>('create', 'together', '--disk-format', 'raw')
    const field = await keystone.project('field')
    await command.ok('share', 'together', field)
    expect(await neighbour.json('list')).toEqual([])
    await neighbour.ok('accept', 'together')
    expect((await neighbour.json<Image[]>('list')).map((image) => image.id)).toEqual([id])
    expect((await neighbour.run('set', 'together', '--name', 'mine')).stderr).toMatch(/HTTP 403, request req-/)
    await neighbour.ok('reject', 'together')
    expect(await command.json('members', 'together')).toMatchObject([{ member_id: field, status: 'rejected' }])
    await command.ok('unshare', 'together', field)
    expect(await command.json('members', 'together')).toEqual([])
  })

  it('changes, deactivates and deletes', patience, async () => {
    const { id } = await command.json<Image>('push', raw, '--name', 'changing', '--protected')
    await command.ok(
      'set',
      id,
      '--property',
      'a/b~c=1',
      '--property',
      'os_distro=debian',
      '--tag',
      'x',
      '--hidden',
      '--name',
      'changed',
    )
    expect(await command.json('show', 'changed')).toMatchObject({ id, 'a/b~c': '1', os_hidden: true, tags: ['x'] })
    await command.ok('unset', id, '--property', 'a/b~c', '--tag', 'x')
    await command.ok('deactivate', id)
    const refused = await command.run('pull', id, folder.fresh())
    expect([refused.code, refused.stderr]).toEqual([
      1,
      expect.stringContaining('The requested image has been deactivated'),
    ])
    await command.ok('reactivate', id)
    const kept = await command.run('delete', id)
    expect([kept.code, kept.stderr]).toEqual([1, expect.stringContaining('protected')])
    await command.ok('set', id, '--unprotected', '--unhidden')
    const result = await command.run('delete', 'nobody', id)
    expect([result.code, result.stderr]).toEqual([1, "moraine: nobody: no image has the id or name 'nobody'\n"])
    expect((await command.run('show', id)).code).toBe(1)
  })

  it('says which images share a name', patience, async () => {
    const ids = [await command.json<Image>('create', 'twin'), await command.json<Image>('create', 'twin')].map(
      ({ id }) => id,
    )
    const { code, stderr } = await command.run('show', 'twin')
    expect([code, stderr]).toEqual([1, expect.stringContaining("several images are called 'twin'")])
    for (const id of ids) expect(stderr).toContain(id)
    await command.ok('delete', ...ids)
  })

  it(
    'logs in by clouds.yaml, with an application credential, a token, and not with a wrong password',
    patience,
    async () => {
      const credential = JSON.parse(
        await runOk('openstack', ['application', 'credential', 'create', 'mine', '-f', 'json'], { env: command.env }),
      )
      const clean = imageCommand(folder)
      mkdirSync(join(clean.cwd, '.config/openstack'), { recursive: true })
      const clouds = {
        plain: {
          auth: {
            auth_url: keystone.url.replace('/v3', ''),
            username: 'demo',
            project_name: 'garden',
            user_domain_name: 'Default',
            project_domain_name: 'Default',
          },
        },
        app: {
          auth_type: 'v3applicationcredential',
          auth: {
            auth_url: keystone.url,
            application_credential_id: credential.id,
            application_credential_secret: credential.secret,
          },
          region_name: 'RegionOne',
        },
      }
      writeFileSync(join(clean.cwd, '.config/openstack/clouds.yaml'), JSON.stringify({ clouds }))
      writeFileSync(
        join(clean.cwd, '.config/openstack/secure.yaml'),
        `clouds: {plain: {auth: {password: ${demo.password}}}}`,
      )
      const expected = await command.json<Image[]>('list')
      expect(await clean.json('--os-cloud', 'plain', 'list')).toEqual(expected)
      expect(await clean.json('list', '--os-cloud=app')).toEqual(expected)
      const token = await keystone.token(demo)
      expect(
        await clean.json('list', '--os-auth-url', keystone.url, '--os-token', token, '--os-project-name', 'garden'),
      ).toEqual(expected)
      expect(await clean.json('list', '--os-endpoint', `${glance?.url}/v2`, '--os-token', token)).toEqual(expected)
      const wrong = await clean.run('list', '--os-cloud', 'plain', '--os-password', 'not this')
      expect([wrong.code, wrong.stderr]).toEqual([1, expect.stringMatching(/^moraine: Keystone refuses: .*\(HTTP 401/)])
      expect(wrong.stderr).not.toContain('not this')
      const region = await clean.run('list', '--os-cloud', 'plain', '--os-region-name', 'Elsewhere')
      expect(region.stderr).toContain('no image service (public in Elsewhere); it has: ')
    },
  )
}
