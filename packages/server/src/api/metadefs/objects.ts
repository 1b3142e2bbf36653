/** Objects of a namespace: groups of properties. */
import { tagSortKeys } from '../../catalog/metadefs.ts'
import type { Service } from '../../service.ts'
import { HttpError } from '../http-error.ts'
import { readCount } from '../images/list-query.ts'
import { type Routes, refuseBody, refuseOtherMethods, sendJson } from '../routes.ts'
import { readObject } from './read.ts'
import { addRemovals } from './removals.ts'
import {
  inNamespace,
  lastOf,
  namespaceParams,
  oneNamespace,
  partParams,
  readQuery,
  readSort,
  readVisibility,
} from './shared.ts'
import { createdObjectDocument, objectDocument } from './show.ts'

export function addObjects(routes: Routes, { catalog: { metadefs } }: Service): void {
  const all = `${oneNamespace}/objects`
  const one = `${all}/:name`
  const noObject = (name: string) => new HttpError(404, `Could not find metadata object ${name}`)

  routes.post(all, namespaceParams, async (request, reply) => {
    const { namespace } = request.params
    const [made] = inNamespace(
      await metadefs.addParts(namespace, [readObject(request.body, true)], false),
      namespace,
      true,
    )
    return sendJson(reply, made === undefined ? {} : createdObjectDocument(namespace, made), 201)
  })

  routes.get(all, namespaceParams, async (request, reply) => {
    const { namespace } = request.params
    checkPaging(readQuery(request))
    const parts = inNamespace(await metadefs.parts(namespace, ['objects']), namespace, true)
    // The schema's address has no slash in front in Glance either.
    return sendJson(reply, {
      objects: parts.map((part) => objectDocument(namespace, part)),
      schema: 'v2/schemas/metadefs/objects',
    })
  })

  refuseOtherMethods(routes, all, 'GET, POST, DELETE')

  routes.get(one, { ...partParams, onRequest: refuseBody }, async (request, reply) => {
    const { namespace, name } = request.params
    const { part } = inNamespace(await metadefs.part(namespace, 'objects', name), namespace, true)
    if (part === undefined) throw noObject(name)
    return sendJson(reply, objectDocument(namespace, part))
  })

  routes.put(one, partParams, async (request, reply) => {
    const { namespace, name } = request.params
    const given = readObject(request.body, false)
    const { part } = inNamespace(await metadefs.replacePart(namespace, name, given), namespace, true)
    if (part === undefined) throw noObject(name)
    return sendJson(reply, createdObjectDocument(namespace, part))
  })

  addRemovals(routes, metadefs, { kind: 'objects', noun: 'object', missing: noObject, isLong: true })
  refuseOtherMethods(routes, one, 'GET, PUT, DELETE')
}

/** The list of objects is always whole; what clients ask about pages is checked all the same. @throws HttpError 400. */
function checkPaging(parameters: URLSearchParams): void {
  readSort(parameters, tagSortKeys)
  readVisibility(parameters, ['public', 'private', 'shared'])
  const limit = lastOf(parameters, 'limit')
  if (limit !== undefined && readCount(limit) === 0) throw new HttpError(400, 'limit param must be positive')
}
