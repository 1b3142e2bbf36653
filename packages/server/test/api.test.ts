/** The table of answers: status, headers and bodies, as Glance gives them on the wire. */
import { beforeAll, describe, expect, it } from 'vitest'
import { ask, createImage, type ImageDocument, type Subject, services, showImage, upload } from './support/service.ts'

const start = services()
let subject: Subject
beforeAll(async () => {
  subject = await start()
})

const patchType = 'application/openstack-images-v2.1-json-patch'
const oldPatchType = 'application/openstack-images-v2.0-json-patch'
const nowhere = '00000000-0000-0000-0000-000000000000'

function post(body: unknown) {
  return subject.app.inject({ method: 'POST', url: '/v2/images', payload: JSON.stringify(body) })
}

function patch(id: string, changes: unknown, type = patchType) {
  return subject.app.inject({
    method: 'PATCH',
    url: `/v2/images/${id}`,
    headers: { 'content-type': type },
    payload: typeof changes === 'string' ? changes : JSON.stringify(changes),
  })
}

describe('versions and health', () => {
  it('lists versions with 300 at the root, with 200 at /versions, and under any unknown prefix', async () => {
    for (const [url, status] of [
      ['/', 300],
      ['/versions', 200],
      ['/v3/images', 300],
      ['/v1/images', 300],
    ] as const) {
      const answer = await subject.app.inject({ url, headers: { host: '127.0.0.1:9292' } })
      expect([url, answer.statusCode]).toEqual([url, status])
      expect(answer.headers['content-type']).toBe('application/json')
      // What is between 2.9 and 2.7 is for several stores.
      const links = [{ rel: 'self', href: 'http://127.0.0.1:9292/v2/' }]
      expect(answer.json()).toEqual({
        versions: ['v2.17', 'v2.15', 'v2.9', 'v2.7', 'v2.6', 'v2.5', 'v2.4', 'v2.3', 'v2.2', 'v2.1', 'v2.0'].map(
          (id) => ({
            id,
            status: id === 'v2.17' ? 'CURRENT' : 'SUPPORTED',
            links,
          }),
        ),
      })
    }
  })

  it('answers paths with a minor version like those without', async () => {
    for (const version of ['v2.0', 'v2.1', 'v2.3', 'v2.9', 'v2.18']) {
      expect((await subject.app.inject(`/${version}/images?limit=1`)).statusCode).toBe(200)
    }
    for (const version of ['v2.19', 'v2.99']) {
      expect((await subject.app.inject(`/${version}/images`)).statusCode).toBe(300)
    }
  })

  it('points from /v2 to /v2/', async () => {
    for (const url of ['/v2', '/v2.3']) {
      const answer = await subject.app.inject({ url, headers: { host: '127.0.0.1:9292' } })
      expect([answer.statusCode, answer.headers.location]).toEqual([302, 'http://127.0.0.1:9292/v2/'])
    }
  })

  it('is healthy', async () => {
    const answer = await subject.app.inject('/healthcheck')
    expect([answer.statusCode, answer.body, answer.headers['content-type']]).toEqual([
      200,
      'OK',
      'text/plain; charset=UTF-8',
    ])
  })

  it('serves the schemas', async () => {
    for (const name of ['image', 'images', 'member', 'members', 'task', 'tasks']) {
      const answer = await subject.app.inject(`/v2/schemas/${name}`)
      expect([name, answer.statusCode]).toEqual([name, 200])
      expect(answer.json().name).toBe(name)
    }
    const { properties } = (await subject.app.inject('/v2/schemas/image')).json()
    expect(properties.disk_format).toEqual({
      type: ['null', 'string'],
      description: 'Format of the disk',
      enum: [null, 'ami', 'ari', 'aki', 'vhd', 'vhdx', 'vmdk', 'raw', 'qcow2', 'vdi', 'iso', 'ploop'],
    })
    expect((await subject.app.inject('/v2/schemas/nothing')).statusCode).toBe(404)
  })

  it('says that it has no import methods and one store', async () => {
    expect((await subject.app.inject('/v2/info/import')).json()['import-methods'].value).toEqual([
      'glance-direct',
      'web-download',
      'copy-image',
    ])
    expect((await subject.app.inject('/v2/info/stores')).statusCode).toBe(404)
  })
})

