/** Digests that a client says of data which it adds by its address (`validation_data`): taken for new data, compared with those of data that is there. The rules and their words are
 *  Glance's. */
import type { Image } from '../../catalog/image.ts'
import { HttpError } from '../http-error.ts'

/** What a client says of one location. */
export interface ValidationData {
  checksum?: string
  os_hash_algo: string
  os_hash_value: string
}

/** The algorithm of all digests here. */
const algorithm = 'sha512'
const sizes = { checksum: 16, os_hash_value: 64 }

/** The digests that an image gets by what is said of its new locations; what it has already is not among them.
 *  @throws HttpError 409 for values that contradict each other or the image's, that come too late, or that are no digests. */
export function readValidationData(image: Image, all: readonly ValidationData[]): Partial<ValidationData> {
  const said = new Map<string, string>()
  for (const one of all) {
    for (const [name, value] of Object.entries(one)) {
      if (said.has(name) && said.get(name) !== value) throw new HttpError(409, `Conflicting values for ${name}`)
      said.set(name, value)
    }
  }
  const there: Record<string, string | null> = {
    checksum: image.checksum,
    os_hash_algo: image.hashAlgorithm,
    os_hash_value: image.hashValue,
  }
  for (const [name, value] of said) {
    const now = there[name] ?? ''
    if (value === now) said.delete(name)
    else if (now !== '') throw new HttpError(409, `${name} is already set with a different value`)
  }
  if (said.size === 0) return {}
  if (image.status !== 'queued') {
    const names = [...said.keys()].join(', ')
    throw new HttpError(409, `New value(s) for ${names} may only be provided when image status is 'queued'`)
  }
  const { checksum, os_hash_algo: name, os_hash_value: value } = Object.fromEntries(said) as Partial<ValidationData>
  if (checksum !== undefined) checkDigest('checksum', checksum, 'md5')
  if (name !== algorithm) throw new HttpError(409, `os_hash_algo must be ${algorithm}, not ${name}`)
  checkDigest('os_hash_value', value ?? '', algorithm)
  return { ...(checksum === undefined ? {} : { checksum }), os_hash_algo: name, os_hash_value: value ?? '' }
}

function checkDigest(field: keyof typeof sizes, value: string, name: string): void {
  const size = sizes[field]
  if (!/^([0-9a-f]{2})*$/i.test(value)) {
    throw new HttpError(409, `${field} (${value}) is not a valid hexadecimal value`)
  }
  if (value.length === size * 2) return
  throw new HttpError(409, `${field} (${value}) is not the correct size for ${name} (should be ${size} bytes)`)
}
