/** Accounts of the service beside a real Keystone: the same requests, and the same answers, but for what is meant to be otherwise. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { temporaryFolder } from '../../../engine/test/support/folder.ts'
import { adminPassword, exchange, type IdentityStep } from '../support/identity-steps.ts'
import { describeWithKeystone, type Keystone, startKeystone } from '../support/keystone.ts'
import { ask, services } from '../support/service.ts'

const start = services()
const folder = temporaryFolder()

/** One side of the exchange, with what its answers gave. */
class Side {
  readonly url: string
  readonly kept: Map<string, string> = new Map()
  readonly tokens: Map<string, string> = new Map()

  constructor(url: string) {
    this.url = url
  }

  async take({ line, body, as = 'admin', about, keep }: IdentityStep): Promise<object> {
    const [method = '', path = ''] = this.#filled(line).split(' ')
    const headers: Record<string, string> = body === undefined ? {} : { 'content-type': 'application/json' }
    if (as !== null) headers['x-auth-token'] = this.tokens.get(as) ?? as
    if (about !== undefined) headers['x-subject-token'] = this.tokens.get(about) ?? about
    const text = body === undefined ? undefined : this.#filled(JSON.stringify(body))
    const answer = await ask(`${this.url}${path}`, method, text, headers)
    const shown = answer.body.toString()
    const isJson = shown.startsWith('{')
    if (keep !== undefined) this.#keep(keep, answer.headers['x-subject-token'], shown)
    const challenge = answer.headers['www-authenticate']
    return {
      status: answer.status,
      ...(challenge === undefined ? {} : { challenge: challenge.replace(this.url, 'URL') }),
      ...(isJson ? { body: this.#masked(shown, answer.status) } : {}),
    }
  }

  #keep(name: string, token: unknown, shown: string): void {
    if (typeof token === 'string') {
      this.tokens.set(name, token)
      this.kept.set(name, token)
      return
    }
    const [made] = Object.values(JSON.parse(shown) as Record<string, { id?: string }>)
    this.kept.set(name, made?.id ?? '')
  }

  #filled(text: string): string {
    return text.replace(/\{(\w+)\}/g, (whole, name: string) => this.kept.get(name) ?? whole)
  }

  /** What cannot be the same, made the same. */
  #masked(shown: string, status: number): unknown {
    const text = shown
      .replaceAll(this.url.replace(/\/v3$/, ''), 'URL')
      .replace(/\b[0-9a-f]{32}\b/g, 'ID')
      .replace(/\b20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.000000Z/g, 'TIME')
    return JSON.parse(text, (name, value: unknown) => {
      // How a rule was broken is said in other words.
      if (status === 400 && name === 'message') return 'MESSAGE'
      if (name === 'audit_ids') return (value as string[]).length
      if (name === 'catalog') return (value as { name: string; type: string }[]).map(catalogEntry).sort()
      if (name === 'endpoints' || name === 'regions') return undefined
      // Keystone has them only where it was told, or shows them twice; ours tell what fixed roles are for.
      if (name === 'extra' || name === 'default_project_id' || name === 'description') return undefined
      // Newer than this Keystone.
      if (Array.isArray(value)) {
        const listed = value.filter((one) => !['manager', 'service'].includes((one as { name?: string })?.name ?? ''))
        return listed.sort((one, other) => (JSON.stringify(one) < JSON.stringify(other) ? -1 : 1))
      }
      return value
    })
  }
}

function catalogEntry({ name, type }: { name: string; type: string }): string {
  return `${type} ${name}`
}

describeWithKeystone('the same requests to Keystone and to us', () => {
  let keystone: Keystone | undefined
  let sides: [Side, Side]
  beforeAll(async () => {
    keystone = await startKeystone(folder.file('keystone'))
    const subject = await start({ auth: 'local', adminPassword })
    await keystone.imageEndpoint(subject.url)
    sides = [new Side(keystone.url), new Side(`${subject.url}/identity/v3`)]
  }, 120_000)
  afterAll(() => keystone?.stop())

  // Each part needs what those before it have made.
  it.each(Object.entries(exchange))('get the same answers: %s', { timeout: 60_000 }, async (_part, steps) => {
    for (const step of steps) {
      const theirs = await sides[0].take(step)
      const ours = await sides[1].take(step)
      const title = `${step.line} ${JSON.stringify(step.body ?? '')}`
      if (step.differs === undefined) expect.soft(ours, title).toEqual(theirs)
      else expect.soft(ours, `${title} (${step.differs})`).not.toEqual(theirs)
    }
  })
})
