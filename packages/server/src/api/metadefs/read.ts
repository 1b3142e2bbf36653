/** Reads the bodies of requests about metadata definitions. */
import type { TSchema } from '@fastify/type-provider-typebox'
import { Compile } from 'typebox/compile'
import type { Json, JsonObject } from '../../catalog/json.ts'
import type { NamespaceFacts, NewPart } from '../../catalog/metadefs.ts'
import { HttpError } from '../http-error.ts'
import { checkMatch } from '../images/match.ts'
import { readBody } from '../routes.ts'
import { requestSchemas } from './documents.ts'

const mostNameLength = 80

const validators = Object.fromEntries(
  Object.entries(requestSchemas).map(([kind, schema]) => [
    kind,
    { name: schema.name, check: Compile(withoutFormats(schema) as TSchema) },
  ]),
)

/** Patterns are in the regular expressions of whoever will use them, which need not be those of this program. */
function withoutFormats(schema: unknown): unknown {
  return JSON.parse(JSON.stringify(schema, (name, value) => (name === 'format' ? undefined : value)))
}

/** A body that passed its schema. @param readOnly Names that only the service sets. @throws HttpError 400 or 403. */
function readDocument(body: unknown, kind: keyof typeof requestSchemas, readOnly: readonly string[]): JsonObject {
  const document = readBody(body) as JsonObject
  if (Array.isArray(document)) throw new HttpError(400, 'The request body must be a JSON object.')
  for (const name of readOnly) {
    if (Object.hasOwn(document, name)) throw new HttpError(403, `Attribute '${name}' is read-only.`)
  }
  check(kind, document)
  return document
}

function check(kind: keyof typeof requestSchemas, value: unknown): void {
  const { name, check: validator } = validators[kind] as (typeof validators)[string]
  checkMatch(validator, name, value)
}

const times = ['created_at', 'updated_at']
const links = ['self', 'schema']

/** A namespace as it is asked for. */
export interface NamespaceRequest {
  facts: NamespaceFacts
  parts: NewPart[]
  /** The parts, as the answer repeats them. */
  shown: JsonObject
}

/** @throws HttpError 400 or 403. */
export function readNamespace(body: unknown): NamespaceRequest {
  const document = readDocument(body, 'namespace', [...links, ...times])
  const { namespace, display_name, description, visibility, protected: isProtected, owner } = document
  const facts: NamespaceFacts = {
    name: checkName(namespace, 'namespace'),
    displayName: (display_name as string | undefined) ?? null,
    description: (description as string | undefined) ?? null,
    visibility: visibility === 'public' ? 'public' : 'private',
    protected: isProtected === true,
    owner: (owner as string | undefined) ?? null,
  }
  const parts: NewPart[] = []
  const shown: JsonObject = {}
  const list = (key: string, read: (raw: JsonObject) => NewPart) => {
    if (document[key] === undefined) return
    const made = (document[key] as JsonObject[]).map(read)
    parts.push(...made)
    shown[key] = made.map(({ name, definition }) => ({ name, ...definition }))
  }
  list('resource_type_associations', (raw) => associationOf(only(raw, associationKeys, times)))
  list('objects', (raw) => objectOf(only(raw, objectKeys, [...links, ...times])))
  list('tags', (raw) => tagOf(only(raw, ['name'], times)))
  if (document.properties !== undefined) {
    const properties = readProperties(document.properties as JsonObject)
    shown.properties = properties
    for (const [name, definition] of Object.entries(properties)) {
      parts.push({ kind: 'properties', name: checkName(name, 'property'), definition: definition as JsonObject })
    }
  }
  return { facts, parts, shown }
}

/** @param isNew Then the properties are held to all rules of single ones. @throws HttpError 400 or 403. */
export function readObject(body: unknown, isNew: boolean): NewPart {
  const document = readDocument(body, 'object', [...links, ...times])
  if (isNew) for (const schema of Object.values(document.properties ?? {})) check('namelessProperty', schema)
  return objectOf(document)
}

/** @throws HttpError 400 or 403. */
export function readProperty(body: unknown): NewPart {
  const definition = propertyOf(readDocument(body, 'property', times))
  return { kind: 'properties', name: checkName(definition.name, 'property'), definition }
}

/** @throws HttpError 400 or 403. */
export function readAssociation(body: unknown): NewPart {
  return associationOf(readDocument(body, 'association', times))
}

/** @throws HttpError 400 or 403. */
export function readTag(body: unknown): NewPart {
  return tagOf(readDocument(body, 'tag', times))
}

