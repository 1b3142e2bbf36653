/** Quotas: of bytes, staged bytes, images and uploads of one project, exact whatever happens at once and however many processes there are. */
import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import type { ConfigInput } from '../src/config.ts'
import { IdentityUnavailable } from '../src/identity/identity.ts'
import type { Limits } from '../src/quota/limits.ts'
import { Quotas } from '../src/quota/quotas.ts'
import { believing } from './support/believing.ts'
import { asCaller } from './support/glance.ts'
import { describeWithKeystone, startKeystone } from './support/keystone.ts'
import { type Answer, ask, type Subject, services, upload } from './support/service.ts'

const start = services()
const folder = temporaryFolder()
const MiB = 1024 * 1024
const json = { 'content-type': 'application/json' }
const p1 = asCaller('p1', ['member'])
const p2 = asCaller('p2', ['member'])

const open = (config: ConfigInput, limitsOf?: (project: string) => Promise<Limits>): Promise<Subject> =>
  start(config, (service) => {
    const identity = limitsOf === undefined ? believing : { ...believing, limitsOf }
    return { ...service, identity, quotas: new Quotas(service.config, identity, service.catalog.usages) }
  })

function create(subject: Subject, who: Record<string, string>): Promise<Answer> {
  const body = JSON.stringify({ disk_format: 'raw', container_format: 'bare' })
  return ask(`${subject.url}/v2/images`, 'POST', body, { ...who, ...json })
}

async function made(subject: Subject, who: Record<string, string>): Promise<string> {
  return (await create(subject, who)).json<{ id: string }>().id
}

interface Use {
  usage: number
  limit: number
}

async function usage(subject: Subject, who: Record<string, string>): Promise<Record<string, Use>> {
  return (await ask(`${subject.url}/v2/info/usage`, 'GET', undefined, who)).json<{ usage: Record<string, Use> }>().usage
}

/** A body in pieces, without a length. */
async function* pieces(bytes: number, pause = 0): AsyncGenerator<Uint8Array> {
  for (let left = bytes; left > 0; left -= 100_000) {
    if (pause > 0) await new Promise((resolve) => setTimeout(resolve, pause))
    yield randomBytes(Math.min(left, 100_000))
  }
}

describe('image data of a project', () => {
  it.each([
    ['a length that is known is refused before the first byte', (bytes: number) => randomBytes(bytes)],
    ['a length that is not known is refused when it is passed', (bytes: number) => pieces(bytes)],
  ])('%s, and leaves nothing', async (_what, body) => {
    const subject = await open({ projectSizeQuota: 3 * MiB })
    const id = await made(subject, p1)
    expect((await upload(subject.url, id, body(3 * MiB), p1)).status).toBe(204)
    const second = await made(subject, p1)
    const refused = await upload(subject.url, second, body(1), p1)
    expect(refused.status).toBe(413)
    expect(refused.body.toString()).toContain('the image data of project p1 may take 3145728 bytes, and 0 are left')
    expect((await upload(subject.url, await made(subject, p2), body(2 * MiB), p2)).status).toBe(204)
    expect(await usage(subject, p1)).toMatchObject({ image_size_total: { usage: 3, limit: 3 } })
    await ask(`${subject.url}/v2/images/${id}`, 'DELETE', undefined, p1)
    expect((await upload(subject.url, second, body(3 * MiB), p1)).status).toBe(204)
    expect((await usage(subject, p1)).image_size_total).toEqual({ usage: 3, limit: 3 })
  })

  it('of uploads at once through two processes has the same bound', async () => {
    const one = await open({ projectSizeQuota: 5 * MiB })
    const other = await open({ projectSizeQuota: 5 * MiB, data: one.data })
    const ids = await Promise.all(Array.from({ length: 10 }, () => made(one, p1)))
    const sent = ids.map((id, index) => upload((index % 2 === 0 ? one : other).url, id, pieces(MiB, 5), p1))
    const statuses = (await Promise.all(sent)).map(({ status }) => status)
    const stored = statuses.filter((status) => status === 204).length
    expect(statuses.filter((status) => status === 413)).toHaveLength(10 - stored)
    expect(stored).toBeLessThanOrEqual(5)
    expect((await usage(one, p1)).image_size_total?.usage).toBe(stored)
    // What was promised to those that were refused is free again.
    const left = ids.filter((_id, index) => statuses[index] === 413).slice(0, 5 - stored)
    for (const id of left) expect((await upload(other.url, id, pieces(MiB), p1)).status).toBe(204)
    expect((await usage(other, p1)).image_size_total).toEqual({ usage: 5, limit: 5 })
  })

  it('that waits to be imported has a bound of its own', async () => {
    const subject = await open({ projectStageQuota: MiB, importMethods: 'glance-direct' })
    const stage = (id: string, bytes: number) =>
      ask(`${subject.url}/v2/images/${id}/stage`, 'PUT', pieces(bytes), {
        ...p1,
        'content-type': 'application/octet-stream',
      })
    const id = await made(subject, p1)
    expect((await stage(id, MiB)).status).toBe(204)
    expect(await usage(subject, p1)).toMatchObject({
      image_stage_total: { usage: 1, limit: 1 },
      image_count_uploading: { usage: 1, limit: -1 },
      image_size_total: { usage: 0, limit: -1 },
    })
    const refused = await stage(await made(subject, p1), 1)
    expect([refused.status, refused.body.toString()]).toEqual([
      413,
      expect.stringContaining('the staged image data of project p1'),
    ])
    const method = JSON.stringify({ method: { name: 'glance-direct' } })
    expect((await ask(`${subject.url}/v2/images/${id}/import`, 'POST', method, { ...p1, ...json })).status).toBe(202)
    await expect
      .poll(() => usage(subject, p1), { timeout: 10_000 })
      .toMatchObject({
        image_stage_total: { usage: 0 },
        image_count_uploading: { usage: 0 },
        image_size_total: { usage: 1 },
      })
  })
})

