/** What is answered when the catalog refuses. */
import type { CatalogError } from '../catalog/catalog.ts'
import { HttpError } from './http-error.ts'

const statuses: Readonly<Record<CatalogError['kind'], number>> = {
  taken: 409,
  'too-many': 413,
  'unknown-marker': 400,
  missing: 404,
  lost: 503,
  full: 503,
}

export function answerOfCatalog(error: CatalogError): HttpError {
  return new HttpError(statuses[error.kind], error.message)
}