describe('errors', () => {
  const text = `No image found with ID ${nowhere}`

  it('come as a page for */* and html', async () => {
    const page = `<html>\n <head>\n  <title>404 Not Found</title>\n </head>\n <body>\n  <h1>404 Not Found</h1>\n  ${text}<br /><br />\n\n\n\n </body>\n</html>`
    for (const accept of ['*/*', 'text/html', 'text/html;q=0.9, application/json;q=0.8']) {
      const answer = await subject.app.inject({ url: `/v2/images/${nowhere}`, headers: { accept } })
      expect(answer.headers['content-type']).toBe('text/html; charset=UTF-8')
      expect(answer.body).toBe(page)
    }
  })

  it('come as JSON when that is preferred', async () => {
    const answer = await subject.app.inject({
      url: `/v2/images/${nowhere}`,
      headers: { accept: 'application/json, */*;q=0.1' },
    })
    expect(answer.headers['content-type']).toMatch(/^application\/json/)
    expect(answer.json()).toEqual({
      message: `${text}<br /><br />\n\n\n`,
      code: '404 Not Found',
      title: 'Not Found',
    })
  })

  it('come as text when nothing is asked for', async () => {
    const answer = await ask(`${subject.url}/v2/images/${nowhere}`)
    expect(answer.headers['content-type']).toBe('text/plain; charset=UTF-8')
    expect(answer.body.toString()).toBe(`404 Not Found\n\n${text}\n\n   `)
  })

  it('escape what the client sent', async () => {
    const answer = await subject.app.inject({ url: "/v2/images/<script>'", headers: { accept: '*/*' } })
    expect(answer.body).toContain('ID &lt;script&gt;&#x27;')
  })

  it('name the request', async () => {
    const answer = await subject.app.inject(`/v2/images/${nowhere}`)
    expect(answer.headers['x-openstack-request-id']).toMatch(/^req-[0-9a-f-]{36}$/)
  })

  it('list the methods of a path with 405', async () => {
    const id = await createImage(subject.url)
    for (const [method, url, allow] of [
      ['PUT', '/v2/images', 'GET, POST'],
      ['HEAD', '/v2/images', 'GET, POST'],
      ['HEAD', `/v2/images/${id}`, 'GET, PATCH, DELETE'],
      ['POST', `/v2/images/${id}`, 'GET, PATCH, DELETE'],
      ['DELETE', `/v2/images/${id}/file`, 'GET, PUT'],
      ['GET', `/v2/images/${id}/tags/x`, 'PUT, DELETE'],
      ['GET', `/v2/images/${id}/actions/deactivate`, 'POST'],
      ['POST', '/v2/schemas/image', 'GET'],
      ['POST', `/v2/images/${id}/export`, 'GET'],
    ] as const) {
      const answer = await subject.app.inject({ method, url })
      expect([method, url, answer.statusCode, answer.headers.allow]).toEqual([method, url, 405, allow])
    }
  })

  it('refuse a body where none belongs, unknown paths, and broken URLs', async () => {
    const withBody = await subject.app.inject({ method: 'DELETE', url: `/v2/images/${nowhere}`, payload: 'x' })
    expect(withBody.statusCode).toBe(400)
    expect((await subject.app.inject('/v2/nothing')).statusCode).toBe(404)
    expect((await subject.app.inject('/v2/')).statusCode).toBe(404)
    expect((await subject.app.inject('/v2/images/')).body).toContain('The resource could not be found.')
    expect((await subject.app.inject('/v2/images/%zz')).statusCode).toBe(400)
  })
})

