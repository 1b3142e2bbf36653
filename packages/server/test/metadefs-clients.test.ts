/** The stock `glance` client and metadata definitions. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { beforeAll, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import { describeWith, type RunResult, run } from '../../engine/test/support/process.ts'
import { ask, type Subject, services } from './support/service.ts'

const start = services()
const folder = temporaryFolder()
/** Each call starts Python anew. */
const patience = { timeout: 240_000 }

describeWith(['glance'], 'glance', () => {
  let subject: Subject
  beforeAll(async () => {
    subject = await start()
    mkdirSync(folder.file('home'), { recursive: true })
  })
  const tryGlance = (...args: string[]): Promise<RunResult> => {
    const env = { PATH: process.env.PATH, HOME: folder.file('home'), LC_ALL: 'C.UTF-8' }
    const access = ['--os-image-url', subject.url, '--os-auth-token', 'any']
    return run('sh', ['-c', 'exec "$0" "$@" <&-', 'glance', ...access, ...args], { env, timeout: 60_000 })
  }
  async function glance(...args: string[]): Promise<string[][]> {
    const { code, stdout, stderr } = await tryGlance(...args)
    if (code !== 0) throw new Error(`glance ${args.join(' ')}: ${stdout}${stderr}`)
    const lines = stdout.split('\n').filter((line) => line.startsWith('|'))
    return lines.map((line) =>
      line
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim()),
    )
  }
  const show = async <Shape>(path: string) => (await ask(`${subject.url}/v2/metadefs/${path}`)).json<Shape>()

  it('makes, fills, reads and deletes a namespace', patience, async () => {
    await glance('md-namespace-create', '--display-name', 'Mine', '--visibility', 'public', 'Mine::X')
    const schema = '{"type": "string", "enum": ["red"], "default": "red"}'
    const box = '{"properties": {"size": {"title": "Size", "type": "integer"}}, "required": ["size"]}'
    await Promise.all([
      glance('md-resource-type-associate', '--name', 'OS::Glance::Image', '--prefix', 'x_', 'Mine::X'),
      glance('md-property-create', '--name', 'colour', '--title', 'Colour', '--schema', schema, 'Mine::X'),
      glance('md-object-create', '--name', 'box', '--schema', box, 'Mine::X'),
      glance('md-tag-create', '--name', 'new', 'Mine::X'),
      glance('md-namespace-update', '--description', 'About it', 'Mine::X'),
    ])
    const shown = Object.fromEntries(
      (await glance('md-namespace-show', '--resource-type', 'OS::Glance::Image', 'Mine::X')).map(([name, value]) => [
        name,
        value,
      ]),
    )
    expect(shown).toMatchObject({
      display_name: 'Mine',
      description: 'About it',
      visibility: 'public',
      properties: '["x_colour"]',
      objects: '["box"]',
      tags: '["new"]',
      resource_type_associations: '["OS::Glance::Image"]',
    })
    expect(await show('namespaces/Mine::X/objects/box')).toMatchObject({ required: ['size'] })
    await glance('md-namespace-delete', 'Mine::X')
    expect((await ask(`${subject.url}/v2/metadefs/namespaces/Mine::X`)).status).toBe(404)
  })

  it('reads a file, walks pages, and is told what is protected', patience, async () => {
    const path = folder.fresh('.json')
    writeFileSync(path, JSON.stringify({ namespace: 'Read::In', properties: { p: { title: 'P', type: 'boolean' } } }))
    await glance('md-namespace-import', '--file', path)
    expect(await show('namespaces/Read::In/properties')).toEqual({ properties: { p: { title: 'P', type: 'boolean' } } })
    const names = (await glance('md-namespace-list', '--page-size', '2')).slice(1).map(([name]) => name)
    expect(names).toHaveLength(7)
    expect(new Set(names).size).toBe(7)
    const refused = await tryGlance('md-namespace-delete', 'Moraine::Guest')
    expect([refused.code === 0, refused.stdout + refused.stderr]).toEqual([
      false,
      expect.stringContaining('Metadata definition namespace Moraine::Guest is protected and cannot be deleted.'),
    ])
  })
})
