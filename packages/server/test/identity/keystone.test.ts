/** Who is calling, by a real Keystone: the service behind it, asked over HTTP and by the stock clients. */
import { afterAll, beforeAll, expect, it, vi } from 'vitest'
import { temporaryFolder } from '../../../engine/test/support/folder.ts'
import { describeWith, runOk } from '../../../engine/test/support/process.ts'
import { describeWithKeystone, type Keystone, startKeystone } from '../support/keystone.ts'
import { ask, type Subject, services } from '../support/service.ts'

const folder = temporaryFolder()
const start = services()
const ann = { user: 'ann', password: 'secret-ann', project: 'garden' }

describeWithKeystone('Keystone', () => {
  let keystone: Keystone
  let subject: Subject
  beforeAll(async () => {
    keystone = await startKeystone(folder.file('keystone'))
    await keystone.user('ann', 'secret-ann', { garden: ['member'] })
    await keystone.user('glance', 'secret-glance', { service: ['admin', 'service'] })
    subject = await start({
      auth: 'keystone',
      keystoneUrl: keystone.url,
      keystoneUser: 'glance',
      keystonePassword: 'secret-glance',
      keystoneCacheSeconds: 1,
    })
    await keystone.imageEndpoint(subject.url)
  }, 120_000)
  afterAll(() => keystone?.stop())

  const list = (token?: string, headers = {}) =>
    ask(`${subject.url}/v2/images`, 'GET', undefined, {
      ...(token === undefined ? {} : { 'x-auth-token': token }),
      ...headers,
    })

  it('lets in who is known, and nobody else', async () => {
    const token = await keystone.token(ann)
    expect((await list(token)).status).toBe(200)
    for (const refused of [
      await list(),
      await list('nonsense'),
      await list(token, { 'x-service-token': 'nonsense' }),
    ]) {
      expect([refused.status, refused.headers['www-authenticate']]).toEqual([401, `Keystone uri="${keystone.url}"`])
    }
    const serviceToken = await keystone.token({ user: 'glance', password: 'secret-glance', project: 'service' })
    expect((await list(token, { 'x-service-token': serviceToken })).status).toBe(200)
  })

  it('says who, where, and with which roles', async () => {
    const project = await keystone.project('garden')
    const token = await keystone.token(ann)
    const admin = await keystone.token({ ...keystone.admin, system: true })
    const { identity } = subject.service
    expect(await identity.identify({ token, serviceToken: undefined })).toMatchObject({
      userName: 'ann',
      projectId: project,
      roles: new Set(['member', 'reader']),
      isService: false,
    })
    expect(await identity.identify({ token: admin, serviceToken: undefined })).toMatchObject({
      userName: 'admin',
      projectId: null,
      roles: new Set(['admin', 'manager', 'member', 'reader']),
    })
  })

  it('is believed for a short time only: a token that is revoked, and one of a user who is disabled, end', async () => {
    const revoked = await keystone.token(ann)
    const disabled = await keystone.token(ann)
    expect([(await list(revoked)).status, (await list(disabled)).status]).toEqual([200, 200])
    const headers = { 'x-auth-token': revoked, 'x-subject-token': revoked }
    expect((await ask(`${keystone.url}/auth/tokens`, 'DELETE', undefined, headers)).status).toBe(204)
    await vi.waitFor(async () => expect((await list(revoked)).status).toBe(401), { timeout: 5000, interval: 200 })
    expect((await list(disabled)).status).toBe(200)
    const id = await keystone.user('ann', 'secret-ann', {})
    await keystone.manage('PATCH', `/users/${id}`, { user: { enabled: false } })
    await vi.waitFor(async () => expect((await list(disabled)).status).toBe(401), { timeout: 5000, interval: 200 })
    await keystone.manage('PATCH', `/users/${id}`, { user: { enabled: true } })
  })

  it('may be told by an application credential who the service is', async () => {
    const token = await keystone.token({ user: 'glance', password: 'secret-glance', project: 'service' })
    const id = await keystone.user('glance', 'secret-glance', {})
    const made = await ask(
      `${keystone.url}/users/${id}/application_credentials`,
      'POST',
      JSON.stringify({ application_credential: { name: 'images', secret: 'secret-images' } }),
      { 'x-auth-token': token, 'content-type': 'application/json' },
    )
    const other = await start({
      auth: 'keystone',
      keystoneUrl: keystone.url,
      keystoneMethod: 'application_credential',
      keystoneUser: made.json<{ application_credential: { id: string } }>().application_credential.id,
      keystonePassword: 'secret-images',
    })
    const answer = await ask(`${other.url}/v2/images`, 'GET', undefined, { 'x-auth-token': await keystone.token(ann) })
    expect(answer.status).toBe(200)
  })

  const commands = { openstack: ['image', 'list', '-f', 'value'], glance: ['image-list'] }
  for (const [client, command] of Object.entries(commands)) {
    describeWith([client], client, () => {
      it('logs in', { timeout: 60_000 }, async () => {
        const env = { PATH: process.env.PATH, HOME: folder.file('.'), ...keystone.environment(ann) }
        await runOk(client, command, { env })
      })
    })
  }

  it('that is gone is 503, and comes back by itself', async () => {
    const token = await keystone.token(ann)
    const other = await keystone.token(ann)
    expect((await list(token)).status).toBe(200)
    const port = Number(new URL(keystone.url).port)
    await keystone.stop()
    expect((await list(token)).status).toBe(200)
    expect((await list(other)).status).toBe(503)
    keystone = await startKeystone(folder.file('keystone'), port)
    await vi.waitFor(async () => expect((await list(other)).status).toBe(200), { timeout: 10_000, interval: 200 })
  }, 60_000)
})
