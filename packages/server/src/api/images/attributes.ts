/** What a request may say about an image: names that are not the client's to set, and values checked against the schema. */
import type { Attributes, Image, Visibility } from '../../catalog/image.ts'
import type { Config } from '../../config.ts'
import { HttpError } from '../http-error.ts'

/** Set by the service alone. */
const readOnly = new Set([
  'created_at',
  'updated_at',
  'status',
  'checksum',
  'size',
  'virtual_size',
  'direct_url',
  'self',
  'file',
  'schema',
  'stores',
  'os_hash_algo',
  'os_hash_value',
])
const reserved = new Set(['location', 'deleted', 'deleted_at'])
const reservedPrefix = 'os_glance_'
const mostNameLength = 255
const mostInteger = 2 ** 31 - 1

/** @param place Where the answer says it; Glance has two ways. @throws HttpError 403. */
export function refuseReserved(name: string, place: 'message' | 'detail' = 'message'): void {
  if (readOnly.has(name)) throw new HttpError(403, `Attribute '${name}' is read-only.`)
  if (reserved.has(name) || name.startsWith(reservedPrefix)) {
    const text = `Attribute '${name}' is reserved.`
    throw place === 'message' ? new HttpError(403, text) : new HttpError(403, undefined, { detail: text })
  }
}

/** @throws HttpError 400 for a name past 255 characters. */
export function checkPropertyName(name: string): void {
  if ([...name].length <= mostNameLength) return
  throw new HttpError(400, `Custom property should not be greater than ${mostNameLength} characters.`)
}

/** How an attribute's value goes into an image; the values have passed the schema. */
const attributes: Readonly<Record<string, (value: unknown) => Partial<Attributes>>> = {
  name: (value) => ({ name: value as string | null }),
  visibility: (value) => ({ visibility: value as Visibility }),
  owner: (value) => ({ owner: value as string | null }),
  disk_format: (value) => ({ diskFormat: value as string | null }),
  container_format: (value) => ({ containerFormat: value as string | null }),
  protected: (value) => ({ protected: value as boolean }),
  os_hidden: (value) => ({ hidden: value as boolean }),
  min_ram: (value) => ({ minRam: wholeNumber('min_ram', value as number) }),
  min_disk: (value) => ({ minDisk: wholeNumber('min_disk', value as number) }),
  tags: (value) => ({ tags: [...new Set(value as string[])] }),
}

/** Whether every image has it and a client may set it. */
export function isAttribute(name: string): boolean {
  return Object.hasOwn(attributes, name)
}

/** The change of an image that setting an attribute means. */
export function attributeChange(name: string, value: unknown): Partial<Attributes> {
  return attributes[name]?.(value) ?? {}
}

function wholeNumber(name: string, value: number): number {
  if (value < 0) {
    throw new HttpError(400, `Invalid value '${value}' for parameter '${name}': Cannot be a negative value`)
  }
  if (value > mostInteger) {
    throw new HttpError(400, `'${name}' value out of range, must not exceed ${mostInteger}.`)
  }
  return value
}

/** @throws HttpError 413 when an image has more tags or properties than the service takes. */
export function checkQuotas(image: Pick<Image, 'tags' | 'properties'>, config: Config): void {
  if (image.tags.length > config.tagQuota) {
    throw new HttpError(
      413,
      `The limit has been exceeded on the number of allowed image tags. Attempted: ${image.tags.length}, Maximum: ${config.tagQuota}`,
    )
  }
  if (image.properties.size > config.propertyQuota) {
    throw new HttpError(
      413,
      `The limit has been exceeded on the number of allowed image properties. Attempted: ${image.properties.size}, Maximum: ${config.propertyQuota}`,
    )
  }
}
