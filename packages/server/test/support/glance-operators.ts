/** What a real Glance and ours are both asked by operators, after the walk of imports: the cache, usage and quotas, protected properties, locations, tasks and stores in
 *  detail. `MIRROR` is a web server, `{task}` the task that was made last. */
import { asCaller } from './glance.ts'
import { but, create, get, newPatch, nowhere, octets, patch, put, type Step, send } from './glance-request.ts'

/** Who asks, unless a step says otherwise an administrator of `p1`. */
const by = (who: Record<string, string>, step: Step): Step => ({ ...step, headers: { ...step.headers, ...who } })
const member = asCaller('p1', ['member', 'reader'])
const reader = asCaller('p1', ['reader'])
const stranger = asCaller('p5', ['member', 'reader'])
const small = asCaller('small', ['member', 'reader'])

/** What the project `small` may use; all others may use a lot. */
export const smallLimits = {
  image_size_total: 1,
  image_stage_total: 1,
  image_count_total: 4,
  image_count_uploading: 1,
}

/** Who may touch which properties, for both. */
export const protections = `[^guarded_]
create = admin
read = admin,reader
update = admin
delete = admin
[^member_]
create = member
read = member
update = member
delete = !
[^sealed$]
create = @
read = @
update = !
delete = !
[^secret_]
create = admin
read = admin
update = admin
delete = admin
[.*]
create = @
read = @
update = @
delete = @
`

const image = (digit: number) => `77777777-0000-4000-8000-0000000000${10 + digit}`
const make = (id: string, more = {}) => create({ id, disk_format: 'raw', container_format: 'bare', ...more })
const file = 'data of an image that is kept'
const purge = (target: string): Step => ({
  line: 'DELETE /v2/cache',
  headers: { 'x-image-cache-clear-target': target },
})

const cache: Step[] = [
  get('/v2/cache'),
  make(image(0)),
  { line: `PUT /v2/cache/${image(0)}` },
  put(image(0), file),
  { line: `PUT /v2/cache/${nowhere}` },
  { line: `PUT /v2/cache/one` },
  by(member, { line: `PUT /v2/cache/${image(0)}` }),
  by(stranger, { line: `PUT /v2/cache/${image(0)}` }),
  by(member, get('/v2/cache')),
  by(member, { line: 'DELETE /v2/cache' }),
  by(member, { line: `DELETE /v2/cache/${image(0)}` }),
  { line: `PUT /v2/cache/${image(0)}` },
  get('/v2/cache'),
  { line: `PUT /v2/cache/${image(0)}` },
  get('/v2/cache'),
  get(`/v2/images/${image(0)}/file`),
  { line: `DELETE /v2/cache/${nowhere}` },
  { line: `DELETE /v2/cache/one` },
  { line: `DELETE /v2/cache/${image(0)}` },
  { line: `DELETE /v2/cache/${image(0)}` },
  get('/v2/cache'),
  { line: `PUT /v2/cache/${image(0)}` },
  purge('queue'),
  get('/v2/cache'),
  purge('attic'),
  purge('Cache'),
  get('/v2/cache'),
  { line: `PUT /v2/cache/${image(0)}` },
  purge(''),
  get('/v2/cache'),
  { line: `PUT /v2/cache/${image(0)}` },
  { line: `DELETE /v2/images/${image(0)}` },
  but('copies of an image go with it', get('/v2/cache')),
  { line: 'DELETE /v2/cache' },
  get('/v2/cache'),
  { line: 'PUT /v2/cache' },
  get(`/v2/cache/${image(0)}`),
  { line: `POST /v2/cache/${image(0)}` },
]

const usage: Step[] = [
  get('/v2/info/usage'),
  but('Glance does not say what the path has', { line: 'POST /v2/info/usage' }),
  by(small, get('/v2/info/usage')),
  by(small, make(image(1))),
  by(small, make(image(2))),
  by(small, make(image(3))),
  by(small, get('/v2/info/usage')),
  by(small, put(image(1), Buffer.alloc(1024 * 1024))),
  by(small, get('/v2/info/usage')),
  but('Glance finds out when the bound is passed', by(small, put(image(2), Buffer.alloc(1024 * 1024)))),
  but('Glance finds out when the bound is passed', by(small, get('/v2/info/usage'))),
  but('what was refused is not there', by(small, get(`/v2/images/${image(2)}`))),
  by(small, { line: `DELETE /v2/images/${image(2)}` }),
  by(small, make(image(6))),
  by(small, send(`PUT /v2/images/${image(6)}/stage`, Buffer.alloc(1024), octets)),
  by(small, get('/v2/info/usage')),
  but(
    'Glance says first what 413 means',
    by(small, send(`PUT /v2/images/${image(3)}/stage`, Buffer.alloc(1024), octets)),
  ),
  by(small, make(image(4))),
  but('Glance says first what 413 means', by(small, make(image(5)))),
  by(small, get('/v2/info/usage')),
  by(small, { line: `DELETE /v2/images/${image(4)}` }),
  by(small, { line: `DELETE /v2/images/${image(1)}` }),
  by(small, get('/v2/info/usage')),
  by(reader, get('/v2/info/usage')),
]

