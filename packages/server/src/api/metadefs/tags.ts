/** Tags of a namespace. */
import { tagSortKeys } from '../../catalog/metadefs.ts'
import type { Service } from '../../service.ts'
import { HttpError } from '../http-error.ts'
import { readCount } from '../images/list-query.ts'
import { type Routes, refuseBody, refuseOtherMethods, sendJson } from '../routes.ts'
import { namedTag, readTag, readTags } from './read.ts'
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
import { tagDocument } from './show.ts'

/** More than a namespace will ever have, and a number that every database takes. */
const mostTags = 2 ** 31 - 1

export function addTags(routes: Routes, { catalog: { metadefs } }: Service): void {
  const all = `${oneNamespace}/tags`
  const one = `${all}/:name`
  const noTag = (name: string) => new HttpError(404, `Could not find metadata tag ${name}`)

  routes.post(all, namespaceParams, async (request, reply) => {
    const { namespace } = request.params
    const tags = readTags(request.body)
    const anew = !/^\s*(1|t|true|on|y|yes)\s*$/i.test(String(request.headers['x-openstack-append'] ?? ''))
    inNamespace(await metadefs.addParts(namespace, tags, anew), namespace)
    return sendJson(reply, { tags: tags.map(({ name }) => ({ name })) }, 201)
  })

  routes.get(all, namespaceParams, async (request, reply) => {
    const { namespace } = request.params
    const parameters = readQuery(request)
    readVisibility(parameters, ['public', 'private', 'shared'])
    const limit = lastOf(parameters, 'limit')
    const query = {
      ...readSort(parameters, tagSortKeys),
      limit: limit ? Math.min(readCount(limit), mostTags) : undefined,
      marker: lastOf(parameters, 'marker') || undefined,
    }
    const tags = inNamespace(await metadefs.tags(namespace, query), namespace)
    return sendJson(reply, { tags: tags.map(({ name }) => ({ name })) })
  })

  refuseOtherMethods(routes, all, 'GET, POST, DELETE')

  routes.get(one, { ...partParams, onRequest: refuseBody }, async (request, reply) => {
    const { namespace, name } = request.params
    const { part } = inNamespace(await metadefs.part(namespace, 'tags', name), namespace)
    if (part === undefined) throw noTag(name)
    return sendJson(reply, tagDocument(part))
  })

  routes.post(one, { ...partParams, onRequest: refuseBody }, async (request, reply) => {
    const { namespace, name } = request.params
    inNamespace(await metadefs.get(namespace), namespace)
    const [made] = inNamespace(await metadefs.addParts(namespace, [namedTag(name)], false), namespace)
    return sendJson(reply, made === undefined ? {} : tagDocument(made), 201)
  })

  routes.put(one, partParams, async (request, reply) => {
    const { namespace, name } = request.params
    const { part } = inNamespace(await metadefs.replacePart(namespace, name, readTag(request.body)), namespace)
    if (part === undefined) throw noTag(name)
    return sendJson(reply, tagDocument(part))
  })

  addRemovals(routes, metadefs, { kind: 'tags', noun: 'tag', missing: noTag })
  refuseOtherMethods(routes, one, 'GET, POST, PUT, DELETE')
}