describe('create', () => {
  it('answers with the whole document and where it is', async () => {
    const answer = await subject.app.inject({
      method: 'POST',
      url: '/v2/images',
      headers: { host: '127.0.0.1:9292' },
      payload: JSON.stringify({
        name: 'wire',
        disk_format: 'raw',
        container_format: 'bare',
        os_distro: 'debian',
        tags: ['b', 'a', 'b'],
      }),
    })
    expect(answer.statusCode).toBe(201)
    const image = answer.json<ImageDocument>()
    expect(answer.headers.location).toBe(`http://127.0.0.1:9292/v2/images/${image.id}`)
    expect(image).toEqual({
      os_distro: 'debian',
      name: 'wire',
      disk_format: 'raw',
      container_format: 'bare',
      visibility: 'shared',
      size: null,
      virtual_size: null,
      status: 'queued',
      checksum: null,
      protected: false,
      min_ram: 0,
      min_disk: 0,
      owner: null,
      os_hidden: false,
      os_hash_algo: null,
      os_hash_value: null,
      id: expect.stringMatching(/^[0-9a-f-]{36}$/),
      created_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/),
      updated_at: image.created_at,
      tags: ['b', 'a'],
      self: `/v2/images/${image.id}`,
      file: `/v2/images/${image.id}/file`,
      schema: '/v2/schemas/image',
    })
    expect((await showImage(subject.url, image.id)).name).toBe('wire')
  })

  it('needs nothing but an object', async () => {
    expect((await post({})).statusCode).toBe(201)
  })

  it.each([
    ['a list', [], 400],
    ['text', 'x', 400],
    ['null', null, 400],
    ['a number as a property', { x: 1 }, 400],
    ['null as a property', { x: null }, 400],
    ['a number as the name', { name: 3 }, 400],
    ['too long a name', { name: 'x'.repeat(256) }, 400],
    ['too long a tag', { tags: ['x'.repeat(256)] }, 400],
    ['too long a name of a property', { ['x'.repeat(256)]: 'v' }, 400],
    ['an unknown disk format', { disk_format: 'floppy' }, 400],
    ['an unknown container format', { container_format: 'box' }, 400],
    ['an unknown visibility', { visibility: 'secret' }, 400],
    ['a fraction of a GiB', { min_disk: 1.5 }, 400],
    ['less than no memory', { min_ram: -1 }, 400],
    ['too much memory', { min_ram: 2 ** 31 }, 400],
    ['an id that is no UUID', { id: 'one' }, 400],
    ['a status', { status: 'active' }, 403],
    ['a size', { size: 5 }, 403],
    ['a checksum', { checksum: 'x' }, 403],
    ['a time', { created_at: 'x' }, 403],
    ['a hash', { os_hash_value: 'x' }, 403],
    ['a self', { self: '/x' }, 403],
    ['stores', { stores: 'x' }, 403],
    ['a location', { location: 'x' }, 403],
    ['a deletion', { deleted: 'true' }, 403],
    ['locations', { locations: [] }, 403],
    ['a property of the service', { os_glance_import_task: 'x' }, 403],
  ])('refuses %s', async (_what, body, status) => {
    const answer = await post(body)
    expect([answer.statusCode, answer.body.length > 0]).toEqual([status, true])
  })

  it('refuses what is no JSON, and no body at all', async () => {
    const broken = await subject.app.inject({ method: 'POST', url: '/v2/images', payload: '{"name"' })
    expect([broken.statusCode, broken.body]).toEqual([400, expect.stringContaining('Malformed JSON')])
    const none = await subject.app.inject({ method: 'POST', url: '/v2/images' })
    expect([none.statusCode, none.body]).toEqual([400, expect.stringContaining('Body expected')])
  })

  it('takes an id once, and never again', async () => {
    const id = '11111111-2222-3333-4444-555555555555'
    expect((await post({ id })).statusCode).toBe(201)
    expect((await post({ id })).statusCode).toBe(409)
    expect((await subject.app.inject({ method: 'DELETE', url: `/v2/images/${id}` })).statusCode).toBe(204)
    expect((await post({ id })).statusCode).toBe(409)
  })

  it('takes properties of any name', async () => {
    const answer = await subject.app.inject({
      method: 'POST',
      url: '/v2/images',
      payload: '{"__proto__":"p","toString":"t"}',
    })
    const image = JSON.parse(answer.body) as Record<string, unknown>
    expect(Object.getOwnPropertyDescriptor(image, '__proto__')?.value).toBe('p')
    expect(image.toString).toBe('t')
    const shown = await subject.app.inject(`/v2/images/${image.id}`)
    expect(shown.body).toContain('"__proto__":"p"')
  })

  it('keeps quotas', async () => {
    const small = await start({ tagQuota: 2, propertyQuota: 1 })
    const create = (body: unknown) =>
      small.app.inject({ method: 'POST', url: '/v2/images', payload: JSON.stringify(body) })
    expect((await create({ tags: ['a', 'b', 'c'] })).statusCode).toBe(413)
    expect((await create({ a: '1', b: '2' })).statusCode).toBe(413)
    const id = (await create({ tags: ['a', 'b'], a: '1' })).json().id
    expect((await small.app.inject({ method: 'PUT', url: `/v2/images/${id}/tags/c` })).statusCode).toBe(413)
    expect((await small.app.inject({ method: 'PUT', url: `/v2/images/${id}/tags/a` })).statusCode).toBe(204)
  })
})

