/** A sentence for each route, with what it takes and answers: what the OpenAPI document cannot read from the routes themselves. */

export interface Described {
  summary: string
  tag: string
  /** Parameters of the query. */
  query?: readonly string[]
  /** What the request brings: a media type, or a schema as in `#image`. */
  body?: string
  /** Nobody needs a token. */
  open?: true
  /** Successful answers: a media type or a schema by status; empty: no body. */
  answers: Readonly<Record<string, string>>
}

const bytes = 'application/octet-stream'
const text = 'text/plain'
const open = { open: true } as const
const done = { 204: '' }

type More = Partial<Pick<Described, 'query' | 'body' | 'open'>>

/** What belongs together in the document. */
export const about =
  (tag: string) =>
  (summary: string, answers: Described['answers'], more: More = {}): Described => ({ summary, tag, answers, ...more })

const service = about('Service')
const images = about('Images')
const data = about('Image data')
const members = about('Members')
const stores = about('Stores and locations')
const tasks = about('Imports and tasks')
const cache = about('Cache')
const metadefs = about('Metadata definitions')

const imageFilters = [
  ...['limit', 'marker', 'sort', 'sort_key', 'sort_dir', 'name', 'id', 'status', 'visibility', 'member_status'],
  ...['owner', 'tag', 'disk_format', 'container_format', 'protected', 'os_hidden', 'checksum', 'os_hash_value'],
  ...['size_min', 'size_max', 'min_ram', 'min_disk', 'created_at', 'updated_at'],
]
const paging = ['limit', 'marker', 'sort_key', 'sort_dir']
const image = '/v2/images/:image_id'
const spaces = '/v2/metadefs/namespaces'
const space = `${spaces}/:namespace`

/** What each kind of part of a namespace can do. */
function parts(kind: 'object' | 'property' | 'tag', plural: string): Record<string, Described> {
  const one = `#metadef_${kind}`
  return {
    [`POST ${space}/${plural}`]: metadefs(
      kind === 'tag' ? 'Add tags, in the place of those there are unless X-Openstack-Append says otherwise' : `Add one`,
      { 201: kind === 'tag' ? '#metadef_tags' : one },
      { body: kind === 'tag' ? '#metadef_tags' : one },
    ),
    [`GET ${space}/${plural}`]: metadefs(
      `List the ${plural} of a namespace`,
      { 200: `#metadef_${plural}` },
      { query: paging },
    ),
    [`DELETE ${space}/${plural}`]: metadefs(`Delete all ${plural} of a namespace`, done),
    [`GET ${space}/${plural}/:name`]: metadefs('Show one', { 200: one }),
    [`PUT ${space}/${plural}/:name`]: metadefs('Replace one, or give it another name', { 200: one }, { body: one }),
    [`DELETE ${space}/${plural}/:name`]: metadefs('Delete one', done),
  }
}

