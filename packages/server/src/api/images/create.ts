/** Reads the body of `POST /v2/images`. */
import { randomUUID } from 'node:crypto'
import type { NewImage } from '../../catalog/image.ts'
import type { Caller } from '../../identity/caller.ts'
import type { Service } from '../../service.ts'
import { HttpError } from '../http-error.ts'
import { attributeChange, checkPropertyName, checkQuotas, isAttribute, refuseReserved } from './attributes.ts'

/** Shown read-only in documents, so refused before anything else is looked at. */
const shownOnly = ['direct_url', 'self', 'file', 'schema', 'stores']

/** @throws HttpError 400, 403 or 413. */
export function readNewImage(body: unknown, { config, schemas }: Service): NewImage {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new HttpError(400, 'The request body must be a JSON object.')
  }
  for (const name of shownOnly) if (Object.hasOwn(body, name)) refuseReserved(name)
  schemas.check(body)
  const properties = new Map<string, string>()
  let image: NewImage = { id: randomUUID() }
  for (const [name, value] of Object.entries(body)) {
    if (name === 'id') image = { ...image, id: value as string }
    else if (isAttribute(name)) image = { ...image, ...attributeChange(name, value) }
    else {
      refuseReserved(name, 'detail')
      if (name === 'locations') throw new HttpError(403, "Attribute 'locations' is reserved.")
      checkPropertyName(name)
      properties.set(name, value as string)
    }
  }
  checkQuotas({ tags: image.tags ?? [], properties }, config)
  schemas.checkAgreement(image)
  return { ...image, properties }
}

/** @throws HttpError 403 for a property that is not the caller's to set. */
export function checkProtections({ protections }: Service, caller: Caller, { properties }: NewImage): void {
  for (const name of properties?.keys() ?? []) {
    if (!protections.allows('create', name, caller)) throw new HttpError(403, `Attribute '${name}' is reserved.`)
  }
}