describe('update', () => {
  it('adds, replaces and removes, all or nothing', async () => {
    const id = await createImage(subject.url, { name: 'one', os_distro: 'debian' })
    const answer = await patch(id, [
      { op: 'add', path: '/x', value: '1' },
      { op: 'add', path: '/a~1b~0c', value: '2' },
      { op: 'replace', path: '/name', value: 'two' },
      { op: 'replace', path: '/tags', value: ['t', 't'] },
      { op: 'add', path: '/min_disk', value: 7 },
      { op: 'remove', path: '/os_distro' },
    ])
    expect(answer.statusCode).toBe(200)
    expect(answer.json()).toMatchObject({ x: '1', 'a/b~c': '2', name: 'two', tags: ['t'], min_disk: 7 })
    expect(answer.json()).not.toHaveProperty('os_distro')
    const half = await patch(id, [
      { op: 'replace', path: '/name', value: 'three' },
      { op: 'remove', path: '/absent' },
    ])
    expect(half.statusCode).toBe(409)
    expect((await showImage(subject.url, id)).name).toBe('two')
  })

  it('knows the older media type, where add does not replace', async () => {
    const id = await createImage(subject.url, { name: 'one' })
    expect((await patch(id, [{ replace: '/name', value: 'two' }], oldPatchType)).json().name).toBe('two')
    expect((await patch(id, [{ add: '/x', value: '1' }], oldPatchType)).json().x).toBe('1')
    expect((await patch(id, [{ add: '/x', value: '2' }], oldPatchType)).statusCode).toBe(409)
    expect((await patch(id, [{ remove: '/x' }], oldPatchType)).json()).not.toHaveProperty('x')
    expect((await patch(id, [{ add: '/x', remove: '/x', value: '1' }], oldPatchType)).statusCode).toBe(400)
    expect((await patch(id, [{ op: 'add', path: '/x', value: '1' }], oldPatchType)).statusCode).toBe(400)
  })

  it('names the media types that it takes', async () => {
    const id = await createImage(subject.url)
    for (const type of ['application/json', 'application/openstack-images-v2.2-json-patch']) {
      const answer = await patch(id, [], type)
      expect(answer.statusCode).toBe(415)
      expect(answer.headers['accept-patch']).toBe(`${oldPatchType}, ${patchType}`)
    }
    expect((await patch(id, [], `${patchType}; charset=utf-8`)).statusCode).toBe(200)
  })

  it.each([
    ['something else than a list', {}, 400],
    ['something else than objects', ['x'], 400],
    ['an unknown operation', [{ op: 'move', path: '/name' }], 400],
    ['no operation', [{ path: '/name', value: 'x' }], 400],
    ['no path', [{ op: 'add', value: 'x' }], 400],
    ['no value', [{ op: 'add', path: '/x' }], 400],
    ['a pointer without a slash', [{ op: 'add', path: 'x', value: 'x' }], 400],
    ['a pointer that ends in a slash', [{ op: 'add', path: '/x/', value: 'x' }], 400],
    ['a pointer with two slashes', [{ op: 'add', path: '//x', value: 'x' }], 400],
    ['a pointer with a bad escape', [{ op: 'add', path: '/x~2', value: 'x' }], 400],
    ['a pointer into a value', [{ op: 'add', path: '/tags/-', value: 'x' }], 400],
    ['a value of the wrong type', [{ op: 'replace', path: '/name', value: 3 }], 400],
    ['a property that is no text', [{ op: 'add', path: '/x', value: 3 }], 400],
    ['too long a name of a property', [{ op: 'add', path: `/${'x'.repeat(256)}`, value: 'x' }], 400],
    ['an unknown visibility', [{ op: 'replace', path: '/visibility', value: 'secret' }], 400],
    ['less than nothing', [{ op: 'replace', path: '/min_ram', value: -1 }], 400],
    ['the status', [{ op: 'replace', path: '/status', value: 'killed' }], 403],
    ['the id', [{ op: 'replace', path: '/id', value: nowhere }], 403],
    ['the virtual size', [{ op: 'replace', path: '/virtual_size', value: 5 }], 403],
    ['a reserved name', [{ op: 'add', path: '/os_glance_x', value: 'x' }], 403],
    ['locations', [{ op: 'add', path: '/locations/-', value: {} }], 403],
    ['removing an attribute', [{ op: 'remove', path: '/name' }], 403],
    ['replacing what is not there', [{ op: 'replace', path: '/absent', value: 'x' }], 409],
    ['removing what is not there', [{ op: 'remove', path: '/absent' }], 409],
  ])('refuses %s', async (_what, changes, status) => {
    const id = await createImage(subject.url)
    const answer = await patch(id, changes)
    expect(answer.statusCode).toBe(status)
  })

  it('keeps the formats of an image that has data', async () => {
    const id = await createImage(subject.url)
    const change = [{ op: 'replace', path: '/container_format', value: 'ovf' }]
    expect((await patch(id, change)).statusCode).toBe(200)
    await upload(subject.url, id, Buffer.from('data'))
    expect((await patch(id, change)).statusCode).toBe(403)
  })

  it('loses no change of two at the same time', async () => {
    const id = await createImage(subject.url)
    const names = Array.from({ length: 40 }, (_, index) => `p${index}`)
    const answers = await Promise.all(names.map((name) => patch(id, [{ op: 'add', path: `/${name}`, value: 'v' }])))
    expect(answers.every(({ statusCode }) => statusCode === 200)).toBe(true)
    const image = await showImage(subject.url, id)
    expect(names.filter((name) => image[name] !== 'v')).toEqual([])
  })

  it('answers 404 for what is not there', async () => {
    expect((await patch(nowhere, [{ op: 'add', path: '/x', value: '1' }])).statusCode).toBe(404)
  })
})

