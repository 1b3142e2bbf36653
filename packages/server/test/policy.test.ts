/** Rules of who may do what: their language, beside oslo.policy itself; the operator's own rules; what cannot be read. */
import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { seed } from '../../engine/test/support/random.ts'
import { type Caller, effectiveRoles } from '../src/identity/caller.ts'
import { parseRule, RuleError } from '../src/policy/language.ts'
import { Policy, readPolicy } from '../src/policy/policy.ts'
import { type Action, baseRules, defaultRules } from '../src/policy/rules.ts'
import { believing } from './support/believing.ts'
import { asCaller } from './support/glance.ts'
import { ask, services } from './support/service.ts'

const start = services()
const folder = temporaryFolder()
const member: Caller = {
  userId: 'u1',
  userName: 'u1',
  projectId: 'p1',
  roles: effectiveRoles(['member']),
  isService: false,
}

const python = '/usr/bin/python3'
const hasOslo = existsSync('/usr/lib/python3/dist-packages/oslo_policy')

const judge = `
import json, sys
from oslo_config import cfg
from oslo_policy import policy
conf = cfg.ConfigOpts()
conf([])
enforcer = policy.Enforcer(conf, use_conf=False)
answers = []
for rule, roles, target in json.load(sys.stdin):
    rules = {'asked': rule, 'other': 'role:member', 'never': '!'}
    enforcer.set_rules(policy.Rules.from_dict(rules), use_conf=False)
    credentials = {'roles': roles, 'project_id': 'p1', 'user_id': 'u1', 'is_admin': 'admin' in roles}
    answers.append(bool(enforcer.enforce('asked', target, credentials)))
print(json.dumps(answers))
`

const atom = fc.constantFrom(
  ...['@', '!', 'role:admin', 'role:Member', 'role:reader', 'rule:other', 'rule:never', 'is_admin:True'],
  ...['project_id:%(owner)s', 'project_id:%(project_id)s', 'user_id:%(user)s', 'user_id:u1', "'public':%(visibility)s"],
  ...['project_id:%(nothing)s', 'role:%(wanted)s', '"public":%(visibility)s', 'project_id:p1', 'project_id:p%(digit)s'],
)
const { rule } = fc.letrec<{ rule: string }>((tie) => ({
  rule: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    atom,
    fc.tuple(tie('rule'), fc.constantFrom(' and ', ' or ', ' AND '), tie('rule')).map((parts) => parts.join('')),
    tie('rule').map((inner) => `(${inner})`),
    tie('rule').map((inner) => `not (${inner})`),
    atom.map((inner) => `not ${inner}`),
  ),
}))
const target = fc.record(
  {
    owner: fc.constantFrom('p1', 'p2'),
    project_id: fc.constantFrom('p1', 'p2'),
    user: fc.constantFrom('u1', 'u2'),
    visibility: fc.constantFrom('public', 'private'),
    wanted: fc.constantFrom('member', 'admin'),
    digit: fc.constantFrom('1', '2'),
  },
  { requiredKeys: [] },
)
const roles = fc.subarray(['admin', 'member', 'reader', 'visitor'])

describe.skipIf(!hasOslo && process.env.CI !== 'true')(
  `the language of rules${hasOslo ? '' : ' [skipped: python3-oslo.policy not installed]'}`,
  () => {
    it('means what oslo.policy takes it for', () => {
      const cases = fc.sample(fc.tuple(rule, roles, target), { numRuns: 3000, seed: seed('policy') })
      const { stdout, stderr, status } = spawnSync(python, ['-c', judge], { input: JSON.stringify(cases) })
      expect(status, stderr.toString()).toBe(0)
      const theirs = JSON.parse(stdout.toString()) as boolean[]
      expect(theirs.filter(Boolean).length).toBeGreaterThan(300)
      for (const [index, [text, given, facts]] of cases.entries()) {
        const named = { other: parseRule('role:member', () => undefined), never: parseRule('!', () => undefined) }
        const check = parseRule(text, (name) => named[name as keyof typeof named])
        const caller = { ...member, roles: new Set(given) }
        const ours = check(caller, (name) => (facts as Record<string, string>)[name])
        expect(ours, `${text} for ${given} on ${JSON.stringify(facts)}`).toBe(theirs[index])
      }
    })
  },
)

