/** Metadata definitions as the API shows them. What is not set is left out. */
import type { JsonObject } from '../../catalog/json.ts'
import type { Namespace, Part, PartKind } from '../../catalog/metadefs.ts'
import { isoTime } from '../images/image-document.ts'

interface Times {
  createdAt: number
  updatedAt: number
}

const timesOf = ({ createdAt, updatedAt }: Times) => ({
  created_at: isoTime(createdAt),
  updated_at: isoTime(updatedAt),
})

/** Where a namespace is found. */
export function namespacePath(name: string): string {
  return `/v2/metadefs/namespaces/${name}`
}

/** The namespace alone. */
export function namespaceDocument(namespace: Namespace): JsonObject {
  const { name, displayName, description, owner } = namespace
  return {
    namespace: name,
    ...(displayName === null ? {} : { display_name: displayName }),
    ...(description === null ? {} : { description }),
    visibility: namespace.visibility,
    protected: namespace.protected,
    ...(owner === null ? {} : { owner }),
    ...timesOf(namespace),
    self: namespacePath(name),
    schema: '/v2/schemas/metadefs/namespace',
  }
}

/** What is in a namespace, as it is shown with it. @param prefix Put before the names of all properties. */
export function contentsDocument(namespace: string, parts: readonly Part[], prefix: string): JsonObject {
  const all = (kind: PartKind) => parts.filter((part) => part.kind === kind)
  const associations = all('resource_types').map(associationDocument)
  const objects = all('objects').map((part) => prefixed(objectDocument(namespace, part), prefix))
  const properties = all('properties')
  // The newest first, as in the list of tags.
  const tags = all('tags').reverse()
  return {
    ...(associations.length === 0 ? {} : { resource_type_associations: associations }),
    ...(properties.length === 0 ? {} : { properties: propertiesDocument(properties, prefix) }),
    ...(objects.length === 0 ? {} : { objects }),
    ...(tags.length === 0 ? {} : { tags: tags.map(({ name }) => ({ name })) }),
  }
}

function prefixed(object: JsonObject, prefix: string): JsonObject {
  const properties = Object.entries(object.properties as JsonObject).map(([name, schema]) => [prefix + name, schema])
  const required = (object.required as string[]).map((name) => prefix + name)
  return { ...object, required, properties: Object.fromEntries(properties) }
}

/** An object, with a list of required names and properties even when it has none. */
export function objectDocument(namespace: string, part: Part): JsonObject {
  return createdObjectDocument(namespace, { ...part, definition: { required: [], properties: {}, ...part.definition } })
}

/** An object as the answer to its creation or change shows it: only with what was given. */
export function createdObjectDocument(namespace: string, part: Part): JsonObject {
  return {
    name: part.name,
    ...part.definition,
    ...timesOf(part),
    self: `${namespacePath(namespace)}/objects/${part.name}`,
    schema: '/v2/schemas/metadefs/object',
  }
}

export function propertiesDocument(parts: readonly Part[], prefix = ''): JsonObject {
  return Object.fromEntries(parts.map(({ name, definition }) => [prefix + name, definition]))
}

export function propertyDocument({ name, definition }: Part): JsonObject {
  return { ...definition, name }
}

export function tagDocument(part: Part): JsonObject {
  return { name: part.name, ...timesOf(part) }
}

export function associationDocument(part: Part): JsonObject {
  return { name: part.name, ...part.definition, ...timesOf(part) }
}

export function resourceTypeDocument(type: Times & { name: string }): JsonObject {
  return { name: type.name, ...timesOf(type) }
}
