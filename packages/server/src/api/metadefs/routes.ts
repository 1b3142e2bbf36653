/** The metadata definitions under `/v2/metadefs`, and their schemas. */
import { Type } from '@fastify/type-provider-typebox'
import type { Service } from '../../service.ts'
import { HttpError } from '../http-error.ts'
import { type Routes, refuseBody, refuseOtherMethods, sendJson } from '../routes.ts'
import { metadefDocuments } from './documents.ts'
import { guardMetadefs } from './guard.ts'
import { addNamespaces } from './namespaces.ts'
import { addObjects } from './objects.ts'
import { addProperties } from './properties.ts'
import { addResourceTypes } from './resource-types.ts'
import { addTags } from './tags.ts'

export function addMetadefs(routes: Routes, service: Service): void {
  const url = '/v2/schemas/metadefs/:name'
  routes.get(
    url,
    { onRequest: refuseBody, schema: { params: Type.Object({ name: Type.String() }) } },
    (request, reply) => {
      const { name } = request.params
      if (!Object.hasOwn(metadefDocuments, name)) throw new HttpError(404)
      return sendJson(reply, metadefDocuments[name])
    },
  )
  refuseOtherMethods(routes, url, 'GET')
  routes.register(async (scope) => {
    const guarded = scope as unknown as Routes
    guarded.addHook('preHandler', guardMetadefs(service))
    addNamespaces(guarded, service)
    addObjects(guarded, service)
    addProperties(guarded, service)
    addTags(guarded, service)
    addResourceTypes(guarded, service)
  })
}
