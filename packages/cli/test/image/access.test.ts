/** Who is calling: clouds.yaml, secure.yaml, the environment and options, as openstacksdk joins them. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { beforeEach, describe, expect, it } from 'vitest'
import { temporaryFolder } from '../../../engine/test/support/folder.ts'
import { readAccess } from '../../src/image/access.ts'
import type { Surroundings } from '../../src/image/clouds.ts'

const temporary = temporaryFolder()
let folder: string
let env: Record<string, string>
beforeEach(() => {
  folder = temporary.fresh()
  mkdirSync(folder)
  env = { HOME: join(folder, 'home') }
})
const around = (): Surroundings => ({ env, folder })
const read = (given: Parameters<typeof readAccess>[0] = {}) => readAccess(given, around())

function put(name: string, text: string): void {
  const path = join(folder, name)
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, text)
}

const password = `clouds:
  home:
    auth: {auth_url: http://k:5000/v3, username: u, password: p, project-name: garden, user_domain_name: Default}
    region_name: one
    verify: false
`

describe('clouds.yaml', () => {
  it('is found in the current folder, the home and where a variable says, in that order', () => {
    const named = (url: string) => `clouds: {home: {auth_type: none, auth: {endpoint: "http://${url}"}}}`
    put('home/.config/openstack/clouds.yaml', named('second'))
    expect(read({ cloud: 'home' }).endpoint).toBe('http://second')
    put('clouds.yml', named('first'))
    expect(read({ cloud: 'home' }).endpoint).toBe('http://first')
    put('named.json', JSON.stringify({ clouds: { home: { auth_type: 'none', auth: { endpoint: 'http://zeroth' } } } }))
    env.OS_CLIENT_CONFIG_FILE = join(folder, 'named.json')
    expect(read({ cloud: 'home' }).endpoint).toBe('http://zeroth')
  })

  it('gives names with dashes, regions and what stands beside auth', () => {
    put('clouds.yaml', password)
    expect(read({ cloud: 'home' })).toMatchObject({
      method: 'password',
      auth: { username: 'u', project_name: 'garden' },
      region: 'one',
      interface: 'public',
      trust: { insecure: true },
    })
    put(
      'clouds.yaml',
      'clouds: {r: {auth_type: none, auth: {endpoint: "http://a"}, regions: [{name: x, values: {interface: internal}}, y]}}',
    )
    expect(read({ cloud: 'r' })).toMatchObject({ region: 'x', interface: 'internal' })
    expect(read({ cloud: 'r', region_name: 'y' })).toMatchObject({ region: 'y', interface: 'public' })
  })

  it('takes secrets from secure.yaml', () => {
    put('clouds.yaml', password.replace(' password: p,', ''))
    put('home/.config/openstack/secure.yaml', 'clouds: {home: {auth: {password: hidden}}}')
    expect(read({ cloud: 'home' }).auth).toMatchObject({ username: 'u', password: 'hidden' })
  })

  it('is taken by OS_CLOUD, and alone when it has one cloud and nothing else is said', () => {
    put('clouds.yaml', password)
    expect(read().cloud).toBe('home')
    env.OS_CLOUD = 'home'
    expect(read().cloud).toBe('home')
    expect(() => read({ cloud: 'work' })).toThrow("cloud 'work' is not in clouds.yaml")
    delete env.OS_CLOUD
    put('clouds.yaml', `${password}  away: {auth_type: none}\n`)
    expect(() => read()).toThrow('it is not said which cloud is meant')
  })

  it('is not mixed with variables of another cloud, but changed by options', () => {
    put('clouds.yaml', password)
    Object.assign(env, { OS_AUTH_URL: 'http://evil/v3', OS_PASSWORD: 'other' })
    const access = read({ cloud: 'home', project_name: 'field' })
    expect(access.auth).toMatchObject({ auth_url: 'http://k:5000/v3', password: 'p', project_name: 'field' })
  })

  it('says where a file is wrong, without its words', () => {
    put('clouds.yaml', 'clouds:\n  a:\n    auth: {password: "top-secret\n')
    expect(() => read({ cloud: 'a' })).toThrow(/clouds.yaml is not valid YAML at line \d+$/)
    put('clouds.yaml', '- top-secret')
    expect(() => read({ cloud: 'a' })).toThrow(/clouds.yaml must be a mapping$/)
    put('clouds.yaml', 'clouds: {a: {profile: somewhere}}')
    expect(() => read({ cloud: 'a' })).toThrow("the profile 'somewhere' is not known here")
  })
})

describe('methods', () => {
  const keystone = { auth_url: 'http://k/v3' }
  it.each([
    [{ endpoint: 'http://a' }, 'none'],
    [{ endpoint: 'http://a', token: 't' }, 'admin_token'],
    [{ image_endpoint_override: 'http://a' }, 'none'],
    [{ ...keystone, username: 'u', password: 'p' }, 'password'],
    [{ ...keystone, token: 't' }, 'token'],
    [{ ...keystone, application_credential_id: 'i', application_credential_secret: 's' }, 'application_credential'],
    [{ ...keystone, auth_type: 'v3password', user_id: 'u', password: 'p' }, 'password'],
  ])('%o is %s', (given, method) => {
    expect(read(given).method).toBe(method)
  })

  it.each([
    [{}, 'no image service is named'],
    [keystone, 'username or user_id is not given, which password needs'],
    [{ ...keystone, username: 'u' }, 'password is not given'],
    [{ auth_type: 'none' }, 'endpoint or image_endpoint_override is not given'],
    [{ auth_type: 'v3oidcpassword' }, "auth_type 'v3oidcpassword' is not supported"],
    [{ ...keystone, auth_type: 'v3applicationcredential' }, 'application_credential_id or application_credential_name'],
    [{ token: 't' }, 'auth_url is not given'],
  ])('%o lacks something: %s', (given, message) => {
    expect(() => read(given)).toThrow(message)
  })

  it('come from the environment, under the names of other clients too', () => {
    Object.assign(env, {
      OS_AUTH_URL: 'http://k/v3',
      OS_USERNAME: 'u',
      OS_PASSWORD: 'p',
      OS_TENANT_NAME: 'garden',
      OS_ENDPOINT_TYPE: 'internalURL',
    })
    expect(read()).toMatchObject({ method: 'password', auth: { project_name: 'garden' }, interface: 'internal' })
    env = { OS_IMAGE_URL: 'http://a', OS_AUTH_TOKEN: 'any' }
    expect(read()).toMatchObject({ method: 'admin_token', endpoint: 'http://a', auth: { token: 'any' } })
  })
})