describe('rules that cannot be read', () => {
  it.each([
    ['role:admin or', 'ends where a check is expected'],
    ['(role:admin', 'parenthesis that is not closed'],
    ['role:admin)', "goes on with ')'"],
    ['role:admin role:member', "goes on with 'role:member'"],
    ['admin', 'is no check'],
    ["'public:%(visibility)s", 'cannot be read at'],
    ['and', "'and' in 'and' is no check"],
  ])('%s', (text, message) => {
    expect(() => parseRule(text, () => undefined)).toThrow(message)
  })

  it('anything at all is read or refused', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        try {
          parseRule(text, () => undefined)(member, () => undefined)
        } catch (error) {
          expect(error).toBeInstanceOf(RuleError)
        }
      }),
      { seed: seed('policy text') },
    )
  })

  it.each([
    [{ get_image: 'rule:a', a: 'rule:b', b: 'rule:a' }, 'in a circle: get_image → a → b → a'],
    [{ get_image: 'rule:nowhere' }, 'asks rule nowhere, which there is not'],
    [{ get_image: 'role:' }, 'policy rule get_image'],
  ])('%j', (overrides, message) => {
    expect(() => new Policy(overrides)).toThrow(message)
  })
})

describe('the table of rules', () => {
  it('has none that nothing asks: an operator would change it for nothing', () => {
    const sources = fileURLToPath(new URL('../src', import.meta.url))
    const code = readdirSync(sources, { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.ts') && !name.endsWith(join('policy', 'rules.ts')))
      .map((name) => readFileSync(join(sources, name), 'utf8'))
      .join('\n')
    const named = Object.values<string>(defaultRules).flatMap((rule) => [...rule.matchAll(/rule:(\w+)/g)])
    const asked = new Set(named.map(([, name]) => name))
    const dead = Object.keys(defaultRules).filter((name) => !code.includes(`'${name}'`) && !asked.has(name))
    expect(dead).toEqual([])
  })
})

/** The path of a file of rules. */
function write(text: string): string {
  const path = folder.file('policy.yaml')
  writeFileSync(path, text)
  return path
}

/** What a policy decides, for some callers and targets. */
function decisions(policy: Policy): string[] {
  const targets = ['p1', 'p2'].flatMap((owner) =>
    ['public', 'private'].map((visibility) => ({ owner, project_id: owner, visibility, member_id: 'p1' })),
  )
  return Object.keys(defaultRules).flatMap((action) =>
    [['admin'], ['member'], ['reader'], ['service'], ['visitor']].flatMap((given) =>
      targets.map((facts) => {
        const caller = { ...member, roles: effectiveRoles(given) }
        const isAllowed = policy.allows(action as Action, caller, (name) => facts[name as keyof typeof facts])
        return `${action} ${given} ${facts.owner} ${facts.visibility}: ${isAllowed}`
      }),
    ),
  )
}

const generator = '/usr/bin/oslopolicy-sample-generator'
const hasGenerator = existsSync(generator) && existsSync('/usr/lib/python3/dist-packages/glance')

describe.skipIf(!hasGenerator && process.env.CI !== 'true')(
  `the file that Glance's own generator writes${hasGenerator ? '' : ' [skipped: oslopolicy-sample-generator or python3-glance not installed]'}`,
  () => {
    const sample = () => {
      const { stdout, stderr, status } = spawnSync(generator, ['--namespace', 'glance'])
      expect(status, stderr.toString()).toBe(0)
      return stdout.toString()
    }
    const enabled = (text: string) => text.replace(/^#"/gm, '"')

    it('changes nothing, as it comes and with every rule in it enabled', () => {
      const text = sample()
      const byDefault = decisions(new Policy())
      expect(byDefault.filter((line) => line.endsWith('true')).length).toBeGreaterThan(200)
      expect(decisions(readPolicy(write(text)))).toEqual(byDefault)
      const policy = readPolicy(write(enabled(text)))
      const asked = (lines: string[]) => lines.filter((line) => !newer.some((name) => line.startsWith(`${name} `)))
      expect(asked(decisions(policy))).toEqual(asked(byDefault))
    })

    it('names no rule that is unknown here', () => {
      const named = [...enabled(sample()).matchAll(/^"(\w+)": /gm)].map(([, name = '']) => name)
      expect(named.length).toBeGreaterThan(50)
      expect(named.filter((name) => !new Policy().hasRule(name))).toEqual([])
    })
  },
)
/** What the rule of Glance 25.1 says otherwise than that of newer releases, which is ours. */
const newer = ['stores_info_detail']

describe("the operator's file", () => {
  it.each(Object.keys(baseRules))('may name rule:%s, which it does not define', (name) => {
    const allowed = (rule: string, given: string) =>
      readPolicy(write(`get_image: "${rule}"`)).allows('get_image', { ...member, roles: effectiveRoles([given]) })
    const isForAdmins = name === 'context_is_admin' || name === 'manage_image_cache'
    expect([allowed(`rule:${name}`, 'visitor'), allowed(`rule:${name}`, 'admin')]).toEqual([!isForAdmins, true])
  })

  it('is refused by name where it names a rule that neither it nor Glance has', () => {
    expect(() => readPolicy(write('get_image: "rule:admin_required"'))).toThrow(
      'policy rule get_image asks rule admin_required, which there is not',
    )
  })

  it('says by the old name of a rule who may, unless it has the new one, too', () => {
    const cacher = { ...member, roles: effectiveRoles(['cacher']) }
    const old = new Policy({ manage_image_cache: 'role:cacher' })
    expect(['cache_image', 'cache_list', 'cache_delete'].map((name) => old.allows(name as Action, cacher))).toEqual([
      ...[true, true, true],
    ])
    const both = new Policy({ manage_image_cache: 'role:cacher', cache_list: 'role:admin' })
    expect([both.allows('cache_list', cacher), both.allows('cache_image', cacher)]).toEqual([false, true])
  })

  it('says who is an administrator', async () => {
    const policyFile = write('context_is_admin: "role:chief"\nget_image: "is_admin:True or role:reader"\n')
    const { url } = await start({ policyFile }, (service) => ({ ...service, identity: believing }))
    const hidden = await createImageOf(url, 'p9')
    const show = async (roles: string[]) =>
      (await ask(`${url}/v2/images/${hidden}`, 'GET', undefined, asCaller('p1', roles))).status
    expect([await show(['chief']), await show(['admin']), await show(['reader'])]).toEqual([200, 404, 404])
    const list = await ask(`${url}/v2/images`, 'GET', undefined, asCaller('p1', ['chief', 'reader']))
    expect(list.json<{ images: { id: string }[] }>().images.map(({ id }) => id)).toEqual([hidden])
    expect(() => new Policy({ context_is_admin: 'is_admin:True' })).toThrow('context_is_admin → context_is_admin')
  })

  it.each([
    ['get_image: [1]', 'rule get_image is no text'],
    ['- get_image', 'no map of rules'],
    ['a: b: c', 'policy.yaml'],
    ['a: &x "@"\nb: *x', 'policy.yaml'],
  ])('%s is refused by name', (text, message) => {
    expect(() => readPolicy(write(text))).toThrow(message)
  })

  it('that is not there is named', () => {
    expect(() => readPolicy('/nowhere/policy.yaml')).toThrow('cannot read /nowhere/policy.yaml')
  })

  it('takes the place of the rules built in', async () => {
    const policyFile = write(
      '"download_image": "role:auditor"\n"add_image": "role:member"\n"communitize_image": "role:member"\n# nothing\n',
    )
    const { url } = await start({ policyFile }, (service) => ({ ...service, identity: believing }))
    const mine = asCaller('p1', ['member'])
    const body = JSON.stringify({ owner: 'p2', disk_format: 'raw', container_format: 'bare', visibility: 'community' })
    const created = await ask(`${url}/v2/images`, 'POST', body, { ...mine, 'content-type': 'application/json' })
    expect(created.status).toBe(201)
    const { id } = created.json<{ id: string }>()
    expect((await ask(`${url}/v2/images/${id}/file`, 'GET', undefined, mine)).status).toBe(403)
    const auditor = asCaller('p3', ['reader', 'auditor'])
    expect((await ask(`${url}/v2/images/${id}/file`, 'GET', undefined, auditor)).status).toBe(204)
  })
})

describe('a request without credentials', () => {
  it('is refused below /v2 only, in the words of Keystone’s middleware', async () => {
    const { url } = await start({}, (service) => ({ ...service, identity: believing }))
    const refused = await ask(`${url}/v2/images`)
    expect(refused.status).toBe(401)
    expect(refused.headers['www-authenticate']).toBe(believing.challenge(''))
    expect((await ask(`${url}/v2/images`, 'GET', undefined, { 'x-auth-token': 'nonsense' })).status).toBe(401)
    expect((await ask(`${url}/`)).status).toBe(300)
    expect((await ask(`${url}/healthcheck`)).status).toBe(200)
  })
})

describe('a list', () => {
  it('pages through what a project may see, each image once, in any order', async () => {
    const { url } = await start({}, (service) => ({ ...service, identity: believing }))
    const admin = asCaller('operators', ['admin'])
    const seen: string[] = []
    for (let index = 0; index < 60; index++) {
      const visibility = ['public', 'community', 'shared', 'private'][index % 4]
      const owner = ['p1', 'p2', 'p3'][index % 3]
      const body = JSON.stringify({ name: `n${index % 7}`, owner, visibility })
      const made = await ask(`${url}/v2/images`, 'POST', body, { ...admin, 'content-type': 'application/json' })
      const { id } = made.json<{ id: string }>()
      const isInvited = visibility === 'shared' && owner === 'p2'
      if (isInvited) {
        const invite = JSON.stringify({ member: 'p1' })
        await ask(`${url}/v2/images/${id}/members`, 'POST', invite, { ...admin, 'content-type': 'application/json' })
        const accept = JSON.stringify({ status: 'accepted' })
        const mine = { ...asCaller('p1', ['member']), 'content-type': 'application/json' }
        await ask(`${url}/v2/images/${id}/members/p1`, 'PUT', accept, mine)
      }
      if (owner === 'p1' || visibility === 'public' || isInvited) seen.push(id)
    }
    for (const order of ['', '&sort=name:asc', '&sort=name:desc,created_at:asc', '&sort=size', '&sort_key=owner_no']) {
      const found: string[] = []
      let next: string | undefined = `/v2/images?limit=7${order}`
      while (next !== undefined) {
        const answer = await ask(`${url}${next}`, 'GET', undefined, asCaller('p1', ['reader']))
        if (order.endsWith('_no')) {
          expect(answer.status).toBe(400)
          break
        }
        const page = answer.json<{ images: { id: string }[]; next?: string }>()
        found.push(...page.images.map(({ id }) => id))
        next = page.next
      }
      if (!order.endsWith('_no')) expect(found.sort(), order).toEqual([...seen].sort())
    }
    const all = await ask(`${url}/v2/images?limit=1000&visibility=all`, 'GET', undefined, admin)
    expect(all.json<{ images: unknown[] }>().images).toHaveLength(60)
    const foreign = await createImageOf(url, 'p9')
    const marker = await ask(`${url}/v2/images?marker=${foreign}`, 'GET', undefined, asCaller('p1', ['reader']))
    expect(marker.status).toBe(400)
  })
})

async function createImageOf(url: string, owner: string): Promise<string> {
  const body = JSON.stringify({ owner, visibility: 'private' })
  const headers = { ...asCaller('operators', ['admin']), 'content-type': 'application/json' }
  return (await ask(`${url}/v2/images`, 'POST', body, headers)).json<{ id: string }>().id
}