describe('images of a project', () => {
  it('are counted, whoever makes them at once', async () => {
    const subject = await open({ projectImageQuota: 3 })
    const answers = await Promise.all(Array.from({ length: 8 }, () => create(subject, p1)))
    expect(answers.filter(({ status }) => status === 201)).toHaveLength(3)
    const refused = answers.find(({ status }) => status !== 201)
    expect([refused?.status, refused?.body.toString()]).toEqual([
      413,
      expect.stringContaining('Resource image_count_total is over limit of 3 due to current usage 3 and delta 1'),
    ])
    expect((await create(subject, p2)).status).toBe(201)
  })

  it('have so many uploads at once', async () => {
    const subject = await open({ projectUploadQuota: 2 })
    const ids = [await made(subject, p1), await made(subject, p1), await made(subject, p1)]
    const running = ids.slice(0, 2).map((id) => upload(subject.url, id, pieces(2_000_000, 40), p1))
    await expect.poll(async () => (await usage(subject, p1)).image_count_uploading?.usage).toBe(2)
    const refused = await upload(subject.url, ids[2] ?? '', pieces(10), p1)
    expect([refused.status, refused.body.toString()]).toEqual([
      413,
      expect.stringContaining('image_count_uploading is over limit of 2'),
    ])
    expect((await Promise.all(running)).map(({ status }) => status)).toEqual([204, 204])
    expect((await upload(subject.url, ids[2] ?? '', pieces(10), p1)).status).toBe(204)
  })
})

describe('limits that another service keeps', () => {
  it('are asked for once in a while, and again after they could not be had', async () => {
    let asked = 0
    const subject = await open({}, async () => {
      asked++
      if (asked === 1) throw new IdentityUnavailable('gone')
      return { image_count_total: 1 }
    })
    expect((await create(subject, p1)).status).toBe(503)
    expect((await create(subject, p1)).status).toBe(201)
    expect((await create(subject, p1)).status).toBe(413)
    expect(asked).toBe(2)
  })
})

describeWithKeystone('unified limits of Keystone', () => {
  it('hold for their project, and registered ones for the others', { timeout: 120_000 }, async () => {
    const keystone = await startKeystone(folder.file('.'))
    try {
      const { manage, ensure } = keystone
      const service = await ensure('service', { name: 'glance', type: 'image' })
      const [rich, poor] = [await ensure('project', { name: 'rich' }), await ensure('project', { name: 'poor' })]
      const region_id = 'RegionOne'
      const register = (resource_name: string, default_limit: number) => ({
        service_id: service,
        region_id,
        resource_name,
        default_limit,
      })
      await manage('POST', '/registered_limits', {
        registered_limits: [register('image_count_total', 1), register('image_size_total', 2)],
      })
      const own = {
        service_id: service,
        region_id,
        project_id: rich,
        resource_name: 'image_count_total',
        resource_limit: 2,
      }
      await manage('POST', '/limits', { limits: [own] })
      const { user, password } = keystone.admin
      const config: ConfigInput = {
        auth: 'keystone',
        keystoneUrl: keystone.url,
        keystoneUser: user,
        keystonePassword: password,
        keystoneProject: 'admin',
        keystoneLimits: true,
      }
      const subject = await start(config, (service) => ({
        ...service,
        identity: { ...service.identity, identify: believing.identify },
      }))
      const count = async (project: string) => {
        const who = asCaller(project, ['member'])
        const answers = [await create(subject, who), await create(subject, who), await create(subject, who)]
        return answers.filter(({ status }) => status === 201).length
      }
      expect([await count(rich), await count(poor)]).toEqual([2, 1])
      expect(await usage(subject, asCaller(rich, ['member']))).toEqual({
        image_size_total: { usage: 0, limit: 2 },
        image_stage_total: { usage: 0, limit: -1 },
        image_count_total: { usage: 2, limit: 2 },
        image_count_uploading: { usage: 0, limit: -1 },
      })
    } finally {
      await keystone.stop()
    }
  })
})
