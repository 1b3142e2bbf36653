/** Accounts of the service: who may log in, for how long, and what is written down. */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import fastify from 'fastify'
import { beforeAll, describe, expect, it, vi } from 'vitest'
import { temporaryFolder } from '../../../engine/test/support/folder.ts'
import { createApp } from '../../src/app.ts'
import { openSqlCatalog } from '../../src/catalog/sql-catalog.ts'
import { sqliteDialect } from '../../src/catalog/sqlite/dialect.ts'
import { type ConfigInput, readConfig } from '../../src/config.ts'
import { ensureFirstAccount } from '../../src/identity/first-account.ts'
import { LocalIdentity } from '../../src/identity/local.ts'
import { hashPassword, isPassword } from '../../src/identity/passwords.ts'
import { closeService, openService } from '../../src/open-service.ts'
import { setPassword } from '../../src/upkeep.ts'
import { administer, type IdentityAdmin } from '../support/identity-admin.ts'
import { ask, type Subject, services } from '../support/service.ts'

const start = services()
const folder = temporaryFolder()
const garden = { user: 'ann', password: 'secret-ann', project: 'garden' }

/** A service with accounts, and its administrator. */
interface LocalAccounts extends IdentityAdmin {
  subject: Subject
}

function accounts(subject: Subject): LocalAccounts {
  const admin = { user: 'admin', password: 'secret-admin', project: 'admin' }
  return { ...administer(`${subject.url}/identity/v3`, admin), subject }
}

async function open(more: ConfigInput = {}): Promise<LocalAccounts> {
  const subject = await start({ auth: 'local', adminPassword: 'secret-admin', ...more })
  const local = accounts(subject)
  await local.user('ann', 'secret-ann', { garden: ['member'] })
  return local
}

describe('a password', () => {
  it('is kept as Argon2id in PHC form, with its own salt', async () => {
    const [first, second] = [await hashPassword('open sesame'), await hashPassword('open sesame')]
    expect(first).toMatch(/^\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$/)
    expect(second).not.toBe(first)
    expect(await isPassword('open sesame', first)).toBe(true)
    expect(await isPassword('open sesam', first)).toBe(false)
    expect(await isPassword('', undefined)).toBe(false)
    expect(await isPassword('x', 'no hash')).toBe(false)
  })

  it('is what others make of it: a hash of the reference implementation', async () => {
    // argon2 "password" with salt "somesalt", -id -t 2 -k 256 -p 1, of the reference implementation's own tests.
    const hash = '$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4'
    expect([await isPassword('password', hash), await isPassword('passwort', hash)]).toEqual([true, false])
  })

  it('costs an unknown user as much as a known one', async () => {
    const hash = await hashPassword('x')
    const time = async (stored: string | undefined) => {
      const begin = performance.now()
      await isPassword('y', stored)
      return performance.now() - begin
    }
    const known: number[] = []
    const unknown: number[] = []
    for (let index = 0; index < 8; index++) {
      known.push(await time(hash))
      unknown.push(await time(undefined))
    }
    const ratio = Math.min(...unknown) / Math.min(...known)
    expect(ratio).toBeGreaterThan(0.5)
    expect(ratio).toBeLessThan(2)
  })
})

