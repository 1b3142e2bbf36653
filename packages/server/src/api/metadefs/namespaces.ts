/** Namespaces: create, list, show, update, delete. */
import { type NamespaceVisibility, namespaceSortKeys, partKinds } from '../../catalog/metadefs.ts'
import type { Service } from '../../service.ts'
import { readLimit } from '../images/list-query.ts'
import { baseUrl, type Routes, refuseBody, refuseOtherMethods, sendJson } from '../routes.ts'
import { readNamespace } from './read.ts'
import {
  inNamespace,
  lastOf,
  namespaceParams,
  namespaces,
  oneNamespace,
  readQuery,
  readSort,
  readVisibility,
  unlessProtected,
} from './shared.ts'
import { associationDocument, contentsDocument, namespaceDocument, namespacePath } from './show.ts'

const visibilities: readonly NamespaceVisibility[] = ['public', 'private']

export function addNamespaces(routes: Routes, service: Service): void {
  const { metadefs } = service.catalog

  routes.post(namespaces, async (request, reply) => {
    const { facts, parts, shown } = readNamespace(request.body)
    const owner = facts.owner ?? request.caller.projectId
    const namespace = await metadefs.create({ ...facts, owner }, parts)
    const location = `${baseUrl(service, request)}${encodeURI(namespacePath(namespace.name))}`
    return sendJson(reply.header('location', location), { ...namespaceDocument(namespace), ...shown }, 201)
  })

  routes.get(namespaces, async (request, reply) => {
    const parameters = readQuery(request)
    const { caller } = request
    const page = await metadefs.list({
      viewer: service.policy.isAdmin(caller) ? undefined : { projectId: caller.projectId },
      ...readSort(parameters, namespaceSortKeys),
      limit: readLimit(lastOf(parameters, 'limit'), service.config),
      marker: lastOf(parameters, 'marker'),
      visibility: readVisibility(parameters, visibilities),
      resourceTypes: lastOf(parameters, 'resource_types')?.split(','),
    })
    parameters.delete('marker')
    const link = () => (parameters.size === 0 ? namespaces : `${namespaces}?${parameters}`)
    const document: Record<string, unknown> = {
      namespaces: page.namespaces.map(({ namespace, associations }) => ({
        ...namespaceDocument(namespace),
        ...(associations.length === 0 ? {} : { resource_type_associations: associations.map(associationDocument) }),
      })),
      first: link(),
      schema: '/v2/schemas/metadefs/namespaces',
    }
    const last = page.namespaces.at(-1)
    if (page.more && last !== undefined) {
      parameters.append('marker', last.namespace.name)
      document.next = link()
    }
    return sendJson(reply, document)
  })
  refuseOtherMethods(routes, namespaces, 'GET, POST')

  routes.get(oneNamespace, { ...namespaceParams, onRequest: refuseBody }, async (request, reply) => {
    const name = request.params.namespace
    const parameters = readQuery(request)
    readVisibility(parameters, visibilities)
    const namespace = inNamespace(await metadefs.get(name), name, true)
    const parts = inNamespace(await metadefs.parts(name, partKinds), name, true)
    const type = lastOf(parameters, 'resource_type')
    const association = parts.find((part) => part.kind === 'resource_types' && part.name === type)
    const prefix = String(association?.definition.prefix ?? '')
    return sendJson(reply, { ...namespaceDocument(namespace), ...contentsDocument(name, parts, prefix) })
  })

  routes.put(oneNamespace, namespaceParams, async (request, reply) => {
    const name = request.params.namespace
    const { facts } = readNamespace(request.body)
    return sendJson(reply, namespaceDocument(inNamespace(await metadefs.replace(name, facts), name)))
  })

  routes.delete(oneNamespace, { ...namespaceParams, onRequest: refuseBody }, async (request, reply) => {
    const name = request.params.namespace
    inNamespace(await metadefs.remove(name, unlessProtected(`namespace ${name}`)), name)
    return reply.code(204).send()
  })
  refuseOtherMethods(routes, oneNamespace, 'GET, PUT, DELETE')
}
