/** What the routes of metadata definitions share: parameters, lists, and the two ways in which Glance says that a namespace is not there. */
import { Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import type { Namespace } from '../../catalog/metadefs.ts'
import { HttpError } from '../http-error.ts'

export const namespaces = '/v2/metadefs/namespaces'
export const oneNamespace = `${namespaces}/:namespace`

export const namespaceParams = { schema: { params: Type.Object({ namespace: Type.String() }) } }
export const partParams = { schema: { params: Type.Object({ namespace: Type.String(), name: Type.String() }) } }

/** The query string; of several parameters with one name the last counts. */
export function readQuery(request: FastifyRequest): URLSearchParams {
  const at = request.url.indexOf('?')
  return new URLSearchParams(at < 0 ? '' : request.url.slice(at + 1))
}

export const lastOf = (parameters: URLSearchParams, name: string) => parameters.getAll(name).at(-1)

/** @throws HttpError 400. */
export function readSort<Key extends string>(
  parameters: URLSearchParams,
  keys: readonly Key[],
): { sort: Key; descending: boolean } {
  const direction = lastOf(parameters, 'sort_dir') ?? 'desc'
  if (direction !== 'asc' && direction !== 'desc') throw new HttpError(400, `Invalid sort direction: ${direction}`)
  const written = lastOf(parameters, 'sort_key') ?? 'created_at'
  const sort = keys.find((key) => key === written)
  if (sort !== undefined) return { sort, descending: direction === 'desc' }
  throw new HttpError(400, `Invalid sort key: ${written}. It must be one of the following: ${keys.join(', ')}.`)
}

/** @throws HttpError 400 for a visibility that there is not. */
export function readVisibility(parameters: URLSearchParams, known: readonly string[]): string | undefined {
  const value = lastOf(parameters, 'visibility')
  if (value === undefined || value === '' || known.includes(value)) return value
  throw new HttpError(400, `Invalid visibility value: ${value}`)
}

/** An answer of the catalog that must not be undefined. @throws HttpError 404. */
export function inNamespace<Found>(found: Found | undefined, namespace: string, isLong = false): Found {
  if (found !== undefined) return found
  throw new HttpError(
    404,
    isLong ? `Metadata definition namespace=${namespace} was not found.` : `Namespace ${namespace} not found`,
  )
}

/** A check that nothing is deleted in a protected namespace. @param what As in `object x`. */
export function unlessProtected(what: string): (namespace: Namespace) => void {
  return ({ protected: isProtected }) => {
    if (isProtected) throw new HttpError(403, `Metadata definition ${what} is protected and cannot be deleted.`)
  }
}
