/** The stock clients with accounts of the service: logging in, and what administrators do. */
import { writeFileSync } from 'node:fs'
import { beforeAll, expect, it } from 'vitest'
import { temporaryFolder } from '../../../engine/test/support/folder.ts'
import { describeWith, run, runOk } from '../../../engine/test/support/process.ts'
import { administer, type IdentityAdmin, type Login } from '../support/identity-admin.ts'
import { ask, type Subject, services } from '../support/service.ts'

const start = services()
const folder = temporaryFolder()
const patience = { timeout: 120_000 }
const garden = { user: 'ann', password: 'secret-ann', project: 'garden' }

let subject: Subject
let identity: IdentityAdmin
beforeAll(async () => {
  subject = await start({ auth: 'local', adminPassword: 'secret-admin' })
  const admin = { user: 'admin', password: 'secret-admin', project: 'admin' }
  // Without the version, as people write it; clients look for it.
  identity = administer(`${subject.url}/identity/v3`, admin)
})

function environment(login: Login, more: Record<string, string> = {}) {
  const found = { ...identity.environment(login), OS_AUTH_URL: `${subject.url}/identity` }
  return { env: { PATH: process.env.PATH, HOME: folder.file('.'), LC_ALL: 'C.UTF-8', ...found, ...more } }
}

describeWith(['openstack'], 'openstack', () => {
  /** Several commands in one run of the client, which takes a second to start. */
  const openstack = (login: Login, commands: readonly string[], more?: Record<string, string>) =>
    runOk('openstack', [], { ...environment(login, more), input: `${commands.join('\n')}\n`, timeout: 100_000 })

  it('makes, shows, changes and deletes users, projects, roles and what they may do', patience, async () => {
    const shown = await openstack(identity.admin, [
      'project create --description Flowers --tag green -f json garden',
      'user create --password secret-ann --email ann@garden.example --project garden -f json ann',
      'role create -f json cook',
      'role add --project garden --user ann member',
      'role add --project garden --user ann cook',
      'role add --system all --user ann reader',
      'role assignment list --names -f csv',
      'role remove --project garden --user ann cook',
      'role remove --system all --user ann reader',
      'role set --name chef cook',
      'role delete chef',
      'user set --description Gardener ann',
      'user show -f json ann',
      'project set --name orchard garden',
      'project show -f json orchard',
      'project set --name garden orchard',
      'user list --long -f csv',
      'project list -f csv',
      'role list -f csv',
      'domain list -f csv',
      'catalog list -f json',
      'service list -f csv',
      'endpoint list -f csv',
      'token issue -f json',
    ])
    for (const part of [
      '"email": "ann@garden.example"',
      '"tags": [',
      '"cook","ann@Default","","garden@Default"',
      '"reader","ann@Default","","","","all"',
      '"description": "Gardener"',
      '"name": "orchard"',
      '"ann@garden.example",True',
      ',"manager"',
      '"default","Default",True',
      '"Type": "image"',
      ',"glance","image"',
      `"public","${subject.url}/identity/v3"`,
      '"id": "mt-',
    ]) {
      expect(shown).toContain(part)
    }
    expect(shown).not.toMatch(/chef|HTTP 4|Error|No role/)
  })

  it('works for a member, who may not do more than that', patience, async () => {
    await identity.user('ann', 'secret-ann', { garden: ['member'] })
    const data = folder.fresh('.raw')
    writeFileSync(data, 'flowers')
    const shown = await openstack(garden, [
      `image create --file ${data} --disk-format raw -f json flowers`,
      'image list -f csv',
      'user list',
      'user create mallory',
    ])
    expect(shown).toMatch(/"[0-9a-f-]{36}","flowers","active"/)
    const refused = await run('openstack', ['user', 'list'], environment(garden))
    expect([refused.code === 0, refused.stderr]).toEqual([false, expect.stringContaining('identity:list_users')])
    expect(await openstack(identity.admin, ['user list -f csv'])).not.toContain('mallory')
  })

  it('logs in with an application credential, until it is deleted', patience, async () => {
    await identity.user('ann', 'secret-ann', { garden: ['member'] })
    await openstack(garden, ['application credential create --secret secret-robot --role reader robot'])
    const shown = await openstack(garden, ['application credential list -f json', 'application credential show robot'])
    const id = /"ID": "([0-9a-f]{32})"/.exec(shown)?.[1] ?? ''
    const env = {
      PATH: process.env.PATH,
      HOME: folder.file('.'),
      OS_AUTH_URL: `${subject.url}/identity`,
      OS_AUTH_TYPE: 'v3applicationcredential',
      OS_APPLICATION_CREDENTIAL_ID: id,
      OS_APPLICATION_CREDENTIAL_SECRET: 'secret-robot',
    }
    await runOk('openstack', ['image', 'list'], { env })
    const more = await run('openstack', ['image', 'create', 'weeds'], { env })
    expect([more.code === 0, more.stderr]).toEqual([false, expect.stringContaining('403')])
    await openstack(garden, ['application credential delete robot'])
    const gone = await run('openstack', ['image', 'list'], { env })
    expect([gone.code === 0, gone.stderr]).toEqual([false, expect.stringContaining('401')])
  })

  it('is refused with a wrong password, and with a token that was revoked', patience, async () => {
    await identity.user('ann', 'secret-ann', { garden: ['member'] })
    const wrong = await run('openstack', ['image', 'list'], environment({ ...garden, password: 'wrong' }))
    expect([wrong.code === 0, wrong.stderr]).toEqual([false, expect.stringContaining('HTTP 401')])
    const token = await identity.token(garden)
    await openstack(garden, [`token revoke ${token}`])
    const answer = await ask(`${subject.url}/v2/images`, 'GET', undefined, { 'x-auth-token': token })
    expect(answer.status).toBe(401)
  })

  it('changes the own password', patience, async () => {
    await identity.user('bob', 'secret-bob', { garden: ['member'] })
    const bob = { user: 'bob', password: 'secret-bob', project: 'garden' }
    await openstack(bob, ['user password set --original-password secret-bob --password secret-next'])
    expect((await identity.logIn(bob)).status).toBe(401)
    expect((await identity.logIn({ ...bob, password: 'secret-next' })).status).toBe(201)
  })
})

describeWith(['glance'], 'glance', () => {
  it('logs in with a password', patience, async () => {
    await identity.user('ann', 'secret-ann', { garden: ['member'] })
    // Without a terminal the client takes standard input for image data, so it gets none at all.
    const glance = (login: Login, ...args: string[]) =>
      run('sh', ['-c', 'exec "$0" "$@" <&-', 'glance', ...args], environment(login))
    const made = await glance(garden, 'image-create', '--name', 'seeds')
    expect([made.code, made.stdout]).toEqual([0, expect.stringContaining('seeds')])
    const refused = await glance({ ...garden, password: 'wrong' }, 'image-list')
    expect([refused.code === 0, refused.stdout + refused.stderr]).toEqual([false, expect.stringContaining('401')])
  })
})
