/** How parts of a namespace are deleted: one, or all of a kind. */
import type { Metadefs } from '../../catalog/metadefs.ts'
import type { HttpError } from '../http-error.ts'
import { type Routes, refuseBody } from '../routes.ts'
import { inNamespace, namespaceParams, oneNamespace, partParams, unlessProtected } from './shared.ts'

interface Parts {
  kind: 'objects' | 'properties' | 'tags'
  /** As in `object x`. */
  noun: string
  missing(name: string): HttpError
  /** Of which kinds Glance takes no body, and which of its two sentences it says of a namespace that is not there. */
  takesBody?: boolean
  isLong?: boolean
}

export function addRemovals(routes: Routes, metadefs: Metadefs, parts: Parts): void {
  const { kind, noun, missing, takesBody = false, isLong = false } = parts
  const all = `${oneNamespace}/${kind}`

  routes.delete(all, namespaceParams, async (request, reply) => {
    const { namespace } = request.params
    const allowed = unlessProtected(`namespace ${namespace}`)
    inNamespace(await metadefs.clearParts(namespace, kind, allowed), namespace)
    return reply.code(204).send()
  })

  const options = takesBody ? partParams : { ...partParams, onRequest: refuseBody }
  routes.delete(`${all}/:name`, options, async (request, reply) => {
    const { namespace, name } = request.params
    const allowed = unlessProtected(`${noun} ${name}`)
    const { part } = inNamespace(await metadefs.removePart(namespace, kind, name, allowed), namespace, isLong)
    if (part === undefined) throw missing(name)
    return reply.code(204).send()
  })
}
