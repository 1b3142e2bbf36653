/** A Glance with something of everything, taken over, and compared with ours by both APIs. */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import type { Step } from '../../src/migrate/migrate.ts'
import { type MigrateSettings, migrate } from '../../src/upkeep.ts'
import type { Glance } from './glance.ts'
import { json, newPatch, octets } from './glance-request.ts'
import { ask, type ImageDocument } from './service.ts'

export const content = Buffer.alloc(3 * 2 ** 20, 'image data ')
const id = (last: number) => `77777777-0000-4000-8000-${String(last).padStart(12, '0')}`
export const [active, off, waiting, deleted, shared, damaged, lost, empty] = [1, 2, 3, 4, 5, 6, 7, 8].map(id) as [
  ...[string, string, string, string, string, string, string, string],
]

async function request(url: string, method: string, path: string, body?: unknown, type: Record<string, string> = json) {
  const bytes = body === undefined || body instanceof Uint8Array ? body : JSON.stringify(body)
  const answer = await ask(`${url}${path}`, method, bytes, body === undefined ? {} : type)
  if (answer.status >= 400) throw new Error(`${method} ${path}: ${answer.status} ${answer.body}`)
  return answer
}

/** Fills a Glance. @param data The folder of its data. */
export async function fill({ url }: Glance, data: string): Promise<void> {
  const image = (image: string, more: object = {}) =>
    request(url, 'POST', '/v2/images', { id: image, disk_format: 'raw', container_format: 'bare', ...more })
  const upload = (image: string, bytes: Uint8Array = content) =>
    request(url, 'PUT', `/v2/images/${image}/file`, bytes, octets)
  await image(active, {
    ...{ name: 'Größe 1', visibility: 'public', protected: true, min_ram: 64, min_disk: 2, os_hidden: true },
    ...{ tags: ['b', 'a', 'ü'], os_distro: 'debian', constructor: 'kept', empty: '', 'with space': '"quoted"' },
  })
  await upload(active)
  await image(off, { name: 'off', visibility: 'private' })
  await upload(off, Buffer.from('x'))
  await request(url, 'POST', `/v2/images/${off}/actions/deactivate`)
  await request(url, 'POST', '/v2/images', { id: waiting, name: null, visibility: 'community' })
  await image(deleted)
  await request(url, 'DELETE', `/v2/images/${deleted}`)
  await image(shared, { visibility: 'shared', owner: 'p1' })
  await upload(shared, new Uint8Array(2 ** 20))
  await request(url, 'POST', `/v2/images/${shared}/members`, { member: 'p2' })
  await request(url, 'POST', `/v2/images/${shared}/members`, { member: 'p3' })
  await request(url, 'DELETE', `/v2/images/${shared}/members/p3`)
  for (const image of [damaged, lost, empty]) {
    await request(url, 'POST', '/v2/images', { id: image, disk_format: 'raw', container_format: 'bare' })
    await upload(image, image === empty ? new Uint8Array(0) : content)
  }
  writeFileSync(join(data, damaged), Buffer.alloc(content.length, 'other'))
  writeFileSync(join(data, lost), 'cut')
  const changes = [{ op: 'replace', path: '/name', value: 'renamed' }]
  await request(url, 'PATCH', `/v2/images/${off}`, changes, { 'content-type': newPatch })
  const all = { namespace: 'Test::All', display_name: 'All', description: 'of it', visibility: 'public', owner: 'p1' }
  await request(url, 'POST', '/v2/metadefs/namespaces', all)
  const add = (kind: string, body?: unknown) =>
    request(url, 'POST', `/v2/metadefs/namespaces/Test::All/${kind}`, body, body === undefined ? {} : json)
  await add('resource_types', { name: 'OS::Test::Thing', prefix: 'thing_', properties_target: 'image' })
  await add('properties', { name: 'size', title: 'Size', type: 'integer', minimum: 0, default: 3 })
  const properties = { a: { title: 'A', type: 'string' } }
  await add('objects', { name: 'object', description: 'one', required: ['a'], properties })
  await add('tags/tag-1')
  await add('tags/tag-2')
  await request(url, 'POST', '/v2/metadefs/namespaces', { namespace: 'Test::Bare', owner: 'p2' })
}

/** Takes over; the steps by what they are about. */
export async function taken(
  data: string,
  settings: Partial<MigrateSettings> & { from: string },
): Promise<Map<string, Step>> {
  const steps = new Map<string, Step>()
  const options = { files: [], data: 'copy', dryRun: false, ...settings } as MigrateSettings
  for await (const step of migrate({ data }, options)) steps.set(step.id, step)
  return steps
}

/** All images as the API shows them, with tags in order. */
export async function documents(url: string): Promise<Map<string, ImageDocument>> {
  const found = new Map<string, ImageDocument>()
  for (const query of ['visibility=all', 'visibility=all&os_hidden=true']) {
    const { images } = (await ask(`${url}/v2/images?${query}`)).json<{ images: ImageDocument[] }>()
    for (const image of images) found.set(image.id, { ...image, tags: image.tags.toSorted() })
  }
  return found
}

/** All that both show is the same. */
export async function compare(ours: string, glance: string): Promise<void> {
  const theirs = await documents(glance)
  const own = await documents(ours)
  expect([...own.keys()].sort()).toEqual([...theirs.keys()].sort())
  for (const [image, document] of theirs) {
    if (image === damaged || image === lost) {
      expect(own.get(image)).toMatchObject({ status: 'queued', size: null, checksum: null, os_hash_value: null })
      continue
    }
    expect(own.get(image)).toEqual(document)
    const data = (url: string) => ask(`${url}/v2/images/${image}/file`, 'GET')
    if (document.status !== 'active') continue
    expect((await data(ours)).body.equals((await data(glance)).body)).toBe(true)
  }
  const members = async (url: string) => (await ask(`${url}/v2/images/${shared}/members`)).json()
  expect(await members(ours)).toEqual(await members(glance))
  for (const namespace of ['Test::All', 'Test::Bare']) {
    const show = async (url: string) => {
      const answer = await ask(`${url}/v2/metadefs/namespaces/${encodeURIComponent(namespace)}`)
      // When it was taken over is when it was made.
      return JSON.parse(answer.body.toString(), (name, value) =>
        /^(created|updated)_at$/.test(name) ? undefined : value,
      )
    }
    expect(await show(ours)).toEqual(await show(glance))
  }
  const again = await ask(`${ours}/v2/images`, 'POST', JSON.stringify({ id: deleted }), json)
  expect(again.status).toBe(409)
}
