/** What is asked of Keystone, how often, and what follows from each of its answers. */
import { readFileSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { temporaryFolder } from '../../../engine/test/support/folder.ts'
import { describeWith, runOk } from '../../../engine/test/support/process.ts'
import { IdentityUnavailable } from '../../src/identity/identity.ts'
import { keystoneIdentity } from '../../src/identity/keystone.ts'
import { TokenCache } from '../../src/identity/token-cache.ts'
import { type KeystoneDouble, keystoneDoubles, tokenOf } from '../support/keystone-double.ts'

const start = keystoneDoubles()
const folder = temporaryFolder()
let keystone: KeystoneDouble
const opened: { close(): Promise<void> }[] = []
beforeEach(async () => {
  keystone = await start()
  keystone.tokens.set('good', tokenOf('ann'))
})
afterEach(async () => {
  for (const identity of opened.splice(0)) await identity.close()
})

function open(cacheSeconds = 60, more = {}) {
  const identity = keystoneIdentity(
    {
      url: `${keystone.url}/v3/`,
      method: 'password',
      user: 'glance',
      password: 'secret',
      userDomain: 'Default',
      project: 'service',
      projectDomain: 'Default',
      ca: undefined,
      timeoutSeconds: 1,
      ...more,
    },
    cacheSeconds,
  )
  opened.push(identity)
  return (token: string | undefined, serviceToken?: string) => identity.identify({ token, serviceToken })
}

describe('a caller', () => {
  it('is the user, the project and the roles of the token', async () => {
    expect(await open()('good')).toEqual({
      userId: 'id-of-ann',
      userName: 'ann',
      projectId: 'p1',
      roles: new Set(['member', 'reader']),
      isService: false,
    })
    expect(keystone.questions).toEqual(['good /v3/auth/tokens?nocatalog=1'])
  })

  it.each<[string, object, Record<string, unknown>]>([
    ['of the whole system', { project: undefined, system: { all: true } }, { projectId: null }],
    ['of no scope', { project: undefined, roles: undefined }, { projectId: null, roles: new Set() }],
    [
      'of a domain, where roles do not count',
      { project: undefined, domain: { id: 'default' }, roles: [{ name: 'admin' }] },
      { projectId: null, roles: new Set() },
    ],
    [
      'who is admin outside the project of admins',
      { is_admin_project: false, roles: [{ name: 'admin' }] },
      { roles: new Set(['manager', 'member', 'reader']) },
    ],
  ])('may be one %s', async (_what, more, expected) => {
    keystone.tokens.set('good', tokenOf('ann', more))
    expect(await open()('good')).toMatchObject(expected)
  })

  it('is nobody without a token, with an unknown one, or one that cannot be sent', async () => {
    const identify = open()
    expect(await identify(undefined)).toBeUndefined()
    expect(await identify('bad')).toBeUndefined()
    expect(await identify('né')).toBeUndefined()
    expect(await identify('a b')).toBeUndefined()
    expect(keystone.questions).toHaveLength(1)
  })

  it('is nobody once the token is at its end, also when it is remembered', async () => {
    keystone.tokens.set('old', tokenOf('ann', { expires_at: new Date(Date.now() - 1000).toISOString() }))
    keystone.tokens.set('short', tokenOf('ann', { expires_at: new Date(Date.now() + 150).toISOString() }))
    const identify = open()
    expect(await identify('old')).toBeUndefined()
    expect(await identify('short')).toBeDefined()
    await new Promise((resolve) => setTimeout(resolve, 200))
    keystone.tokens.delete('short')
    expect(await identify('short')).toBeUndefined()
  })

  it('comes with a service whose token has the role', async () => {
    keystone.tokens.set('nova', tokenOf('nova', { roles: [{ name: 'service' }] }))
    keystone.tokens.set('other', tokenOf('other'))
    const identify = open()
    expect(await identify('good', 'nova')).toMatchObject({ userName: 'ann', isService: true })
    expect(await identify('good', 'other')).toMatchObject({ isService: false })
    expect(await identify('good', 'bad')).toBeUndefined()
    expect(await identify('gone', 'nova')).toBeUndefined()
    expect(keystone.questions.at(-1)).toBe('gone /v3/auth/tokens?nocatalog=1&allow_expired=1')
  })
})

describe('Keystone', () => {
  it('is asked once for a token that is remembered, or asked for at the same time', async () => {
    const identify = open()
    await Promise.all(Array.from({ length: 20 }, () => identify('good')))
    await identify('good')
    await identify('bad')
    await identify('bad')
    expect([keystone.questions.length, keystone.logins]).toEqual([2, 1])
  })

  it('is asked again when the time is over, so that a revoked token ends', async () => {
    const identify = open(1)
    expect(await identify('good')).toBeDefined()
    keystone.tokens.delete('good')
    expect(await identify('good')).toBeDefined()
    await vi.waitFor(async () => expect(await identify('good')).toBeUndefined(), { timeout: 3000, interval: 100 })
  })

  it('is asked each time where nothing may be remembered', async () => {
    const identify = open(0)
    await identify('good')
    keystone.tokens.delete('good')
    expect(await identify('good')).toBeUndefined()
  })

  it('gets a new login when it takes the token of the service no more, and before that one ends', async () => {
    const identify = open(0)
    await identify('good')
    keystone.serviceToken = 'changed'
    expect(await Promise.all([identify('good'), identify('bad')])).toEqual([expect.anything(), undefined])
    expect(keystone.logins).toBe(2)
    keystone.serviceLife = 0
    keystone.serviceToken = 'changed again'
    await identify('good')
    await identify('good')
    expect(keystone.logins).toBe(4)
  })

  it('that is down, slow, broken or refuses is an error, and what is remembered goes on', async () => {
    const identify = open()
    await identify('good')
    const answers: KeystoneDouble['instead'][] = [
      (_request, answer) => answer.destroy(),
      (_request, answer) => answer.writeHead(500).end('no'),
      (_request, answer) => answer.writeHead(403).end('{}'),
      (_request, answer) => answer.writeHead(200).end('<html>'),
      (_request, answer) => void answer.writeHead(200).write('{'),
    ]
    for (const instead of answers) {
      keystone.instead = instead
      await expect(identify('other')).rejects.toThrow(IdentityUnavailable)
    }
    expect(await identify('good')).toBeDefined()
    keystone.instead = undefined
    expect(await identify('other')).toBeUndefined()
  })

  it('that refuses the service itself is not asked again at once', async () => {
    let tries = 0
    keystone.instead = (_request, answer) => {
      tries++
      answer.writeHead(401).end('{}')
    }
    const identify = open()
    await expect(identify('good')).rejects.toThrow('refuses the service')
    await expect(identify('good')).rejects.toThrow(IdentityUnavailable)
    expect(tries).toBe(1)
  })
})

describeWith(['openssl'], 'Keystone behind TLS', () => {
  it('is believed by the certificates that it is given, and by no others', async () => {
    const [key, cert] = [folder.file('key.pem'), folder.file('cert.pem')]
    const subject = ['-subj', '/CN=keystone', '-addext', 'subjectAltName=IP:127.0.0.1', '-newkey', 'rsa:2048', '-nodes']
    await runOk('openssl', ['req', '-x509', ...subject, '-days', '2', '-keyout', key, '-out', cert])
    keystone = await start({ cert: readFileSync(cert, 'utf8'), key: readFileSync(key, 'utf8') })
    keystone.tokens.set('good', tokenOf('ann'))
    expect(await open(60, { ca: readFileSync(cert, 'utf8') })('good')).toMatchObject({ userName: 'ann' })
    await expect(open()('good')).rejects.toThrow(IdentityUnavailable)
  })
})

describe('the memory of tokens', () => {
  it('is bounded, and bad tokens do not drive out good ones', async () => {
    let asked = 0
    const cache = new TokenCache<{ expiresAt: number }>({ seconds: 60, most: 20 })
    const ask = (value: { expiresAt: number } | undefined) => () => {
      asked++
      return Promise.resolve(value)
    }
    const good = { expiresAt: Date.now() + 100_000 }
    for (let index = 0; index < 20; index++) await cache.get(`good ${index}`, ask(good))
    for (let index = 0; index < 100; index++) await cache.get(`bad ${index}`, ask(undefined))
    asked = 0
    for (let index = 0; index < 20; index++) await cache.get(`good ${index}`, ask(good))
    expect(asked).toBe(0)
    await cache.get('bad 0', ask(undefined))
    await cache.get('good 20', ask(good))
    await cache.get('good 0', ask(good))
    expect(asked).toBe(3)
  })
})