describe('tags, delete, deactivate', () => {
  it('adds and removes tags, any text among them', async () => {
    const id = await createImage(subject.url, { tags: ['a'] })
    const tag = 'ä b/c?'.padEnd(255, '☃')
    const url = `/v2/images/${id}/tags/${encodeURIComponent(tag)}`
    expect((await subject.app.inject({ method: 'PUT', url })).statusCode).toBe(204)
    expect((await subject.app.inject({ method: 'PUT', url })).statusCode).toBe(204)
    expect((await showImage(subject.url, id)).tags).toEqual(['a', tag])
    expect((await subject.app.inject({ method: 'DELETE', url })).statusCode).toBe(204)
    expect((await subject.app.inject({ method: 'DELETE', url })).statusCode).toBe(404)
    expect((await showImage(subject.url, id)).tags).toEqual(['a'])
    const long = `/v2/images/${id}/tags/${'x'.repeat(256)}`
    expect((await subject.app.inject({ method: 'PUT', url: long })).statusCode).toBe(400)
    expect((await subject.app.inject({ method: 'PUT', url: `/v2/images/${nowhere}/tags/x` })).statusCode).toBe(404)
  })

  it('deletes, but not what is protected', async () => {
    const id = await createImage(subject.url, { protected: true })
    const remove = () => subject.app.inject({ method: 'DELETE', url: `/v2/images/${id}` })
    const refused = await remove()
    expect([refused.statusCode, refused.body]).toEqual([403, expect.stringContaining('is protected')])
    await patch(id, [{ op: 'replace', path: '/protected', value: false }])
    expect((await remove()).statusCode).toBe(204)
    expect((await remove()).statusCode).toBe(404)
    expect((await subject.app.inject(`/v2/images/${id}`)).statusCode).toBe(404)
  })

  it('deactivates only what is active, and does so twice without complaint', async () => {
    const id = await createImage(subject.url)
    const act = async (verb: string) =>
      (await subject.app.inject({ method: 'POST', url: `/v2/images/${id}/actions/${verb}` })).statusCode
    expect(await act('deactivate')).toBe(403)
    await upload(subject.url, id, Buffer.from('data'))
    expect([await act('deactivate'), await act('deactivate')]).toEqual([204, 204])
    expect((await showImage(subject.url, id)).status).toBe('deactivated')
    expect((await ask(`${subject.url}/v2/images/${id}/file`)).status).toBe(403)
    expect((await ask(`${subject.url}/v2/images/${id}/export?format=raw`)).status).toBe(403)
    expect([await act('reactivate'), await act('reactivate')]).toEqual([204, 204])
    expect((await ask(`${subject.url}/v2/images/${id}/file`)).body.toString()).toBe('data')
  })
})