describe('the first account', () => {
  it('has the password that is given', async () => {
    const local = accounts(await start({ auth: 'local', adminPassword: 'chosen' }))
    expect((await local.logIn({ user: 'admin', password: 'chosen', project: 'admin' })).status).toBe(201)
    expect((await local.logIn({ user: 'admin', password: 'chosen', system: true })).status).toBe(201)
  })

  it('has one that is made up and written down otherwise, once', async () => {
    const subject = await start({ auth: 'local' })
    const path = join(subject.data, 'admin-password')
    const password = readFileSync(path, 'utf8').trim()
    expect([password.length, statSync(path).mode & 0o777]).toEqual([24, 0o600])
    expect(subject.service.identity).toMatchObject({ passwordFile: path })
    const local = accounts(subject)
    expect((await local.logIn({ user: 'admin', password, project: 'admin' })).status).toBe(201)
    await subject.close()
    const again = await start({ auth: 'local', data: subject.data, adminPassword: 'other' })
    expect(again.service.identity).toMatchObject({ passwordFile: undefined })
    const later = accounts(again)
    expect((await later.logIn({ user: 'admin', password: 'other', project: 'admin' })).status).toBe(401)
    expect((await later.logIn({ user: 'admin', password, project: 'admin' })).status).toBe(201)
  })

  it('is made again for who has locked everybody out', async () => {
    const subject = await start({ auth: 'local', adminPassword: 'secret-admin' })
    const local = accounts(subject)
    const { users } = (await local.manage('GET', '/users')).json<{ users: { id: string }[] }>()
    const other = await local.user('ann', 'secret-ann', {})
    await local.manage('PATCH', `/projects/${await local.project('admin')}`, { project: { description: 'kept' } })
    await local.manage('DELETE', `/users/${users[0]?.id}`)
    const settings = { data: subject.data }
    await expect(setPassword(settings, 'nobody', 'x')).rejects.toMatchObject({ kind: 'missing' })
    await expect(setPassword(settings, 'ann', 'x'.repeat(1025))).rejects.toMatchObject({ kind: 'invalid' })
    const password = await setPassword(settings, 'admin', '')
    expect((await local.logIn({ user: 'admin', password, project: 'admin' })).status).toBe(201)
    expect((await local.logIn({ user: 'admin', password, system: true })).status).toBe(201)
    expect(await setPassword(settings, 'ann', 'chosen')).toBe('chosen')
    expect(await subject.service.catalog.accounts.userByName('ann')).toMatchObject({ id: other, enabled: true })
    expect((await local.logIn({ user: 'ann', password: 'chosen' })).status).toBe(201)
    const empty = await start({})
    await expect(setPassword({ data: empty.data }, 'admin', 'x')).rejects.toMatchObject({ kind: 'missing' })
  })

  it('is made by one of several that start at once', async () => {
    const data = folder.fresh()
    const subject = await start({ data })
    const { accounts: shared } = subject.service.catalog
    const written = await Promise.all([1, 2, 3].map(() => ensureFirstAccount(shared, '', data)))
    expect(written.filter((path) => path !== undefined)).toEqual([join(data, 'admin-password')])
    expect(readdirSync(data).filter((name) => name.startsWith('admin-password'))).toEqual(['admin-password'])
    const [user] = await shared.users({})
    expect(await isPassword(readFileSync(join(data, 'admin-password'), 'utf8').trim(), user?.passwordHash)).toBe(true)
  })
})

