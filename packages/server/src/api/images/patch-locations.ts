/** Changes of `locations` in a patch, where the settings show them. */
import { isDeepStrictEqual } from 'node:util'
import { emptied, type Image, type Location, readableLocations } from '../../catalog/image.ts'
import type { JsonObject } from '../../catalog/json.ts'
import { lookAt } from '../../import/location.ts'
import type { Service } from '../../service.ts'
import { staleLock, withoutLock } from '../data/import-lock.ts'
import { HttpError } from '../http-error.ts'
import { findLocation } from './locations.ts'
import { readValidationData, type ValidationData } from './validation-data.ts'

/** A location as a patch gives it. */
interface GivenLocation {
  url: string
  metadata: JsonObject
  validation_data?: ValidationData
}

/** A change of the locations as it was read. */
export interface LocationChange {
  operation: 'add' | 'remove' | 'replace'
  /** What follows `/locations/`: an index, or `-`. */
  position: string
  given: readonly GivenLocation[]
}

/** What a change means, once the stores were asked. */
export type ApplyLocations = (image: Image) => Image

/** @throws HttpError 400. */
export function readLocationChange(
  operation: LocationChange['operation'],
  path: readonly string[],
  value: unknown,
  schemas: Service['schemas'],
): LocationChange {
  if (path.length !== (operation === 'replace' ? 1 : 2)) {
    throw new HttpError(400, `Invalid JSON pointer for this resource: '/${path.join('/')}'`)
  }
  const given = operation === 'remove' ? [] : operation === 'add' ? [value] : value
  schemas.check({ locations: given })
  return { operation, position: path[1] ?? '', given: given as GivenLocation[] }
}

/** @throws HttpError 403 for a change that would leave no location. */
export function refuseNone({ operation, given }: LocationChange): void {
  if (operation !== 'replace' || given.length > 0) return
  throw new HttpError(403, undefined, { detail: 'Cannot set locations to empty list.' })
}

/** Asks the stores about the locations of a change, and looks at the data of an image that has none yet. @throws HttpError, RefusedContent. */
export async function resolveLocationChange(
  service: Service,
  image: Image,
  { operation, position, given }: LocationChange,
): Promise<ApplyLocations> {
  const { locationQuota } = service.config
  // An import that was accepted brings the data of an image that waits for it.
  const stale = image.status === 'queued' ? await staleLock(service, image) : undefined
  const said = given.flatMap(({ validation_data: one }) => one ?? [])
  readValidationData(image, said)
  const added: Location[] = []
  for (const { url, metadata } of given) {
    const { store: _store, ...kept } = metadata
    added.push(await findLocation(service, url, kept))
  }
  const [first] = added
  const facts = image.status === 'queued' && first !== undefined ? await lookAt(service, image, first) : undefined
  return (before) => {
    if (!['active', 'queued'].includes(before.status)) throw notNow(operation, before.status)
    if (operation === 'remove') return without(before, position)
    const now = readableLocations(before)
    // Digests and size are of the data that is there: only what is said of the same places may change, and their order.
    if (operation === 'replace' && now.length > 0) {
      if (isDeepStrictEqual(placesOf(now), placesOf(added))) return { ...before, locations: added }
      throw new HttpError(400, 'Original locations is not empty')
    }
    const at = position === '-' || operation === 'replace' ? now.length : Number(position)
    if (!Number.isSafeInteger(at) || at < 0 || at > now.length) {
      throw new HttpError(400, 'Invalid position for adding a location.')
    }
    const known = new Set(now.map(({ key }) => key))
    for (const { key } of added) {
      if (known.has(key)) throw new HttpError(400, `The location ${key} already exists`)
      known.add(key)
    }
    const locations = now.toSpliced(at, 0, ...added)
    if (locations.length > locationQuota) {
      throw new HttpError(
        413,
        `The limit has been exceeded on the number of allowed image locations. Attempted: ${locations.length}, Maximum: ${locationQuota}`,
      )
    }
    const {
      checksum = null,
      os_hash_algo: hashAlgorithm = null,
      os_hash_value: hashValue = null,
    } = readValidationData(before, said)
    if (before.status === 'active') return { ...before, locations }
    if (facts === undefined) throw notNow(operation, before.status)
    return {
      ...emptied(withoutLock(before, stale)),
      ...facts,
      checksum,
      hashAlgorithm,
      hashValue,
      locations,
      status: 'active',
    }
  }
}

function placesOf(locations: readonly Location[]): string[] {
  return locations.map(({ store, key }) => `${store} ${key}`).toSorted()
}

function without(image: Image, position: string): Image {
  if (image.status !== 'active') throw notNow('remove', image.status)
  const now = readableLocations(image)
  if (now.length === 1) throw lastOne()
  const at = position === '-' ? now.length - 1 : /^\d+$/.test(position) ? Number(position) : -1
  if (at < 0 || at >= now.length) throw new HttpError(400, 'Invalid position for removing a location.')
  return { ...image, locations: now.toSpliced(at, 1) }
}

function notNow(operation: string, status: string): HttpError {
  return new HttpError(409, `It's not allowed to ${operation} locations if image status is ${status}.`)
}

function lastOne(): HttpError {
  return new HttpError(403, undefined, { detail: 'Cannot remove last location in the image.' })
}
