/** Properties of a namespace that belong to no object. */
import type { Metadefs } from '../../catalog/metadefs.ts'
import type { Service } from '../../service.ts'
import { HttpError } from '../http-error.ts'
import { type Routes, refuseBody, refuseOtherMethods, sendJson } from '../routes.ts'
import { readProperty } from './read.ts'
import { addRemovals } from './removals.ts'
import { inNamespace, lastOf, namespaceParams, oneNamespace, partParams, readQuery } from './shared.ts'
import { propertiesDocument, propertyDocument } from './show.ts'

export function addProperties(routes: Routes, { catalog: { metadefs } }: Service): void {
  const all = `${oneNamespace}/properties`
  const one = `${all}/:name`
  const noProperty = (name: string) => new HttpError(404, `Could not find property ${name}`)

  routes.post(all, namespaceParams, async (request, reply) => {
    const { namespace } = request.params
    const [made] = inNamespace(await metadefs.addParts(namespace, [readProperty(request.body)], false), namespace)
    return sendJson(reply, made === undefined ? {} : propertyDocument(made), 201)
  })

  routes.get(all, { ...namespaceParams, onRequest: refuseBody }, async (request, reply) => {
    const { namespace } = request.params
    const parts = inNamespace(await metadefs.parts(namespace, ['properties']), namespace)
    return sendJson(reply, { properties: propertiesDocument(parts) })
  })

  refuseOtherMethods(routes, all, 'GET, POST, DELETE')

  routes.get(one, partParams, async (request, reply) => {
    const { namespace, name } = request.params
    const type = lastOf(readQuery(request), 'resource_type')
    const bare = type ? await withoutPrefix(metadefs, namespace, name, type) : name
    const { part } = inNamespace(await metadefs.part(namespace, 'properties', bare), namespace)
    if (part === undefined) throw noProperty(bare)
    return sendJson(reply, propertyDocument(part))
  })

  routes.put(one, partParams, async (request, reply) => {
    const { namespace, name } = request.params
    const { part } = inNamespace(await metadefs.replacePart(namespace, name, readProperty(request.body)), namespace)
    if (part === undefined) throw noProperty(name)
    return sendJson(reply, propertyDocument(part))
  })

  addRemovals(routes, metadefs, { kind: 'properties', noun: 'property', missing: noProperty, takesBody: true })
  refuseOtherMethods(routes, one, 'GET, PUT, DELETE')
}

/** The property that things of this type know under `name`. @throws HttpError 404. */
async function withoutPrefix(metadefs: Metadefs, namespace: string, name: string, type: string): Promise<string> {
  const { part } = inNamespace(await metadefs.part(namespace, 'resource_types', type), namespace)
  if (part === undefined) {
    const isKnown = (await metadefs.resourceTypes()).some((known) => known.name === type)
    throw new HttpError(
      404,
      isKnown
        ? `The metadata definition resource-type association of resource-type=${type} to namespace=${namespace}, was not found.`
        : `The metadata definition resource-type with name=${type}, was not found.`,
    )
  }
  const prefix = String(part.definition.prefix ?? '')
  if (name.startsWith(prefix)) return name.slice(prefix.length)
  const expected = `the expected resource type association prefix of '${prefix}'`
  throw new HttpError(404, `Property ${name} does not start with ${expected}.`)
}
