/** Resource types, and which of them a namespace is for. */
import type { Service } from '../../service.ts'
import { HttpError } from '../http-error.ts'
import { type Routes, refuseBody, refuseOtherMethods, sendJson } from '../routes.ts'
import { readAssociation } from './read.ts'
import { inNamespace, namespaceParams, oneNamespace, partParams, unlessProtected } from './shared.ts'
import { associationDocument, resourceTypeDocument } from './show.ts'

export function addResourceTypes(routes: Routes, { catalog: { metadefs } }: Service): void {
  const types = '/v2/metadefs/resource_types'
  routes.get(types, { onRequest: refuseBody }, async (_request, reply) =>
    sendJson(reply, { resource_types: (await metadefs.resourceTypes()).map(resourceTypeDocument) }),
  )
  refuseOtherMethods(routes, types, 'GET')

  const all = `${oneNamespace}/resource_types`
  routes.get(all, { ...namespaceParams, onRequest: refuseBody }, async (request, reply) => {
    const { namespace } = request.params
    const parts = inNamespace(await metadefs.parts(namespace, ['resource_types']), namespace)
    return sendJson(reply, { resource_type_associations: parts.map(associationDocument) })
  })

  routes.post(all, namespaceParams, async (request, reply) => {
    const { namespace } = request.params
    const [made] = inNamespace(await metadefs.addParts(namespace, [readAssociation(request.body)], false), namespace)
    return sendJson(reply, made === undefined ? {} : associationDocument(made), 201)
  })
  refuseOtherMethods(routes, all, 'GET, POST')

  const one = `${all}/:name`
  routes.delete(one, { ...partParams, onRequest: refuseBody }, async (request, reply) => {
    const { namespace, name } = request.params
    const allowed = unlessProtected(`resource-type-association ${name}`)
    const { part } = inNamespace(await metadefs.removePart(namespace, 'resource_types', name, allowed), namespace)
    if (part === undefined) throw new HttpError(404, `Failed to find resource type ${name} to delete`)
    return reply.code(204).send()
  })
  refuseOtherMethods(routes, one, 'DELETE')
}
