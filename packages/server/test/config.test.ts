/** Settings: what is given, what comes from the environment, and what is refused. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { projectRoot } from '../../engine/test/support/process.ts'
import { type ConfigInput, readConfig, settings, variableOf } from '../src/config.ts'
import { serve } from '../src/index.ts'

const folder = temporaryFolder()

describe('settings', () => {
  it('come from the caller, then the environment, then the table', () => {
    const config = readConfig({ port: 1 }, { MORAINE_PORT: '2', MORAINE_IMAGE_SIZE_CAP: '5G', MORAINE_TAG_QUOTA: '' })
    expect([config.port, config.imageSizeCap, config.tagQuota]).toEqual([1, 5 * 1024 ** 3, 128])
    expect(readConfig({}, { MORAINE_REQUIRE_FORMAT_MATCH: 'no' }).requireFormatMatch).toBe(false)
  })

  it('find a folder for data', () => {
    expect(readConfig({}, { XDG_STATE_HOME: '/state' }).data).toBe('/state/moraine')
    expect(readConfig({}, {}).data).toMatch(/\.local\/state\/moraine$/)
    expect(readConfig({ data: 'here' }, {}).data).toBe(join(process.cwd(), 'here'))
  })

  it.each<[string, ConfigInput, Record<string, string>]>([
    ['a port that is none', { port: 70_000 }, {}],
    ['a port that is no number', {}, { MORAINE_PORT: 'http' }],
    ['an unknown level', { logLevel: 'loud' }, {}],
    ['a size that is none', {}, { MORAINE_STORAGE_QUOTA: 'much' }],
    ['a flag that is none', {}, { MORAINE_ALLOW_REMOTE: 'perhaps' }],
    ['a URL that is none', { publicUrl: 'images.example' }, {}],
    ['no images on a page', { listLimit: 0 }, {}],
  ])('are refused: %s', (_what, input, environment) => {
    expect(() => readConfig(input, environment)).toThrow(expect.objectContaining({ kind: 'invalid' }))
  })

  it('are all in the docs', () => {
    const page = readFileSync(join(projectRoot, 'docs', 'image-service.md'), 'utf8')
    for (const [name, { help }] of Object.entries(settings)) {
      expect(page).toContain(`| \`${name}\` | \`${variableOf(name)}\` |`)
      expect(page).toContain(help)
    }
  })
})

describe('the address', () => {
  it.each(['127.0.0.1', '127.1.2.3', 'localhost', '::1', '[::1]'])('%s is loopback', (host) => {
    expect(readConfig({ host }, {}).host).toBe(host)
  })

  it.each(['0.0.0.0', '::', '192.168.1.1', 'example.com', '127.0.0.1.example.com', ''])('%s is refused', (host) => {
    expect(() => readConfig({ host }, {})).toThrow(/refusing to listen on/)
    expect(readConfig({ host, allowRemote: true }, {}).host).toBe(host)
  })

  it('in use is said so', async () => {
    const first = await serve({ port: 0, data: folder.fresh(), logLevel: 'silent' })
    const port = Number(new URL(first.url).port)
    await expect(serve({ port, data: folder.fresh(), logLevel: 'silent' })).rejects.toMatchObject({
      kind: 'io',
      code: 'EADDRINUSE',
    })
    await first.close()
  })

  it('may be one of IPv6', async () => {
    const service = await serve({ host: '::1', port: 0, data: folder.fresh(), logLevel: 'silent' })
    expect(service.url).toMatch(/^http:\/\/\[::1\]:\d+$/)
    const answer = await fetch(`${service.url}/v2/images`)
    expect(answer.status).toBe(200)
    await answer.arrayBuffer()
    await Promise.all([service.close(), service.close()])
  })
})
