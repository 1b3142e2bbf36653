/** Everything that the service does, through the stock clients, unchanged, under both ways of saying who one is. CI walks each part under one of them, the soak under both. */
import { randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWith, runOk } from '../../engine/test/support/process.ts'
import { seed } from '../../engine/test/support/random.ts'
import { type ClientStep, glanceProgram, glanceTour, type Places, sdkProgram } from './support/client-tour.ts'
import { freePort } from './support/daemon.ts'
import { administer, type IdentityAdmin, type Login } from './support/identity-admin.ts'
import { describeWithKeystone, type Keystone, startKeystone } from './support/keystone.ts'
import { startMirror } from './support/mirror.ts'
import { services } from './support/service.ts'

const start = services()
const folder = temporaryFolder()
const patience = { timeout: 240_000 }
const isSoak = Number(process.env.MORAINE_BUDGET ?? 1) >= 2
const people = {
  ann: { user: 'ann', password: 'secret-ann', project: 'garden' },
  ben: { user: 'ben', password: 'secret-ben', project: 'orchard' },
}
const python = '/usr/bin/python3'
const chance = seed('which parts are walked under which identity')
const parts = Object.keys(glanceTour({ data: '', back: '', namespaceFile: '', web: '', benProject: '' }))

/** The file of a program. */
function program(text: string): string {
  const path = folder.fresh('.py')
  writeFileSync(path, text)
  return path
}

const identities: Record<string, { describe: typeof describe; open(): Promise<IdentityAdmin> }> = {
  local: {
    describe,
    async open() {
      const { url } = await start({ ...(await settings()), auth: 'local', adminPassword: 'secret-admin' })
      return administer(`${url}/identity/v3`, { user: 'admin', password: 'secret-admin', project: 'admin' })
    },
  },
  keystone: {
    describe: describeWithKeystone as unknown as typeof describe,
    async open() {
      keystone = await startKeystone(folder.file('keystone'))
      await keystone.user('glance', 'secret-glance', { service: ['admin', 'service'] })
      const login = { keystoneUrl: keystone.url, keystoneUser: 'glance', keystonePassword: 'secret-glance' }
      const { url } = await start({ ...(await settings()), auth: 'keystone', ...login })
      await keystone.imageEndpoint(url)
      return keystone
    },
  },
}
let keystone: Keystone | undefined
afterAll(() => keystone?.stop())

async function settings() {
  const port = await freePort()
  return {
    port,
    stores: `one=folder:${folder.fresh()}, default, description=First; two=folder:${folder.fresh()}; web=http`,
    importMethods: 'glance-direct,web-download,copy-image,glance-download',
    importRegions: `Own=http://127.0.0.1:${port}`,
    ...{ importAllowedHosts: '127.0.0.1', importPorts: '*', showLocations: true },
    ...{ imageCacheSize: 2 ** 30, projectImageQuota: 1000 },
    loginAttempts: 0,
  }
}

for (const [turn, [name, { describe, open }]] of Object.entries(identities).entries()) {
  describe(`accounts: ${name}`, () => {
    let identity: IdentityAdmin
    let places: Places
    const data = randomBytes(300_000)
    beforeAll(async () => {
      identity = await open()
      for (const { user, password, project } of Object.values(people)) {
        await identity.user(user, password, { [project]: ['member'] })
      }
      const mirror = await startMirror()
      mirror.files.set('/image', { data })
      mirror.files.set('/image?other', { data })
      const namespaceFile = folder.fresh('.json')
      writeFileSync(
        namespaceFile,
        JSON.stringify({ namespace: 'Tour::File', visibility: 'public', tags: [{ name: 'a' }] }),
      )
      const benProject = await identity.project('orchard')
      places = {
        data: folder.fresh('.raw'),
        back: folder.fresh('.raw'),
        namespaceFile,
        web: `${mirror.url}/image`,
        benProject,
      }
      writeFileSync(places.data, data)
    }, 120_000)

    const environment = (login: Login) => {
      const found = identity.environment(login)
      return name === 'local' ? { ...found, OS_AUTH_URL: found.OS_AUTH_URL?.replace(/\/v3$/, '') ?? '' } : found
    }
    const home = () => {
      const path = folder.file(`home-${name}`)
      mkdirSync(path, { recursive: true })
      return { PATH: process.env.PATH, HOME: path, LC_ALL: 'C.UTF-8' }
    }

    describeWith(['glance'], 'glance', () => {
      it.each(parts.filter((_, at) => isSoak || (chance + at) % 2 === turn))('%s', patience, async (part) => {
        const steps: ClientStep[] = glanceTour(places)[part] ?? []
        const [stepsFile, environments] = [folder.fresh('.json'), folder.fresh('.json')]
        writeFileSync(stepsFile, JSON.stringify(steps))
        const who = { admin: environment(identity.admin), ann: environment(people.ann), ben: environment(people.ben) }
        writeFileSync(environments, JSON.stringify(who))
        const run = runOk(python, ['-W', 'ignore', program(glanceProgram), stepsFile, environments], {
          env: home(),
          timeout: 200_000,
        })
        expect(await run).toBe(`${steps.length} steps\n`)
        if (steps.some(({ arguments: [command] }) => command === 'image-download')) {
          expect(readFileSync(places.back).equals(data)).toBe(true)
        }
      })
    })

    describeWith(['openstack'], 'openstack', () => {
      it('is used by programs through its SDK', patience, async () => {
        const env = { ...home(), ...environment(people.ann), BEN: places.benProject }
        const run = runOk(python, ['-W', 'ignore', program(sdkProgram), places.data, places.web], {
          env,
          timeout: 200_000,
        })
        expect(await run).toBe('ok\n')
      })

      it('shares, hides and finds images', patience, async () => {
        const openstack = (login: Login, ...commands: string[]) =>
          runOk('openstack', [], {
            env: { ...home(), ...environment(login) },
            input: `${commands.join('\n')}\n`,
            timeout: 100_000,
          })
        const shown = await openstack(
          people.ann,
          `image create --disk-format raw --file ${places.data} --tag t --property p=v --shared told -f json`,
          'image set --name told2 --min-ram 64 --tag u --property q=w told',
          'image unset --tag t --property p told2',
          `image add project told2 ${places.benProject}`,
          'image member list told2 -f csv',
          'image list --tag u --long -f csv',
          `image save --file ${places.back} told2`,
          'image show told2 -f json',
        )
        expect(shown).toContain('"pending"')
        expect(shown).toMatch(/"told2","raw","bare",300000/)
        expect(readFileSync(places.back).equals(data)).toBe(true)
        const id = /"id": "([0-9a-f-]{36})"/.exec(shown)?.[1] ?? ''
        const ben = await openstack(people.ben, `image set --accept ${id}`, 'image list -f csv')
        expect(ben).toContain('"told2","active"')
        const off = await openstack(
          identity.admin,
          `image set --deactivate ${id}`,
          `image show ${id} -f value -c status`,
        )
        expect(off).toContain('deactivated')
        await openstack(people.ann, `image remove project told2 ${places.benProject}`, `image delete ${id}`)
      })
    })
  })
}