describe('a token', () => {
  let local: LocalAccounts
  beforeAll(async () => {
    local = await open()
  })
  const images = (token?: string, headers = {}) =>
    ask(`${local.subject.url}/v2/images`, 'GET', undefined, {
      ...(token === undefined ? {} : { 'x-auth-token': token }),
      ...headers,
    })

  it('opens the Image API, and nothing else does', async () => {
    const token = await local.token(garden)
    expect((await images(token)).status).toBe(200)
    for (const refused of [await images(), await images('nonsense'), await images(token, { 'x-service-token': 'x' })]) {
      expect([refused.status, refused.headers['www-authenticate']]).toEqual([
        401,
        `Keystone uri="${local.subject.url}/identity"`,
      ])
    }
  })

  it('says who, where, and with which roles', async () => {
    const { identity } = local.subject.service
    const token = await local.token(garden)
    const service = await local.user('nova', 'secret-nova', { service: ['service'] })
    const serviceToken = await local.token({ user: 'nova', password: 'secret-nova', project: 'service' })
    const project = await local.project('garden')
    expect(await identity.identify({ token, serviceToken: undefined })).toEqual({
      userId: await local.user('ann', 'secret-ann', {}),
      userName: 'ann',
      projectId: project,
      roles: new Set(['member', 'reader']),
      isService: false,
    })
    expect(await identity.identify({ token, serviceToken })).toMatchObject({ userName: 'ann', isService: true })
    expect(await identity.identify({ token: serviceToken, serviceToken: token })).toMatchObject({
      userId: service,
      isService: false,
    })
    const system = await local.token({ ...local.admin, system: true })
    expect(await identity.identify({ token: system, serviceToken: undefined })).toMatchObject({
      projectId: null,
      roles: new Set(['admin', 'manager', 'member', 'reader']),
    })
    const unscoped = await local.token({ user: 'ann', password: 'secret-ann' })
    expect(await identity.identify({ token: unscoped, serviceToken: undefined })).toMatchObject({ roles: new Set() })
  })

  it('ends with the user, the project, the role, the password, and when it is given up', async () => {
    const id = await local.user('ann', 'secret-ann', {})
    const project = await local.project('garden')
    const role = (await local.manage('GET', '/roles?name=member')).json<{ roles: { id: string }[] }>().roles[0]?.id
    const grant = `/projects/${project}/users/${id}/roles/${role}`
    const ends: [() => Promise<unknown>, (() => Promise<unknown>)?][] = [
      [
        () => local.manage('PATCH', `/users/${id}`, { user: { enabled: false } }),
        () => local.manage('PATCH', `/users/${id}`, { user: { enabled: true } }),
      ],
      [
        () => local.manage('PATCH', `/projects/${project}`, { project: { enabled: false } }),
        () => local.manage('PATCH', `/projects/${project}`, { project: { enabled: true } }),
      ],
      [() => local.manage('DELETE', grant), () => local.manage('PUT', grant)],
      [() => local.manage('PATCH', `/users/${id}`, { user: { password: 'secret-ann' } })],
    ]
    for (const [end, undo] of ends) {
      const token = await local.token(garden)
      expect((await images(token)).status).toBe(200)
      await end()
      expect((await images(token)).status).toBe(401)
      await undo?.()
    }
    const token = await local.token(garden)
    const headers = { 'x-auth-token': token, 'x-subject-token': token }
    expect((await ask(`${local.url}/auth/tokens`, 'DELETE', undefined, headers)).status).toBe(204)
    expect((await images(token)).status).toBe(401)
  })

  it('is no secret to be found in the catalog, nor in the log', async () => {
    const lines: string[] = []
    const config = readConfig({ data: folder.fresh(), auth: 'local', adminPassword: 'secret-admin', port: 0 }, {})
    const { log } = fastify({ logger: { level: 'trace', stream: { write: (line: string) => void lines.push(line) } } })
    const service = await openService(config, log as never)
    const app = createApp(service, log)
    const login = (password: string) =>
      app.inject({
        method: 'POST',
        url: '/identity/v3/auth/tokens',
        payload: {
          auth: {
            identity: {
              methods: ['password'],
              password: { user: { name: 'admin', domain: { id: 'default' }, password } },
            },
          },
        },
      })
    const token = String((await login('secret-admin')).headers['x-subject-token'])
    await login('secret-typo')
    await app.inject({ url: '/v2/images', headers: { 'x-auth-token': token } })
    await app.inject({ url: '/identity/v3/users', headers: { 'x-auth-token': token } })
    await app.close()
    await closeService(service)
    const files = readdirSync(config.data).filter((name) => name.startsWith('catalog'))
    expect(files.map((name) => statSync(join(config.data, name)).mode & 0o077)).toEqual(files.map(() => 0))
    const written = files.map((name) => readFileSync(join(config.data, name), 'latin1')).join('')
    expect(lines.join('')).toContain('login refused')
    expect(token.length).toBeGreaterThan(40)
    for (const secret of [token, 'secret-admin', 'secret-typo']) {
      expect(lines.join('')).not.toContain(secret)
      expect(written).not.toContain(secret)
    }
  })

  it('ends in time, and so do those that are made from it, and an application credential', async () => {
    let now = 1_000_000
    const catalog = await openSqlCatalog(sqliteDialect(folder.fresh('.sqlite')), { now: () => now })
    const identity = new LocalIdentity(catalog, { tokenSeconds: 100, loginAttempts: 0, loginLockSeconds: 1 }, () => now)
    await ensureFirstAccount(catalog.accounts, 'x', folder.file('.'))
    const { token, session } = await identity.withPassword({ name: 'admin' }, 'x', undefined, '')
    now += 60
    const second = await identity.withToken(token, { kind: 'system' })
    expect([second.session.token.expiresAt, session.token.expiresAt]).toEqual([1_000_100, 1_000_100])
    expect(second.session.token.methods).toEqual(['token', 'password'])
    await catalog.logins.createCredential({
      id: 'c',
      userId: session.user.id,
      projectId: session.project?.id ?? '',
      name: 'robot',
      description: null,
      secretHash: await hashPassword('s'),
      roles: session.roles.filter(({ name }) => name === 'reader'),
      expiresAt: now + 70,
      unrestricted: false,
    })
    const robot = await identity.withCredential({ id: 'c' }, 's', '')
    expect(robot.session).toMatchObject({ roles: [{ name: 'reader' }], token: { expiresAt: now + 70 } })
    now += 40
    expect([await identity.session(token), await identity.session(second.token)]).toEqual([undefined, undefined])
    expect(await identity.session(robot.token)).toBeDefined()
    now += 30
    expect(await identity.session(robot.token)).toBeUndefined()
    await expect(identity.withCredential({ id: 'c' }, 's', '')).rejects.toThrow('login refused')
    await catalog.close()
  })
})

