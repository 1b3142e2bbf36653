/** Bodies that have no page under `/v2/schemas`, as the OpenAPI document shows them: what requests bring, and what lists answer. */
import { type TSchema, Type } from '@fastify/type-provider-typebox'
import { memberStatuses } from '../catalog/members.ts'
import type { TaskType } from '../catalog/work.ts'
import { resources } from '../quota/limits.ts'
import { locationBody } from './images/locations.ts'

const texts = Type.Array(Type.String())
const optionalText = Type.Optional(Type.String())
const anything = Type.Object({}, { additionalProperties: true })
const link = Type.Object({ rel: Type.String(), href: Type.String() })

const importMethod = Type.Object(
  {
    name: Type.Union(
      ['glance-direct', 'web-download', 'glance-download', 'copy-image'].map((name) => Type.Literal(name)),
    ),
    uri: Type.Optional(Type.String({ description: 'For web-download' })),
    glance_image_id: Type.Optional(Type.String({ description: 'For glance-download' })),
    glance_region: Type.Optional(Type.String({ description: 'For glance-download' })),
    glance_service_interface: optionalText,
    os_hash_algo: Type.Optional(Type.String({ description: 'With os_hash_value: what the data must be' })),
    os_hash_value: optionalText,
  },
  { additionalProperties: true },
)

const store = {
  id: Type.String(),
  description: optionalText,
  default: Type.Optional(Type.Literal('true')),
  'read-only': Type.Optional(Type.Literal('true')),
}
const imageTask = Type.Object(
  {
    ...{ id: Type.String(), type: Type.String(), status: Type.String(), image_id: Type.String() },
    ...{ owner: Type.Union([Type.String(), Type.Null()]), input: anything, message: Type.String() },
    ...{ created_at: Type.String(), updated_at: Type.String(), expires_at: Type.Union([Type.String(), Type.Null()]) },
    progress: Type.Optional(Type.Union([Type.Number(), Type.Null()])),
  },
  { additionalProperties: true },
)
const usage = Type.Object({ usage: Type.Integer(), limit: Type.Integer() })

/** The kinds of tasks; `/v2/schemas/task` has those of Glance 25.1 alone. */
const taskTypes: readonly TaskType[] = ['import', 'api_image_import', 'location_import', 'catalogue_sync']

/** The documents of `/v2/schemas`, with all kinds of tasks. */
export function withTaskTypes(documents: Readonly<Record<string, object>>): Record<string, object> {
  return JSON.parse(JSON.stringify(documents), (key, value: unknown) =>
    key === 'enum' && Array.isArray(value) && value.includes('api_image_import') ? taskTypes : value,
  )
}

/** By the names of components. */
export const openApiSchemas: Readonly<Record<string, TSchema>> = {
  json_patch: Type.Array(
    Type.Object({
      op: Type.Union(['add', 'replace', 'remove'].map((name) => Type.Literal(name))),
      path: Type.String({ pattern: '^/' }),
      value: Type.Optional(Type.Unknown()),
    }),
  ),
  new_member: Type.Object({ member: Type.String({ minLength: 1, maxLength: 255, description: 'A project' }) }),
  member_status: Type.Object({ status: Type.Union(memberStatuses.map((name) => Type.Literal(name))) }),
  import_request: Type.Object(
    {
      method: importMethod,
      stores: Type.Optional(texts),
      all_stores: Type.Optional(Type.Boolean()),
      all_stores_must_succeed: Type.Optional(Type.Boolean()),
    },
    { additionalProperties: true },
  ),
  task_request: Type.Object({
    type: Type.Literal('import'),
    input: Type.Object(
      { import_from: Type.String(), import_from_format: Type.Unknown(), image_properties: Type.Unknown() },
      { additionalProperties: true },
    ),
  }),
  new_location: locationBody,
  versions: Type.Object({
    versions: Type.Array(Type.Object({ id: Type.String(), status: Type.String(), links: Type.Array(link) })),
  }),
  import_info: Type.Object({
    'import-methods': Type.Object({ description: Type.String(), type: Type.Literal('array'), value: texts }),
  }),
  usage: Type.Object({ usage: Type.Object(Object.fromEntries(resources.map((name) => [name, usage]))) }),
  stores: Type.Object({ stores: Type.Array(Type.Object(store, { additionalProperties: false })) }),
  store_details: Type.Object({
    stores: Type.Array(
      Type.Object(
        { ...store, type: Type.String(), weight: Type.Number(), properties: anything },
        { additionalProperties: false },
      ),
    ),
  }),
  locations: Type.Array(Type.Object({ url: Type.String(), metadata: anything })),
  image_tasks: Type.Object({ tasks: Type.Array(imageTask) }),
  cache: Type.Object({
    cached_images: Type.Array(
      Type.Object({
        ...{ image_id: Type.String(), hits: Type.Integer(), size: Type.Integer() },
        ...{ last_accessed: Type.Number(), last_modified: Type.Number() },
      }),
    ),
    queued_images: texts,
  }),
  cache_nodes: Type.Object({ cached_nodes: texts }),
  pruned: Type.Object({ total_files_pruned: Type.Integer(), total_bytes_pruned: Type.Integer() }),
  resource_type_associations: Type.Object({
    resource_type_associations: Type.Array(Type.Object({ name: Type.String() }, { additionalProperties: true })),
  }),
  document: anything,
}

/** Components of the Identity API, which are what Keystone calls them. */
const one = (name: string) =>
  Type.Object({ [name]: Type.Object({ id: Type.String() }, { additionalProperties: true }) })
const many = (name: string, item: TSchema = anything) =>
  Type.Object({ [name]: Type.Array(item), links: anything }, { additionalProperties: true })
const kinds = ['user', 'project', 'role', 'domain', 'service', 'endpoint', 'region', 'group', 'application_credential']

export const identitySchemas: Readonly<Record<string, TSchema>> = {
  ...Object.fromEntries(
    kinds.flatMap((kind) => [
      [`identity_${kind}`, one(kind)],
      [`identity_${kind}s`, many(`${kind}s`, Type.Object({ id: Type.String() }, { additionalProperties: true }))],
    ]),
  ),
  identity_version: Type.Object({ version: Type.Object({ id: Type.String() }, { additionalProperties: true }) }),
  identity_versions: Type.Object({ versions: anything }),
  identity_token: Type.Object({
    token: Type.Object(
      { methods: texts, user: anything, issued_at: Type.String(), expires_at: Type.String() },
      { additionalProperties: true },
    ),
  }),
  identity_catalog: Type.Object({ catalog: Type.Array(anything) }, { additionalProperties: true }),
  identity_system: Type.Object({ system: Type.Array(anything) }, { additionalProperties: true }),
  identity_role_assignments: many('role_assignments'),
}