/** @throws HttpError 400 or 403. */
export function readTags(body: unknown): NewPart[] {
  const { tags } = readDocument(body, 'tagList', times)
  if (tags === undefined) throw new HttpError(400, "Provided object does not match schema 'tags': tags is required")
  return (tags as JsonObject[]).map(tagOf)
}

/** A tag that is named in the path. @throws HttpError 400. */
export function namedTag(name: string): NewPart {
  check('tag', { name })
  return tagOf({ name })
}

const associationKeys = ['name', 'prefix', 'properties_target']
const objectKeys = ['name', 'required', 'description', 'properties']

function associationOf({ name, ...rest }: JsonObject): NewPart {
  for (const value of Object.values(rest)) checkLength(value as string)
  return { kind: 'resource_types', name: checkName(name, 'resource type'), definition: rest }
}

function objectOf({ name, properties, ...rest }: JsonObject): NewPart {
  const definition = properties === undefined ? rest : { ...rest, properties: readProperties(properties as JsonObject) }
  return { kind: 'objects', name: checkName(name, 'object'), definition }
}

function tagOf({ name }: JsonObject): NewPart {
  return { kind: 'tags', name: checkName(name, 'tag'), definition: {} }
}

function readProperties(properties: JsonObject): JsonObject {
  // `fromEntries`: a property may have any name, `__proto__` too.
  return Object.fromEntries(Object.entries(properties).map(([name, raw]) => [name, propertyOf(raw as JsonObject)]))
}

const truncated = (value: Json) => Math.trunc(value as number)
const asItIs = (value: Json) => value

/** The attributes of a property in the order in which they are shown, and what becomes of their values, which have passed the schema. */
const propertyAttributes: Readonly<Record<string, (value: Json) => Json>> = {
  name: asItIs,
  type: asItIs,
  title: asItIs,
  description: asItIs,
  operators: asItIs,
  default: defaultText,
  readonly: asItIs,
  minimum: truncated,
  maximum: truncated,
  enum: (value) => texts(value, 'enum'),
  pattern: asItIs,
  minLength: asItIs,
  maxLength: asItIs,
  confidential: (value) => {
    if (typeof value === 'boolean') return value
    throw new HttpError(400, "Invalid value for 'confidential' of a property: it must be true or false.")
  },
  items: (value) => {
    const { type, enum: values } = only(value as JsonObject, ['type', 'enum'])
    if (type === undefined) throw new HttpError(400, "The 'items' of a property must have a 'type'.")
    return values === undefined ? { type } : { type, enum: texts(values, 'enum') }
  },
  uniqueItems: asItIs,
  minItems: asItIs,
  maxItems: asItIs,
  additionalItems: asItIs,
}

function propertyOf(raw: JsonObject): JsonObject {
  const given = only(raw, Object.keys(propertyAttributes))
  return Object.fromEntries(
    Object.entries(propertyAttributes).flatMap(([name, keep]) => {
      const value = given[name]
      return value === undefined ? [] : [[name, keep(value)]]
    }),
  )
}

/** Defaults are text whatever the property's type is; Glance's are written as Python writes values, and lists and objects get lost. */
function defaultText(value: Json): Json {
  if (typeof value === 'boolean') return value ? 'True' : 'False'
  if (typeof value === 'number') return String(value)
  return typeof value === 'string' ? value : null
}

function texts(value: Json, name: string): Json {
  if ((value as Json[]).every((item) => typeof item === 'string')) return value
  throw new HttpError(400, `The '${name}' of a property must be a list of texts.`)
}

/** Only these names; those of `dropped` may be there, and are not kept. @throws HttpError 400 for any other. */
function only(raw: JsonObject, names: readonly string[], dropped: readonly string[] = []): JsonObject {
  const kept = Object.entries(raw).filter(([name]) => !dropped.includes(name))
  for (const [name] of kept) if (!names.includes(name)) throw new HttpError(400, `Unknown attribute: ${name}`)
  return Object.fromEntries(kept)
}

/** Names are parts of paths: an empty one could be made, and never be asked for. */
function checkName(name: Json | undefined, what: string): string {
  if (typeof name !== 'string' || name === '') throw new HttpError(400, `The name of a ${what} must not be empty.`)
  checkLength(name)
  return name
}

function checkLength(text: string): void {
  if ([...text].length <= mostNameLength) return
  throw new HttpError(400, `Names of metadata definitions must not be longer than ${mostNameLength} characters.`)
}
