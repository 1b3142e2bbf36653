/** What a real Glance with several stores and ours are both asked about staging, imports, stores and tasks, in this order. `MIRROR` is a web server. */
import { a, b, but, c, create, d, e, get, nowhere, octets, put, type Step, send } from './glance-request.ts'

const make = (id: string, more = {}) => create({ id, disk_format: 'raw', container_format: 'bare', ...more })
const stage = (id: string, body = 'staged data', headers = octets): Step =>
  send(`PUT /v2/images/${id}/stage`, body, headers)
const load = (id: string, body: unknown, headers?: Record<string, string>): Step =>
  send(`POST /v2/images/${id}/import`, JSON.stringify(body), { 'content-type': 'application/json', ...headers })
const direct = { method: { name: 'glance-direct' } }
const copy = { method: { name: 'copy-image' } }
const web = (uri: unknown) => ({ method: { name: 'web-download', uri } })
const show = (id: string) => get(`/v2/images/${id}`)

const offers: Step[] = [get('/v2/info/import'), get('/v2/info/stores'), { line: 'POST /v2/info/stores' }, make(a)]

const staging: Step[] = [
  stage(nowhere),
  stage(a, 'x', { 'content-type': 'text/plain' }),
  load(a, direct),
  stage(a),
  show(a),
  get(`/v2/images/${a}/file`),
  stage(a, 'again'),
  put(a, 'data'),
  load(a, copy),
  load(a, web('MIRROR/image')),
  { line: `GET /v2/images/${a}/stage` },
  load(a, direct),
  show(a),
  get(`/v2/images/${a}/file`),
  load(a, direct),
  stage(a, 'x'),
  create({ id: b }),
  stage(b),
  load(b, direct),
  { line: `DELETE /v2/images/${b}` },
]

const requests: Step[] = [
  make(c),
  but('Glance fails with 500', send(`POST /v2/images/${c}/import`, '[]')),
  ...['', '{', '{}', '{"method": {}}', '{"method": {"name": "magic"}}', '{"method": {"name": 5}}'].map((body) =>
    send(`POST /v2/images/${c}/import`, body),
  ),
  load(c, { ...direct, all_stores: 1 }),
  load(c, { ...direct, all_stores_must_succeed: 'no' }),
  load(nowhere, direct),
  but('ours says why', load(c, web('file:///etc/passwd'))),
  but('ours says why', load(c, web('http://169.254.169.254/'))),
  load(c, web('MIRROR/nothing')),
  show(c),
  load(c, { ...web('MIRROR/image'), stores: ['nine'] }),
  load(c, { ...web('MIRROR/image'), stores: ['one'], all_stores: true }),
  load(c, { ...web('MIRROR/image'), stores: ['one'] }, { 'x-image-meta-store': 'one' }),
  { line: `GET /v2/images/${c}/import` },
]

const stores: Step[] = [
  load(c, { ...web('MIRROR/image'), stores: ['two'] }),
  show(c),
  { line: `DELETE /v2/stores/two/${c}` },
  load(c, { ...copy, stores: ['two'] }),
  load(c, { ...copy, stores: ['one'] }),
  show(c),
  load(c, { ...copy, all_stores: true }),
  { line: `DELETE /v2/stores/nine/${c}` },
  { line: `DELETE /v2/stores/one/${nowhere}` },
  { line: `DELETE /v2/stores/two/${c}` },
  { line: `DELETE /v2/stores/two/${c}` },
  { line: `GET /v2/stores/two/${c}` },
  show(c),
  make(d),
  put(d, 'data', { ...octets, 'x-image-meta-store': 'nine' }),
  put(d, 'data', { ...octets, 'x-image-meta-store': 'web' }),
  put(d, 'data', { ...octets, 'x-image-meta-store': 'two' }),
  show(d),
  make(e),
  load(e, { ...web('MIRROR/image'), all_stores: true }),
  show(e),
]

const task = { type: 'import', input: { import_from: 'MIRROR/image', import_from_format: 'raw', image_properties: {} } }
const tasks: Step[] = [
  get(`/v2/images/${nowhere}/tasks`),
  { line: `POST /v2/images/${c}/tasks` },
  get(`/v2/tasks/${nowhere}`),
  but('Glance has a shorter page for it', { line: `DELETE /v2/tasks/${nowhere}` }),
  get('/v2/tasks?limit=0'),
  ...['limit=x', 'limit=-1', 'marker=x', 'status=x', 'type=x', 'sort_dir=x', 'sort_key=x', `marker=${nowhere}`].map(
    (query) => get(`/v2/tasks?${query}`),
  ),
  ...['', '{}', '{"type": "import"}', '{"type": "other", "input": {}}'].map((body) => send('POST /v2/tasks', body)),
  send('POST /v2/tasks', JSON.stringify({ ...task, input: { ...task.input, import_from: 'file:///etc/passwd' } })),
  { line: 'PUT /v2/tasks' },
]

/** All requests, in their order. */
export const importWalk: Readonly<Record<string, Step[]>> = { offers, staging, requests, stores, tasks }