describe('a wrong password', () => {
  it('locks the account for its address, and not for others; the right one does not help then', async () => {
    const local = await open({ loginAttempts: 3, loginLockSeconds: 2 })
    const wrong = { ...garden, password: 'wrong' }
    expect((await local.logIn(wrong)).status).toBe(401)
    expect((await local.logIn(garden)).status).toBe(201)
    const tries = await Promise.all(Array.from({ length: 12 }, () => local.logIn(wrong)))
    expect(tries.map(({ status }) => status)).toEqual(Array.from({ length: 12 }, () => 401))
    expect((await local.logIn(garden)).status).toBe(401)
    expect((await local.logIn(local.admin)).status).toBe(201)
    const { identity } = local.subject.service as unknown as { identity: LocalIdentity }
    await identity.withPassword({ name: 'ann' }, 'secret-ann', undefined, '192.0.2.7')
    await vi.waitFor(async () => expect((await local.logIn(garden)).status).toBe(201), { timeout: 5000, interval: 300 })
  })

  it('is not tried more often than allowed, also when many come at once', async () => {
    const local = await open({ loginAttempts: 5 })
    const { catalog } = local.subject.service
    const attempts = Array.from({ length: 20 }, () => catalog.logins.countAttempts([{ key: 'k', most: 5 }], 60))
    expect((await Promise.all(attempts)).filter((spent) => spent === undefined)).toHaveLength(5)
  })

  it('locks the address when it tries many accounts', async () => {
    const local = await open({ loginAttempts: 1 })
    const answers = []
    for (let index = 0; index < 11; index++) answers.push(await local.logIn({ ...garden, user: `nobody ${index}` }))
    expect(answers.slice(0, 10).every(({ status }) => status === 401)).toBe(true)
    expect([answers[10]?.status, answers[10]?.headers['retry-after']]).toEqual([429, '300'])
  })

  it('for changing one counts, too', async () => {
    const local = await open({ loginAttempts: 2 })
    const id = await local.user('ann', 'secret-ann', {})
    const token = await local.token(garden)
    const change = (original: string) =>
      ask(
        `${local.url}/users/${id}/password`,
        'POST',
        JSON.stringify({ user: { password: 'next', original_password: original } }),
        { 'x-auth-token': token, 'content-type': 'application/json' },
      )
    expect([await change('a'), await change('b'), await change('secret-ann')].map(({ status }) => status)).toEqual([
      401, 401, 401,
    ])
  })
})