describe('strangers', () => {
  it('are not answered under a name that is not of this machine', async () => {
    const answer = await subject.app.inject({ url: '/v2/images', headers: { host: 'rebind.example:9292' } })
    expect(answer.statusCode).toBe(403)
    for (const host of ['localhost:9292', '127.0.0.1', '[::1]:9292']) {
      expect((await subject.app.inject({ url: '/v2/images', headers: { host } })).statusCode).toBe(200)
    }
  })

  it('are answered under the public name, which is also in what they get', async () => {
    const known = await start({ publicUrl: 'https://images.example/glance/' })
    const headers = { host: 'images.example', origin: 'https://images.example' }
    const answer = await known.app.inject({ method: 'POST', url: '/v2/images', headers, payload: '{}' })
    expect([answer.statusCode, answer.headers.location]).toEqual([
      201,
      `https://images.example/glance/v2/images/${answer.json().id}`,
    ])
    expect((await known.app.inject({ url: '/v2/images', headers: { host: 'other.example' } })).statusCode).toBe(403)
  })

  it('cannot act through a browser on this machine', async () => {
    const create = (origin: string) =>
      subject.app.inject({
        method: 'POST',
        url: '/v2/images',
        headers: { host: '127.0.0.1:9292', origin, 'content-type': 'text/plain' },
        payload: '{}',
      })
    expect((await create('https://example.com')).statusCode).toBe(403)
    expect((await create('null')).statusCode).toBe(403)
    expect((await create('http://127.0.0.1:9292')).statusCode).toBe(201)
  })
})
