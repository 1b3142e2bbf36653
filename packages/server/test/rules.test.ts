/** What operators may rule: the formats that there are, which go together, and who may touch which additional property. */
import { writeFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { temporaryFolder } from '../../engine/test/support/folder.ts'
import type { ConfigInput } from '../src/config.ts'
import { Policy } from '../src/policy/policy.ts'
import { readProtections } from '../src/policy/protections.ts'
import { believing } from './support/believing.ts'
import { asCaller } from './support/glance.ts'
import { newPatch } from './support/glance-request.ts'
import { type Answer, ask, createImage, type Subject, services, showImage, upload } from './support/service.ts'

const start = services()
const folder = temporaryFolder()
const json = { 'content-type': 'application/json', accept: 'application/json' }

const create = (subject: Subject, facts: object, who = {}): Promise<Answer> =>
  ask(`${subject.url}/v2/images`, 'POST', JSON.stringify(facts), { ...json, ...who })
const patch = (subject: Subject, id: string, changes: object[], who = {}): Promise<Answer> =>
  ask(`${subject.url}/v2/images/${id}`, 'PATCH', JSON.stringify(changes), { ...who, 'content-type': newPatch })

it('a rule about the caller that nobody knows is no text that a property could be', () => {
  const policy = new Policy({
    get_image: 'group_id:%(group)s',
    modify_image: "'group_id':%(group)s",
    add_image: 'True:%(group)s',
  })
  const caller = { userId: 'u', userName: 'u', projectId: 'p', roles: new Set<string>(), isService: false }
  const group = (value: string) => (name: string) => (name === 'group' ? value : undefined)
  expect(policy.allows('get_image', caller, group('group_id'))).toBe(false)
  expect(policy.allows('modify_image', caller, group('group_id'))).toBe(true)
  expect(policy.allows('add_image', caller, group('True'))).toBe(true)
})

describe('formats', () => {
  it('are those of the settings, in requests and in the schema', async () => {
    const subject = await start({ diskFormats: 'raw, qcow2', containerFormats: 'bare' })
    expect((await create(subject, { disk_format: 'qcow2', container_format: 'bare' })).status).toBe(201)
    const refused = await create(subject, { disk_format: 'vmdk' })
    expect([refused.status, refused.body.toString()]).toEqual([400, expect.stringContaining('disk_format')])
    expect((await create(subject, { container_format: 'ova' })).status).toBe(400)
    const schema = (await ask(`${subject.url}/v2/schemas/image`)).json<{
      properties: Record<string, { enum: unknown }>
    }>()
    expect(schema.properties.disk_format?.enum).toEqual([null, 'raw', 'qcow2'])
    expect(schema.properties.container_format?.enum).toEqual([null, 'bare'])
  })

  it('of Amazon go together', async () => {
    const subject = await start()
    expect((await create(subject, { disk_format: 'aki', container_format: 'aki' })).status).toBe(201)
    expect((await create(subject, { disk_format: 'aki' })).status).toBe(201)
    for (const [disk_format, container_format] of [
      ['aki', 'bare'],
      ['raw', 'ami'],
      ['ari', 'aki'],
    ]) {
      const { status, body } = await create(subject, { disk_format, container_format })
      expect([status, body.toString()]).toEqual([
        400,
        expect.stringContaining('Invalid mix of disk and container formats'),
      ])
    }
    const id = await createImage(subject.url)
    const change = (name: string, value: string) => ({ op: 'replace', path: `/${name}_format`, value })
    expect((await patch(subject, id, [change('disk', 'ami')])).status).toBe(400)
    expect((await patch(subject, id, [change('disk', 'ami'), change('container', 'ami')])).status).toBe(200)
    const lax = await start({ requireFormatAgreement: false })
    expect((await create(lax, { disk_format: 'aki', container_format: 'bare' })).status).toBe(201)
  })

  it('gpt means a partition table, where it is allowed', async () => {
    const disk = Buffer.alloc(70 * 512)
    disk.write('EFI PART', 512)
    disk.writeUInt16LE(0xaa55, 510)
    disk[450] = 0xee
    const header = disk.subarray(512, 1024)
    header.writeUInt32LE(0x10000, 8)
    header.writeUInt32LE(92, 12)
    const subject = await start({ diskFormats: 'raw, gpt, qcow2' })
    expect((await create(await start(), { disk_format: 'gpt' })).status).toBe(400)
    const id = await createImage(subject.url, { disk_format: 'gpt' })
    expect((await upload(subject.url, id, disk)).status).toBe(204)
    expect(await showImage(subject.url, id)).toMatchObject({ status: 'active', virtual_size: disk.length })
    const plain = await createImage(subject.url, { disk_format: 'gpt' })
    const refused = await upload(subject.url, plain, Buffer.alloc(70 * 512))
    expect([refused.status, refused.body.toString()]).toEqual([
      415,
      expect.stringContaining('is raw, but disk_format says gpt'),
    ])
  })
})

describe('protected properties', () => {
  const file = (text: string): string => {
    const path = folder.file('protections.conf')
    writeFileSync(path, text)
    return path
  }
  const all = 'create = @\nread = @\nupdate = @\ndelete = @\n'
  const open = (text: string, more: ConfigInput = {}) =>
    start({ propertyProtectionFile: file(text), ...more }, (service) => ({ ...service, identity: believing }))
  const member = asCaller('p1', ['member'])
  const licenser = asCaller('p1', ['member', 'licenser'])
  const rules = `[^x_license$]\ncreate = licenser\nread = @\nupdate = licenser\ndelete = !\n[^x_secret\\.]\ncreate = licenser\nread = licenser\nupdate = licenser\ndelete = licenser\n[.*]\n${all}`

  it('are created, seen, changed and deleted by those who may', async () => {
    const subject = await open(rules)
    expect((await create(subject, { x_license: 'gpl' }, member)).status).toBe(403)
    const made = await create(subject, { x_license: 'gpl', 'x_secret.key': 's', color: 'red' }, licenser)
    expect(made.status).toBe(201)
    const { id } = made.json<{ id: string }>()
    const shown = (await ask(`${subject.url}/v2/images/${id}`, 'GET', undefined, member)).json()
    expect(shown).toMatchObject({ x_license: 'gpl', color: 'red' })
    expect(shown).not.toHaveProperty(['x_secret.key'])
    expect((await ask(`${subject.url}/v2/images`, 'GET', undefined, member)).body.toString()).not.toContain('x_secret')
    expect((await ask(`${subject.url}/v2/images`, 'GET', undefined, licenser)).body.toString()).toContain(
      'x_secret.key',
    )
    const change = async (op: string, name: string, who: Record<string, string>) =>
      (await patch(subject, id, [{ op, path: `/${name}`, ...(op === 'remove' ? {} : { value: 'new' }) }], who)).status
    expect(await change('replace', 'color', member)).toBe(200)
    expect(await change('replace', 'x_license', member)).toBe(403)
    expect(await change('add', 'x_license', member)).toBe(403)
    expect(await change('replace', 'x_secret.key', member)).toBe(409)
    expect(await change('add', 'x_secret.key', member)).toBe(403)
    expect(await change('replace', 'x_license', licenser)).toBe(200)
    expect(await change('remove', 'x_license', licenser)).toBe(403)
    expect(await change('remove', 'x_secret.key', licenser)).toBe(200)
    // What a change of another kind carries along stays.
    expect(await change('replace', 'name', member)).toBe(200)
    const whole = (await ask(`${subject.url}/v2/images/${id}`, 'GET', undefined, licenser)).json()
    expect(whole).toMatchObject({ x_license: 'new', color: 'new', name: 'new' })
  })

  it('may be ruled by the policy; what no section names nobody may touch', async () => {
    const policyFile = folder.file('policy.yaml')
    writeFileSync(policyFile, 'licensing: role:licenser or role:admin\n')
    const text = '[^x_]\ncreate = licensing\nread = @\nupdate = licensing\ndelete = licensing\n'
    const subject = await open(text, { policyFile, propertyProtectionFormat: 'policies' })
    expect((await create(subject, { x_license: 'gpl' }, member)).status).toBe(403)
    expect((await create(subject, { x_license: 'gpl' }, licenser)).status).toBe(201)
    expect((await create(subject, { color: 'red' }, licenser)).status).toBe(403)
  })

  it.each<[string, string, 'roles' | 'policies']>([
    ['[a]\ncreate = @\nread = @\nupdate = @\n', '[a] does not say who may delete', 'roles'],
    [`[a(]\n${all}`, '[a(]: Invalid regular expression', 'roles'],
    ['[a]\ncreate = @, !\nread = @\nupdate = @\ndelete = @\n', '@ and ! are mutually exclusive', 'roles'],
    ['create = @\n', "'create' stands before the first section", 'roles'],
    ['[a]\ncreate = nowhere\nread = @\nupdate = @\ndelete = @\n', 'the policy has no rule nowhere', 'policies'],
    ['[a]\ncreate = get_image, get_images\nread = @\nupdate = @\ndelete = @\n', 'only one rule', 'policies'],
  ])('in a file that cannot be read are refused by name: %j', (text, message, format) => {
    expect(() => readProtections(file(text), format, new Policy())).toThrow(message)
  })

  it('in a file that is not there are refused', () => {
    expect(() => readProtections('/nowhere', 'roles', new Policy())).toThrow('/nowhere')
  })
})