const op = (kind: string, name: string, value?: string) => [
  { op: kind, path: `/${name}`, ...(value !== undefined && { value }) },
]
const protectedProperties: Step[] = [
  ...['guarded_x', 'member_x', 'sealed', 'secret_x', 'plain'].flatMap((name, at) => [
    by(member, create({ id: image(10 + at), [name]: '1' })),
    by(reader, create({ [name]: '1' })),
  ]),
  create({ id: image(20), guarded_a: '1', sealed: '1', plain: '1' }),
  create({ id: image(21), member_a: '1' }),
  by(member, create({ id: image(22), member_a: '1', sealed: '1', plain: '1', visibility: 'shared' })),
  ...[20, 22].flatMap((at) => [
    get(`/v2/images/${image(at)}`),
    by(member, get(`/v2/images/${image(at)}`)),
    by(reader, get(`/v2/images/${image(at)}`)),
  ]),
  ...['guarded_a', 'member_a', 'sealed', 'secret_a', 'plain', 'guarded_b', 'member_b', 'secret_b'].flatMap((name) =>
    [member, {}].flatMap((who) => [
      by(who, patch(image(20), op('add', name, '2'))),
      by(who, patch(image(20), op('replace', name, '3'))),
      by(who, patch(image(20), op('remove', name))),
    ]),
  ),
  by(member, get(`/v2/images/${image(20)}`)),
  create({ id: image(23), secret_a: '1', plain: '1' }),
  by(member, patch(image(23), op('replace', 'plain', '2'))),
  but('a change by one who may not read a property leaves it', get(`/v2/images/${image(23)}`)),
  get('/v2/images?plain=3&limit=5'),
  by(member, get('/v2/images?secret_b=2&limit=5')),
  by(member, get('/v2/images?sealed=1&limit=5&sort=id:asc')),
  by(reader, get('/v2/images?member_a=1&limit=5')),
]

const change = (id: string, kind: string, path: string, value?: unknown): Step =>
  send(`PATCH /v2/images/${id}`, JSON.stringify([{ op: kind, path, ...(value !== undefined && { value }) }]), {
    'content-type': newPatch,
  })
const said = { checksum: 'a'.repeat(32), os_hash_algo: 'sha512', os_hash_value: 'b'.repeat(128) }
const at = (path: string, metadata: unknown = {}) => ({ url: `MIRROR${path}`, metadata })

