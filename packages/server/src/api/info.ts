/** Schemas, and what this service offers. */
import { Type } from '@fastify/type-provider-typebox'
import { importMethods } from '../import/methods.ts'
import type { Service } from '../service.ts'
import { schemaDocuments } from './documents.ts'
import { HttpError } from './http-error.ts'
import { type Routes, refuseBody, refuseOtherMethods, sendJson } from './routes.ts'

export function addInfo(routes: Routes, service: Service): void {
  routes.get(
    '/v2/schemas/:name',
    { onRequest: refuseBody, schema: { params: Type.Object({ name: Type.String() }) } },
    (request, reply) => {
      const { name } = request.params
      if (!Object.hasOwn(schemaDocuments, name)) throw new HttpError(404)
      return sendJson(reply, schemaDocuments[name])
    },
  )
  refuseOtherMethods(routes, '/v2/schemas/:name', 'GET')

  routes.get('/v2/info/import', { onRequest: refuseBody }, (_request, reply) =>
    sendJson(reply, {
      'import-methods': {
        description: 'Import methods available.',
        type: 'array',
        value: importMethods(service.config),
      },
    }),
  )
  refuseOtherMethods(routes, '/v2/info/import', 'GET')
}
