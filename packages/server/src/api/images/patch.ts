/** JSON patches of images: both media types of the API, read and applied. */
import type { Image } from '../../catalog/image.ts'
import type { PropertyOperation } from '../../policy/protections.ts'
import type { Service } from '../../service.ts'
import { HttpError } from '../http-error.ts'
import { attributeChange, checkPropertyName, isAttribute, refuseReserved } from './attributes.ts'
import { type ApplyLocations, readLocationChange } from './patch-locations.ts'

const operations = ['add', 'remove', 'replace'] as const
type Operation = (typeof operations)[number]

/** The media types, and which draft of JSON patch each one is: 4 has `{"add": "/x", "value": …}`, 10 has `{"op": "add", "path": "/x", "value": …}`. */
export const patchTypes: Readonly<Record<string, 4 | 10>> = {
  'application/openstack-images-v2.0-json-patch': 4,
  'application/openstack-images-v2.1-json-patch': 10,
}

/** What a patch is checked against. */
type PatchRules = Pick<Service, 'schemas'> & { config: Pick<Service['config'], 'showLocations'> }

/** Whether the caller may do something with a property. */
export type Permits = (operation: PropertyOperation, name: string) => boolean

/** One step of a patch; `name` is the attribute or property that it is about. */
export interface Change {
  operation: Operation
  name: string
  value: unknown
  draft: 4 | 10
}

/** Reads a patch and checks all that can be checked without the image. @throws HttpError 400 or 403. */
export function readPatch(body: unknown, draft: 4 | 10, rules: PatchRules): Change[] {
  if (!Array.isArray(body)) throw new HttpError(400, 'Request body must be a JSON array of operation objects.')
  return body.map((raw: unknown) => {
    if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) {
      throw new HttpError(400, 'Operations must be JSON objects.')
    }
    return readChange(raw as Record<string, unknown>, draft, rules)
  })
}

function readChange(raw: Record<string, unknown>, draft: 4 | 10, { schemas, config }: PatchRules): Change {
  const operation = draft === 10 ? readOperation(raw) : readMember(raw)
  const pointer = draft === 10 ? raw.path : raw[operation]
  if (pointer === undefined) throw new HttpError(400, "Unable to find 'path' in JSON Schema change")
  const path = readPointer(pointer)
  const [name = ''] = path
  if (name === 'locations' && config.showLocations) {
    return { operation, name, value: readLocationChange(operation, path, raw.value, schemas), draft }
  }
  if (name === 'locations') {
    const verb = { add: 'add', remove: 'remove', replace: 'replace' }[operation]
    throw new HttpError(403, `It's not allowed to ${verb} locations if locations are invisible.`)
  }
  if (path.length !== 1) throw new HttpError(400, `Invalid JSON pointer for this resource: '/${path.join('/')}'`)
  if (operation !== 'remove' && !Object.hasOwn(raw, 'value')) {
    throw new HttpError(400, `Operation "${operation}" requires a member named "value".`)
  }
  if (name === 'id') throw new HttpError(403, `Attribute 'id' is read-only.`)
  refuseReserved(name)
  if (operation !== 'remove') {
    checkPropertyName(name)
    schemas.check(Object.fromEntries([[name, raw.value]]))
  }
  return { operation, name, value: raw.value, draft }
}

function readOperation(raw: Record<string, unknown>): Operation {
  const available = `It must be one of the following: ${operations.join(', ')}.`
  if (raw.op === undefined || raw.op === null) {
    throw new HttpError(400, `Unable to find \`op\` in JSON Schema change. ${available}`)
  }
  const operation = operations.find((name) => name === raw.op)
  if (operation === undefined) throw new HttpError(400, `Invalid operation: \`${String(raw.op)}\`. ${available}`)
  return operation
}

function readMember(raw: Record<string, unknown>): Operation {
  const [first, second] = operations.filter((name) => Object.hasOwn(raw, name))
  const names = 'named "add", "remove", or "replace".'
  if (second !== undefined) throw new HttpError(400, `Operation objects must contain only one member ${names}`)
  if (first === undefined) throw new HttpError(400, `Operation objects must contain exactly one member ${names}`)
  return first
}

/** Splits a JSON pointer (RFC 6901), as strictly as Glance does. */
function readPointer(pointer: unknown): string[] {
  if (typeof pointer !== 'string' || !pointer.startsWith('/')) {
    throw new HttpError(400, `Pointer \`${String(pointer)}\` does not start with "/".`)
  }
  const rest = pointer.slice(1)
  if (/\/\s*\//.test(rest)) throw new HttpError(400, `Pointer \`${pointer}\` contains adjacent "/".`)
  if (pointer.length > 1 && pointer.endsWith('/')) throw new HttpError(400, `Pointer \`${pointer}\` end with "/".`)
  if (/~[^01]/.test(pointer) || pointer.endsWith('~')) {
    throw new HttpError(400, `Pointer \`${pointer}\` contains "~" not part of a recognized escape sequence.`)
  }
  return rest.split('/').map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~').trim())
}

/** Applies a patch. @throws HttpError 403 or 409; the image is as it was then. */
export function applyPatch(image: Image, changes: readonly Change[], permits: Permits): Image {
  return changes.reduce((before, change) => applyChange(before, change, permits), image)
}

function applyChange(image: Image, { operation, name, value, draft }: Change, permits: Permits): Image {
  // Resolved before, as stores have to be asked.
  if (name === 'locations') return (value as ApplyLocations)(image)
  // What one may not read is not there.
  const isKnown = isAttribute(name) || (image.properties.has(name) && permits('read', name))
  const refuse = (status: number, detail: string) => new HttpError(status, undefined, { detail })
  if (operation === 'remove' && isAttribute(name)) throw refuse(403, `Property ${name} may not be removed.`)
  if (operation !== 'add' && !isKnown) throw refuse(409, `Property ${name} does not exist.`)
  if (operation === 'add' && isKnown && draft === 4) throw refuse(409, `Property ${name} already present.`)
  if (isAttribute(name)) {
    if ((name === 'disk_format' || name === 'container_format') && image.status !== 'queued') {
      throw new HttpError(403, `Attribute ${name} can be only replaced for a queued image.`)
    }
    return { ...image, ...attributeChange(name, value) }
  }
  const needed = operation === 'remove' ? 'delete' : image.properties.has(name) ? 'update' : 'create'
  if (!permits(needed, name)) throw new HttpError(403, `Attribute '${name}' is reserved.`)
  const properties = new Map(image.properties)
  if (operation === 'remove') properties.delete(name)
  else properties.set(name, value as string)
  return { ...image, properties }
}