/** Its size is not that of a disk, which Glance does not look for here. */
const box = (id: string) => make(id, { container_format: 'docker' })
const why = 'ours says why'
const writeOnly = 'its own schema says that it is only written'
const locations: Step[] = [
  box(image(30)),
  change(image(30), 'remove', '/locations/0'),
  but(why, change(image(30), 'add', '/locations/-', { url: 'file:///etc/passwd', metadata: {} })),
  but(why, change(image(30), 'add', '/locations/-', at('/nothing'))),
  change(image(30), 'add', '/locations/-', { url: 5, metadata: {} }),
  change(image(30), 'add', '/locations/-', { url: 'MIRROR/image' }),
  change(image(30), 'add', '/locations/-', at('/image', 'x')),
  change(image(30), 'add', '/locations', at('/image')),
  change(image(30), 'add', '/locations/x', at('/image')),
  change(image(30), 'replace', '/locations/0', at('/image')),
  change(image(30), 'replace', '/locations', []),
  by(stranger, change(image(30), 'add', '/locations/-', at('/image'))),
  by(reader, change(image(30), 'add', '/locations/-', at('/image'))),
  change(image(30), 'add', '/locations/-', at('/image', { note: 'one' })),
  get(`/v2/images/${image(30)}`),
  by(reader, get(`/v2/images/${image(30)}`)),
  get(`/v2/images/${image(30)}/file`),
  change(image(30), 'add', '/locations/-', at('/image', { note: 'one' })),
  change(image(30), 'remove', '/locations/0'),
  change(image(30), 'replace', '/locations', []),
  by(member, change(image(30), 'add', '/locations/-', at('/other'))),
  change(image(30), 'remove', '/locations/7'),
  by(member, change(image(30), 'remove', '/locations/0')),
  change(image(30), 'remove', '/locations/0'),
  but("ours does not show the catalog's rows", change(image(30), 'replace', '/locations', [at('/other?9')])),
  change(image(30), 'replace', '/locations', [at('/other')]),
  change(image(30), 'replace', '/locations', [at('/other', { note: 'two' })]),
  get(`/v2/images/${image(30)}`),
  box(image(31)),
  put(image(31), file),
  change(image(31), 'add', '/locations/-', at('/image')),
  get(`/v2/images/${image(31)}`),
  box(image(32)),
  change(image(32), 'replace', '/locations', [at('/image'), at('/other')]),
  but('the same data is no second copy', change(image(32), 'add', '/locations/-', at('/image', { note: 'two' }))),
  but('there is no such place', change(image(32), 'add', '/locations/9', at('/other?9'))),
  but('Glance forgets the order', change(image(32), 'add', '/locations/0', at('/other?9'))),
  but('Glance forgets the order', get(`/v2/images/${image(32)}`)),
  box(image(33)),
  change(image(33), 'add', '/locations/-', { ...at('/image'), validation_data: { ...said, os_hash_value: 'xy' } }),
  change(image(33), 'add', '/locations/-', { ...at('/image'), validation_data: { ...said, os_hash_value: 'ab' } }),
  change(image(33), 'replace', '/locations', [
    { ...at('/image'), validation_data: said },
    { ...at('/other'), validation_data: { ...said, os_hash_value: 'c'.repeat(128) } },
  ]),
  change(image(33), 'add', '/locations/-', { ...at('/image'), validation_data: { ...said, os_hash_algo: 'md4' } }),
  change(image(33), 'add', '/locations/-', { ...at('/image'), validation_data: { checksum: 'x' } }),
  but(writeOnly, change(image(33), 'add', '/locations/-', { ...at('/image'), validation_data: said })),
  get(`/v2/images/${image(33)}`),
  but(writeOnly, change(image(33), 'add', '/locations/-', { ...at('/other'), validation_data: said })),
  change(image(33), 'add', '/locations/-', {
    ...at('/other?9'),
    validation_data: { ...said, os_hash_value: '0'.repeat(128) },
  }),
  but('this release does not have it', get(`/v2/images/${image(31)}/locations`)),
  make(image(34)),
  but('this release does not have it', send(`POST /v2/images/${image(34)}/locations`, '{"url": "MIRROR/image"}')),
]

const task = { type: 'import', input: { import_from: 'MIRROR/image', import_from_format: 'raw', image_properties: {} } }
const details: Step[] = [
  but('files are thin, and later releases tell the weight', get('/v2/info/stores/detail')),
  by(member, get('/v2/info/stores/detail')),
  by(stranger, get('/v2/info/stores')),
  { ...send('POST /v2/tasks', JSON.stringify(task)), keeps: 'task' },
  but('Glance fails with several stores', get('/v2/tasks/{task}')),
  by(member, get('/v2/tasks/{task}')),
  by(member, get('/v2/tasks')),
  but('Glance fails with several stores', get('/v2/tasks?type=import&status=success&limit=1')),
  get('/v2/tasks?type=import&status=pending'),
  get('/v2/tasks?type=export'),
  but('Glance has a shorter page for it', { line: 'DELETE /v2/tasks/{task}' }),
  { line: 'PATCH /v2/tasks/{task}', body: '[]', headers: { 'content-type': newPatch } },
  make(image(40)),
  send(
    `POST /v2/images/${image(40)}/import`,
    '{"method": {"name": "web-download", "uri": "MIRROR/image"}, "stores": ["two"]}',
  ),
  but('progress is a number', get(`/v2/images/${image(40)}/tasks`)),
  but('progress is a number', by(reader, get(`/v2/images/${image(40)}/tasks`))),
  by(stranger, get(`/v2/images/${image(40)}/tasks`)),
]

/** All requests, in their order. */
export const operatorsWalk: Readonly<Record<string, Step[]>> = { cache, usage, protectedProperties, locations, details }
