/** The JSON schemas of the metadata definitions: requests are checked against them, and clients fetch them from `/v2/schemas/metadefs`. */
import { type TSchema, Type } from '@fastify/type-provider-typebox'

const mostNameLength = 80

const text = (facts: { maxLength?: number; description?: string; format?: 'regex' } = {}) => Type.String(facts)
const time = (description: string) => Type.String({ readOnly: true, description, format: 'date-time' })
const shown = Type.String({ readOnly: true })
const reference = (name: string) => Type.Unsafe<unknown>({ $ref: `#/definitions/${name}` })
/** Attributes of which none has to be there, without the `required` of TypeBox. */
const attributes = (properties: Record<string, TSchema>) => Type.Unsafe<object>({ type: 'object', properties })
const typeName = Type.Unsafe<string | null>({
  type: 'string',
  enum: ['array', 'boolean', 'integer', 'number', 'object', 'string', null],
})

/** What a property's definition may say. */
const propertyAttributes = {
  name: text({ maxLength: mostNameLength }),
  title: text(),
  description: text(),
  operators: Type.Array(text()),
  type: typeName,
  required: reference('stringArray'),
  minimum: Type.Number(),
  maximum: Type.Number(),
  maxLength: reference('positiveInteger'),
  minLength: reference('positiveIntegerDefault0'),
  pattern: text({ format: 'regex' }),
  enum: Type.Unsafe<unknown[]>({ type: 'array' }),
  readonly: Type.Boolean(),
  default: Type.Unsafe<unknown>({}),
  items: attributes({ type: typeName, enum: Type.Unsafe<unknown[]>({ type: 'array' }) }),
  maxItems: reference('positiveInteger'),
  minItems: reference('positiveIntegerDefault0'),
  uniqueItems: Type.Boolean({ default: false }),
  additionalItems: Type.Boolean(),
}

const numbers = {
  positiveInteger: Type.Integer({ minimum: 0 }),
  positiveIntegerDefault0: { allOf: [reference('positiveInteger'), { default: 0 }] },
}

const definitions = {
  ...numbers,
  stringArray: Type.Array(text(), { uniqueItems: true }),
  property: {
    type: 'object',
    additionalProperties: { type: 'object', required: ['title', 'type'], properties: propertyAttributes },
  },
}

interface SchemaDocument {
  name: string
  properties: Record<string, unknown>
  additionalProperties: false
  required?: string[]
  definitions?: Record<string, unknown>
}

const namespace: SchemaDocument = {
  name: 'namespace',
  properties: {
    namespace: text({ description: 'The unique namespace text.', maxLength: mostNameLength }),
    display_name: text({
      description: 'The user friendly name for the namespace. Used by UI if available.',
      maxLength: mostNameLength,
    }),
    description: text({ description: 'Provides a user friendly description of the namespace.', maxLength: 500 }),
    visibility: Type.Unsafe<string>({
      type: 'string',
      description: 'Scope of namespace accessibility.',
      enum: ['public', 'private'],
    }),
    protected: Type.Boolean({ description: 'If true, namespace will not be deletable.' }),
    owner: text({ description: 'Owner of the namespace.', maxLength: 255 }),
    created_at: time('Date and time of namespace creation'),
    updated_at: time('Date and time of the last namespace modification'),
    schema: shown,
    self: shown,
    resource_type_associations: Type.Array(attributes({ name: text(), prefix: text(), properties_target: text() })),
    properties: reference('property'),
    objects: Type.Array(
      attributes({
        name: text(),
        description: text(),
        required: reference('stringArray'),
        properties: reference('property'),
      }),
    ),
    tags: Type.Array(attributes({ name: text() })),
  },
  additionalProperties: false,
  required: ['namespace'],
  definitions,
}

const object: SchemaDocument = {
  name: 'object',
  properties: {
    name: text({ maxLength: mostNameLength }),
    description: text(),
    required: reference('stringArray'),
    properties: reference('property'),
    schema: shown,
    self: shown,
    created_at: time('Date and time of object creation'),
    updated_at: time('Date and time of the last object modification'),
  },
  additionalProperties: false,
  required: ['name'],
  definitions,
}

const property: SchemaDocument = {
  name: 'property',
  properties: propertyAttributes,
  additionalProperties: false,
  required: ['type', 'title', 'name'],
  definitions: { ...numbers, stringArray: Type.Array(text(), { minItems: 1, uniqueItems: true }) },
}

/** In a collection the name stands outside. */
const namelessProperty: SchemaDocument = { ...property, required: ['type', 'title'] }

const tag: SchemaDocument = {
  name: 'tag',
  properties: {
    name: text({ maxLength: mostNameLength }),
    created_at: time('Date and time of tag creation'),
    updated_at: time('Date and time of the last tag modification'),
  },
  additionalProperties: false,
  required: ['name'],
}

const association: SchemaDocument = {
  name: 'resource_type_association',
  properties: {
    name: text({
      description:
        'Resource type names should be aligned with Heat resource types whenever possible: https://docs.openstack.org/heat/latest/template_guide/openstack.html',
      maxLength: mostNameLength,
    }),
    prefix: text({
      description:
        'Specifies the prefix to use for the given resource type. Any properties in the namespace should be prefixed with this prefix when being applied to the specified resource type. Must include prefix separator (e.g. a colon :).',
      maxLength: mostNameLength,
    }),
    properties_target: text({
      description:
        'Some resource types allow more than one key / value pair per instance.  For example, Cinder allows user and image metadata on volumes. Only the image properties metadata is evaluated by Nova (scheduling or drivers). This property allows a namespace target to remove the ambiguity.',
      maxLength: mostNameLength,
    }),
    created_at: time('Date and time of resource type association'),
    updated_at: time('Date and time of the last resource type association modification'),
  },
  additionalProperties: false,
  required: ['name'],
}

/** Only requests have this one: `POST …/tags`. */
const tagList: SchemaDocument = {
  name: 'tags',
  properties: {
    tags: Type.Array(Type.Object({ name: text() }, { additionalProperties: false })),
  },
  additionalProperties: false,
}

function collection(name: string, { definitions: shared, ...item }: SchemaDocument, kind: 'list' | 'names'): object {
  const pages = { first: Type.String(), next: Type.String(), schema: Type.String() }
  const items = kind === 'list' ? { type: 'array', items: item } : { type: 'object', additionalProperties: item }
  const links = [
    { rel: 'first', href: '{first}' },
    { rel: 'next', href: '{next}' },
    { rel: 'describedby', href: '{schema}' },
  ]
  const more = shared === undefined ? {} : { definitions: shared }
  return { name, properties: { [name]: items, ...pages }, links, ...more }
}

/** What requests are checked against. */
export const requestSchemas = { namespace, object, property, namelessProperty, tag, association, tagList }

/** The documents under `/v2/schemas/metadefs`, by name. */
export const metadefDocuments: Readonly<Record<string, object>> = {
  namespace,
  namespaces: collection('namespaces', namespace, 'list'),
  object,
  objects: collection('objects', object, 'list'),
  property,
  properties: collection('properties', namelessProperty, 'names'),
  tag,
  tags: collection('tags', tag, 'list'),
  resource_type: association,
  resource_types: collection('resource_type_associations', association, 'list'),
}
