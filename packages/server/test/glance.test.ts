/** Ours beside a real Glance: the same requests, and the same answers, but for what is better otherwise. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { take } from './support/compare.ts'
import { describeWithGlance, type Glance, startGlance } from './support/glance.ts'
import { giveStarterSet } from './support/glance-metadefs.ts'
import { walk } from './support/glance-steps.ts'
import { type Subject, services } from './support/service.ts'

const start = services()
const folder = temporaryFolder()
describeWithGlance('the same requests to Glance and to us', () => {
  let glance: Glance | undefined
  let subject: Subject
  beforeAll(async () => {
    glance = await startGlance(folder.file('.'))
    await giveStarterSet(glance.url)
    subject = await start({ importMethods: '', requireFormatAgreement: false })
  }, 120_000)
  afterAll(() => glance?.stop())

  // Each part needs what those before it have made.
  it.each(Object.entries(walk))('get the same answers: %s', { timeout: 120_000 }, async (_part, steps) => {
    for (const step of steps) {
      const theirs = await take(glance?.url ?? '', step)
      const ours = await take(subject.url, step)
      const title = `${step.line} ${String(step.body ?? '').slice(0, 300)}`
      if (step.differs === undefined) expect.soft(ours, title).toEqual(theirs)
      else expect.soft(ours, `${title} (${step.differs})`).not.toEqual(theirs)
    }
  })
})
