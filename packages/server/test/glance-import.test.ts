/** Ours beside a real Glance with several stores: staging, imports, stores and tasks; and what operators have: cache, quotas, protections, locations. */
import { writeFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { Quotas } from '../src/quota/quotas.ts'
import { believing } from './support/believing.ts'
import { take } from './support/compare.ts'
import { asCaller, describeWithGlance, type Glance, startGlance } from './support/glance.ts'
import { importWalk } from './support/glance-import.ts'
import { operatorsWalk, protections, smallLimits } from './support/glance-operators.ts'
import { limitsOf, startLimits } from './support/limits-double.ts'
import { startMirror } from './support/mirror.ts'
import { ask, type Subject, services } from './support/service.ts'

const start = services()
const folder = temporaryFolder()
const caller = asCaller('p1', ['admin', 'member', 'reader'])

describeWithGlance('the same imports by Glance and by us', () => {
  let glance: Glance | undefined
  let subject: Subject
  let mirror = ''
  beforeAll(async () => {
    const { url, files } = await startMirror()
    mirror = url
    files.set('/image', { data: Buffer.alloc(100_000, 'image') })
    for (const path of ['/other', '/other?9']) files.set(path, { data: Buffer.alloc(2_000, 'other') })
    const own = { small: smallLimits }
    const limits = await startLimits(own, 100_000)
    glance = await startGlance(folder.file('.'), true, true, undefined, { protections, limits })
    writeFileSync(folder.file('ours.ini'), protections)
    const identity = { ...believing, limitsOf: limitsOf(own, 100_000) }
    subject = await start(
      {
        ...{ imageCacheSize: 100_000_000, showLocations: true, propertyProtectionFile: folder.file('ours.ini') },
        stores: `one=folder:${folder.fresh()}, description=First; two=folder:${folder.fresh()}; web=http`,
        ...{ importAllowedHosts: '127.0.0.1', importPorts: '*', importRetries: 0 },
      },
      (service) => ({
        ...service,
        identity,
        quotas: new Quotas(service.config, identity, service.catalog.usages),
      }),
    )
  }, 120_000)
  afterAll(() => glance?.stop())

  const read = async <Shape>(url: string) => (await ask(url, 'GET', undefined, caller)).json<Shape>()

  /** Waits until no import, no task and no copy into the cache is under way. */
  async function settle(url: string): Promise<void> {
    for (const end = Date.now() + 30_000; Date.now() < end; await sleep(50)) {
      const { images } = await read<{ images: Record<string, unknown>[] }>(`${url}/v2/images?limit=100`)
      if (images.some((image) => image.os_glance_import_task !== undefined || image.status === 'importing')) continue
      const { tasks } = await read<{ tasks: { status: string }[] }>(`${url}/v2/tasks?limit=100`)
      if (tasks.some(({ status }) => !['success', 'failure'].includes(status))) continue
      const { queued_images: queued } = await read<{ queued_images: string[] }>(`${url}/v2/cache`)
      if (queued.length === 0) return
    }
    throw new Error(`imports at ${url} do not come to their end`)
  }

  const walk = { ...importWalk, ...operatorsWalk }
  const [theirIds, ourIds] = [new Map<string, string>(), new Map<string, string>()]
  it.each(Object.entries(walk))('get the same answers: %s', { timeout: 120_000 }, async (_part, steps) => {
    for (const step of steps) {
      const body = typeof step.body === 'string' ? step.body.replaceAll('MIRROR', mirror) : step.body
      const asked = { ...step, ...(body === undefined ? {} : { body }), headers: { ...caller, ...step.headers } }
      const theirs = await take(glance?.url ?? '', asked, theirIds)
      const ours = await take(subject.url, asked, ourIds)
      if (/\/(import|tasks|cache|locations)/.test(step.line))
        await Promise.all([settle(glance?.url ?? ''), settle(subject.url)])
      const title = `${step.line} ${String(step.body ?? '').slice(0, 300)} by ${asked.headers['x-roles']}`
      if (step.differs === undefined) expect.soft(ours, title).toEqual(theirs)
      else expect.soft(ours, `${title} (${step.differs})`).not.toEqual(theirs)
    }
  })
})
