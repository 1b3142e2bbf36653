/** Callers who send more requests than they may. */
import { setTimeout as sleep } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { effectiveRoles } from '../src/identity/caller.ts'
import { countedAs } from '../src/operate/counted-as.ts'
import { believing } from './support/believing.ts'
import { asCaller } from './support/glance.ts'
import { ask, services } from './support/service.ts'

const start = services()
const withCallers = { requestRate: 1, requestBurst: 3 }
const open = (config = withCallers) => start(config, (service) => ({ ...service, identity: believing }))
const statuses = async (url: string, count: number, headers = {}) => {
  const answers = await Promise.all(Array.from({ length: count }, () => ask(url, 'GET', undefined, headers)))
  return answers.map(({ status }) => status).toSorted()
}

describe('requests of one caller', () => {
  it('are refused beyond the rate and the burst, each project by itself, and taken again later', async () => {
    const { url } = await open()
    const images = `${url}/v2/images`
    const mine = asCaller('p1', ['member'])
    // The fourth and more would be refused at whatever moment the second turns.
    const first = await statuses(images, 8, mine)
    expect(first.filter((status) => status === 200).length).toBeGreaterThanOrEqual(4)
    expect(first.filter((status) => status === 200).length).toBeLessThanOrEqual(5)
    expect(first.filter((status) => status === 429).length).toBeGreaterThanOrEqual(3)
    expect(await statuses(images, 3, asCaller('p2', ['member']))).toEqual([200, 200, 200])
    await sleep(1100)
    expect((await ask(images, 'GET', undefined, mine)).status).toBe(200)
  })

  it('are refused with the time after which to come again, and counted', async () => {
    const { url } = await open({ requestRate: 1, requestBurst: 0 })
    const mine = { ...asCaller('p1', ['member']), accept: 'application/json' }
    const answers = await Promise.all(Array.from({ length: 5 }, () => ask(`${url}/v2/images`, 'GET', undefined, mine)))
    const refused = answers.find(({ status }) => status === 429)
    expect(refused?.headers['retry-after']).toBe('1')
    expect(refused?.json()).toMatchObject({
      code: '429 Too Many Requests',
      message: expect.stringContaining('try again after 1 s'),
    })
    const measures = (await ask(`${url}/metrics`)).body.toString()
    expect(measures).toMatch(/moraine_requests_limited_total\{by="project"\} [1-9]/)
  })

  it('count by the address where nobody has logged in, and where the login is not good', async () => {
    const { url } = await open({ requestRate: 1, requestBurst: 1 })
    const bad = await statuses(`${url}/v2/images`, 6, { 'x-auth-token': 'nonsense' })
    expect([bad.includes(401), bad.includes(429)]).toEqual([true, true])
    expect(await statuses(`${url}/`, 6)).toContain(429)
    // Who has logged in from there is somebody else.
    expect((await ask(`${url}/v2/images`, 'GET', undefined, asCaller('p1', ['member']))).status).toBe(200)
  })

  it('count by the address that a trusted proxy names', async () => {
    const { url } = await start({ requestRate: 1, requestBurst: 0, trustedProxies: '127.0.0.1' })
    const from = (address: string) => ({ 'x-forwarded-for': address })
    expect(await statuses(`${url}/v2/images`, 4, from('192.0.2.1'))).toContain(429)
    expect(await statuses(`${url}/v2/images`, 1, from('192.0.2.2'))).toEqual([200])
  })

  it('are never refused where the service is watched, and not counted at all by default', async () => {
    const { url } = await open({ requestRate: 1, requestBurst: 0 })
    for (const path of ['/livez', '/readyz', '/healthcheck', '/metrics']) {
      expect(new Set(await statuses(`${url}${path}`, 5))).toEqual(new Set([200]))
    }
    const plain = await start()
    expect(new Set(await statuses(`${plain.url}/v2/images`, 200))).toEqual(new Set([200]))
  })
})

describe('who is counted together', () => {
  const user = { userId: 'u1', userName: 'u1', roles: effectiveRoles([]), isService: false }
  it.each([
    ['2001:db8:1:2:3:4:5:6', 'address 2001:db8:1:2'],
    ['2001:db8::1', 'address 2001:db8:0:0'],
    ['::1', 'address 0:0:0:0'],
    ['fe80::', 'address fe80:0:0:0'],
    ['::ffff:192.0.2.1', 'address ::ffff:192.0.2.1'],
    ['192.0.2.1', 'address 192.0.2.1'],
  ])('%s is %s', (address, key) => expect(countedAs(undefined, address)).toEqual({ by: 'address', key }))

  it('a project, or a user without one', () => {
    expect(countedAs({ ...user, projectId: 'p1' }, '::1').key).toBe('project p1')
    expect(countedAs({ ...user, projectId: null }, '::1').key).toBe('user u1')
    expect(countedAs({ ...user, userId: null, projectId: null }, '::1').by).toBe('address')
  })
})
