/** Schemas, and what this service offers. */
import { Type } from '@fastify/type-provider-typebox'
import type { Service } from '../service.ts'
import { schemaDocuments } from './documents.ts'
import { HttpError } from './http-error.ts'
import { type Routes, refuseBody, refuseOtherMethods, sendJson } from './routes.ts'

export function addInfo(routes: Routes, _service: Service): void {
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
      'import-methods': { description: 'Import methods available.', type: 'array', value: [] },
    }),
  )
  refuseOtherMethods(routes, '/v2/info/import', 'GET')

  const oneStore = () => {
    throw new HttpError(404, 'Multi backend is not supported at this site.')
  }
  routes.get('/v2/info/stores', { onRequest: refuseBody }, oneStore)
  refuseOtherMethods(routes, '/v2/info/stores', 'GET')
  routes.get('/v2/info/stores/detail', { onRequest: refuseBody }, oneStore)
  refuseOtherMethods(routes, '/v2/info/stores/detail', 'GET')
}
