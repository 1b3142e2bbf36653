/** Ours beside a real Glance with several stores: staging, imports, stores and tasks. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { believing } from './support/believing.ts'
import { take } from './support/compare.ts'
import { asCaller, describeWithGlance, type Glance, startGlance } from './support/glance.ts'
import { importWalk } from './support/glance-import.ts'
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
    glance = await startGlance(folder.file('.'), true, true)
    subject = await start(
      {
        stores: `one=folder:${folder.fresh()}, description=First; two=folder:${folder.fresh()}; web=http`,
        ...{ importAllowedHosts: '127.0.0.1', importPorts: '*', importRetries: 0 },
      },
      (service) => ({ ...service, identity: believing }),
    )
  }, 120_000)
  afterAll(() => glance?.stop())

  /** Waits until no import is under way. */
  async function settle(url: string): Promise<void> {
    for (const end = Date.now() + 30_000; Date.now() < end; await sleep(50)) {
      const { images } = (await ask(`${url}/v2/images?limit=100`, 'GET', undefined, caller)).json<{
        images: Record<string, unknown>[]
      }>()
      if (images.every((image) => image.os_glance_import_task === undefined && image.status !== 'importing')) return
    }
    throw new Error(`imports at ${url} do not come to their end`)
  }

  it.each(Object.entries(importWalk))('get the same answers: %s', { timeout: 120_000 }, async (_part, steps) => {
    for (const step of steps) {
      const body = typeof step.body === 'string' ? step.body.replaceAll('MIRROR', mirror) : step.body
      const asked = { ...step, ...(body === undefined ? {} : { body }), headers: { ...step.headers, ...caller } }
      const theirs = await take(glance?.url ?? '', asked)
      const ours = await take(subject.url, asked)
      await Promise.all([settle(glance?.url ?? ''), settle(subject.url)])
      const title = `${step.line} ${String(step.body ?? '').slice(0, 300)}`
      if (step.differs === undefined) expect.soft(ours, title).toEqual(theirs)
      else expect.soft(ours, `${title} (${step.differs})`).not.toEqual(theirs)
    }
  })
})