/** By method and path. */
export const described: Readonly<Record<string, Described>> = {
  'GET /': service('List the versions of the API', { 300: '#versions' }, open),
  'GET /versions': service('List the versions of the API', { 200: '#versions' }, open),
  'GET /openapi.json': service('This document', { 200: '#document' }, open),
  'GET /healthcheck': service('Say whether the service answers', { 200: text }, open),
  'GET /livez': service('Say whether the process lives', { 200: text }, open),
  'GET /readyz': service('Say whether the service takes requests', { 200: text }, open),
  'GET /metrics': service('Measures for Prometheus, to the addresses of metricsFrom', { 200: text }, open),
  'GET /v2/schemas/:name': service('Show a JSON schema', { 200: '#document' }),
  'GET /v2/info/import': service('List the ways of importing', { 200: '#import_info' }),
  'GET /v2/info/usage': service('Show what the project uses and may use', { 200: '#usage' }),

  'POST /v2/images': images('Create an image, without data', { 201: '#image' }, { body: '#image' }),
  'GET /v2/images': images('List images', { 200: '#images' }, { query: imageFilters }),
  [`GET ${image}`]: images('Show an image', { 200: '#image' }),
  [`PATCH ${image}`]: images('Change an image by a JSON patch', { 200: '#image' }, { body: '#json_patch' }),
  [`DELETE ${image}`]: images('Delete an image and its data', done),
  [`PUT ${image}/tags/:tag_value`]: images('Add a tag', done),
  [`DELETE ${image}/tags/:tag_value`]: images('Take a tag away', done),
  [`POST ${image}/actions/deactivate`]: images('Forbid downloads', done),
  [`POST ${image}/actions/reactivate`]: images('Allow downloads again', done),

  [`POST ${image}/members`]: members('Share an image with a project', { 200: '#member' }, { body: '#new_member' }),
  [`GET ${image}/members`]: members('List the projects that an image is shared with', { 200: '#members' }),
  [`GET ${image}/members/:member_id`]: members('Show one of them', { 200: '#member' }),
  [`PUT ${image}/members/:member_id`]: members(
    'Accept or reject an image',
    { 200: '#member' },
    { body: '#member_status' },
  ),
  [`DELETE ${image}/members/:member_id`]: members('End sharing with a project', done),

  [`PUT ${image}/file`]: data('Upload the data of an image', done, { body: bytes }),
  [`GET ${image}/file`]: data(
    'Download the data, or a range of it',
    { 200: bytes, 206: bytes, 204: '', 304: '' },
    { query: ['prefer'] },
  ),
  [`HEAD ${image}/file`]: data('What a download would say', { 200: '', 204: '' }),
  [`PUT ${image}/stage`]: data('Upload data that waits to be imported', done, { body: bytes }),
  [`GET ${image}/export`]: data(
    'Download the image converted to another format; options of the format are parameters too',
    { 200: bytes, 206: bytes },
    { query: ['format', 'compress'] },
  ),
  [`OPTIONS ${image}/tus`]: data('What of the tus protocol there is', done),
  [`POST ${image}/tus`]: data('Begin an upload in parts (tus 1.0.0)', { 201: '' }),
  [`HEAD ${image}/tus`]: data('How far the upload is', { 200: '' }),
  [`PATCH ${image}/tus`]: data('Bring a part', done, { body: 'application/offset+octet-stream' }),
  [`DELETE ${image}/tus`]: data('Take the upload back', done),

  [`POST ${image}/import`]: tasks(
    'Import data: staged, from the web, from another store or service',
    { 202: '' },
    { body: '#import_request' },
  ),
  [`GET ${image}/tasks`]: tasks('List the tasks of an image', { 200: '#image_tasks' }),
  'POST /v2/tasks': tasks('Create a task (the old way of importing)', { 201: '#task' }, { body: '#task_request' }),
  'GET /v2/tasks': tasks('List tasks', { 200: '#tasks' }, { query: [...paging, 'type', 'status'] }),
  'GET /v2/tasks/:task_id': tasks('Show a task', { 200: '#task' }),
  'DELETE /v2/tasks/:task_id': tasks('Delete a task (nobody may, as in Glance)', done),

  'GET /v2/info/stores': stores('List the stores', { 200: '#stores' }),
  'GET /v2/info/stores/detail': stores('List the stores with what operators know of them', { 200: '#store_details' }),
  'DELETE /v2/stores/:store_id/:image_id': stores('Delete the copy of an image in one store', done),
  [`POST ${image}/locations`]: stores('Say where the data of an image lies', { 202: '' }, { body: '#new_location' }),
  [`GET ${image}/locations`]: stores('Where the data of an image lies, for services', { 200: '#locations' }),

  'GET /v2/cache': cache('What is in the cache of this machine, and what is to come', { 200: '#cache' }),
  'DELETE /v2/cache': cache('Empty the cache, its queue, or both', done),
  'GET /v2/cache/nodes/:image_id': cache('Say where there is a copy of an image', { 200: '#cache_nodes' }),
  'POST /v2/cache/clean': cache('Remove copies that cannot be used', { 200: '' }),
  'POST /v2/cache/prune': cache('Bring the cache under its size limit', { 200: '#pruned' }),
  'PUT /v2/cache/:image_id': cache('Ask for a copy of an image', { 202: '' }),
  'DELETE /v2/cache/:image_id': cache('Remove the copy of an image', done),

  'GET /v2/schemas/metadefs/:name': metadefs('Show a JSON schema', { 200: '#document' }),
  [`POST ${spaces}`]: metadefs(
    'Create a namespace, with its parts',
    { 201: '#metadef_namespace' },
    { body: '#metadef_namespace' },
  ),
  [`GET ${spaces}`]: metadefs(
    'List namespaces',
    { 200: '#metadef_namespaces' },
    { query: [...paging, 'visibility', 'resource_types'] },
  ),
  [`GET ${space}`]: metadefs('Show a namespace', { 200: '#metadef_namespace' }, { query: ['resource_type'] }),
  [`PUT ${space}`]: metadefs(
    'Replace what is said of a namespace',
    { 200: '#metadef_namespace' },
    { body: '#metadef_namespace' },
  ),
  [`DELETE ${space}`]: metadefs('Delete a namespace and all in it', done),
  ...parts('object', 'objects'),
  ...parts('property', 'properties'),
  ...parts('tag', 'tags'),
  [`POST ${space}/tags/:name`]: metadefs('Make a tag', { 201: '#metadef_tag' }),
  'GET /v2/metadefs/resource_types': metadefs('List all resource types', { 200: '#metadef_resource_types' }),
  [`GET ${space}/resource_types`]: metadefs('List the resource types of a namespace', {
    200: '#resource_type_associations',
  }),
  [`POST ${space}/resource_types`]: metadefs(
    'Say that a namespace is for a resource type',
    { 201: '#metadef_resource_type' },
    { body: '#metadef_resource_type' },
  ),
  [`DELETE ${space}/resource_types/:name`]: metadefs('End that', done),
}
