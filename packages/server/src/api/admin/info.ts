/** Schemas, and what this service offers. */
import { Type } from '@fastify/type-provider-typebox'
import { importMethods } from '../../import/methods.ts'
import { type Resource, resources } from '../../quota/limits.ts'
import type { Service } from '../../service.ts'
import { HttpError } from '../http-error.ts'
import { type Routes, refuseBody, refuseOtherMethods, sendJson } from '../routes.ts'

const MiB = 1024 * 1024

export function addInfo(routes: Routes, service: Service): void {
  routes.get(
    '/v2/schemas/:name',
    { onRequest: refuseBody, schema: { params: Type.Object({ name: Type.String() }) } },
    (request, reply) => {
      const { name } = request.params
      const { documents } = service.schemas
      if (!Object.hasOwn(documents, name)) throw new HttpError(404)
      return sendJson(reply, documents[name])
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

  routes.get('/v2/info/usage', { onRequest: refuseBody }, async (request, reply) => {
    const { projectId } = request.caller
    const limits = await service.quotas.limitsOf(projectId)
    const { bytes, stagedBytes, images, uploading } = await service.quotas.usageOf(projectId)
    const used: Record<Resource, number> = {
      image_size_total: Math.floor(bytes / MiB),
      image_stage_total: Math.floor(stagedBytes / MiB),
      image_count_total: images,
      image_count_uploading: uploading,
    }
    // -1 is how Keystone says that there is no bound.
    const shown = resources.map((name) => [name, { usage: used[name], limit: limits[name] ?? -1 }])
    return sendJson(reply, { usage: Object.fromEntries(shown) })
  })
  refuseOtherMethods(routes, '/v2/info/usage', 'GET')
}