describe('requests', () => {
  let local: LocalAccounts
  beforeAll(async () => {
    local = await open()
  })

  it.each<[string, string, unknown, number]>([
    ['POST', '/users', '{', 400],
    ['POST', '/users', '[]', 400],
    ['POST', '/users', undefined, 400],
    ['POST', '/users', { user: { name: 'x\0y' } }, 400],
    ['POST', '/users', { user: { name: ' ' } }, 400],
    ['POST', '/users', { user: { name: 'x', password: '' } }, 400],
    ['POST', '/users', { user: { name: 'x', password: 'x'.repeat(1025) } }, 400],
    ['POST', '/users', { user: { name: 'x', options: { lock_password: true } } }, 400],
    ['POST', '/users', JSON.stringify({ user: { name: 'x', description: 'x'.repeat(120_000) } }), 413],
    ['POST', '/roles', { role: { name: 'ADMIN' } }, 409],
    ['PUT', '/users', undefined, 405],
    ['POST', '/services', { service: { type: 'image' } }, 403],
    ['GET', '/nothing', undefined, 404],
    ['GET', '/users/', undefined, 404],
    ['POST', '/auth/tokens', { auth: { identity: { methods: ['password', 'token'], password: {}, token: {} } } }, 400],
    ['POST', '/auth/tokens', { auth: { identity: { methods: ['constructor'] } } }, 400],
  ])('that cannot be met are told so: %s %s %j: %i', async (method, path, body, status) => {
    const text = typeof body === 'string' || body === undefined ? body : JSON.stringify(body)
    const headers = { 'x-auth-token': await local.token(local.admin), 'content-type': 'application/json' }
    const answer = await ask(`${local.url}${path}`, method, text, headers)
    expect(answer.status).toBe(status)
    if (status !== 405) expect(answer.json()).toMatchObject({ error: { code: status, title: expect.any(String) } })
  })

  it('find no accounts where the service has none', async () => {
    const other = await start()
    expect((await ask(`${other.url}/identity/v3`)).status).toBe(300)
  })
})

describe('two services on one catalog', () => {
  it('know the same tokens, users and wrong passwords at once', async () => {
    const first = await open({ loginAttempts: 4 })
    const second = accounts(await start({ auth: 'local', data: first.subject.data, loginAttempts: 4 }))
    const token = await first.token(garden)
    const list = () => ask(`${second.subject.url}/v2/images`, 'GET', undefined, { 'x-auth-token': token })
    expect((await list()).status).toBe(200)
    const headers = { 'x-auth-token': token, 'x-subject-token': token }
    await ask(`${first.url}/auth/tokens`, 'DELETE', undefined, headers)
    expect((await list()).status).toBe(401)
    const wrong = { ...garden, password: 'wrong' }
    await Promise.all([first, second, first, second].map((local) => local.logIn(wrong)))
    expect([(await first.logIn(garden)).status, (await second.logIn(garden)).status]).toEqual([401, 401])
  })
})

describe('the address', () => {
  it('is loopback unless passwords may pass in clear', () => {
    const config = { auth: 'local', host: '0.0.0.0', data: folder.fresh() } as const
    expect(() => readConfig(config, {})).toThrow(/passwords and tokens would pass there in clear/)
    expect(() => readConfig({ ...config, allowRemote: true }, {})).toThrow('--allow-plain-http')
    expect(readConfig({ ...config, allowPlainHttp: true }, {}).host).toBe('0.0.0.0')
  })
})
