/** Who may see and change metadata definitions: a table of what each request means, asked before its handler runs. */
import type { FastifyRequest } from 'fastify'
import type { Namespace } from '../../catalog/metadefs.ts'
import { ofCaller } from '../../policy/policy.ts'
import type { Action } from '../../policy/rules.ts'
import type { Service } from '../../service.ts'
import { HttpError } from '../http-error.ts'
import { forbidden } from '../images/access.ts'
import { namespaces, oneNamespace } from './shared.ts'

/** For a collection and for one of it, what each method does. */
const actions: Readonly<Record<string, Readonly<Record<string, Action>>>> = {
  '/v2/metadefs/resource_types': { GET: 'list_metadef_resource_types' },
  [namespaces]: { GET: 'get_metadef_namespaces', POST: 'add_metadef_namespace' },
  [oneNamespace]: {
    GET: 'get_metadef_namespace',
    PUT: 'modify_metadef_namespace',
    DELETE: 'delete_metadef_namespace',
  },
  [`${oneNamespace}/objects`]: {
    GET: 'get_metadef_objects',
    POST: 'add_metadef_object',
    DELETE: 'delete_metadef_namespace',
  },
  [`${oneNamespace}/objects/:name`]: {
    GET: 'get_metadef_object',
    PUT: 'modify_metadef_object',
    DELETE: 'delete_metadef_object',
  },
  [`${oneNamespace}/properties`]: {
    GET: 'get_metadef_properties',
    POST: 'add_metadef_property',
    DELETE: 'delete_metadef_namespace',
  },
  [`${oneNamespace}/properties/:name`]: {
    GET: 'get_metadef_property',
    PUT: 'modify_metadef_property',
    DELETE: 'remove_metadef_property',
  },
  [`${oneNamespace}/tags`]: { GET: 'get_metadef_tags', POST: 'add_metadef_tags', DELETE: 'delete_metadef_tags' },
  [`${oneNamespace}/tags/:name`]: {
    GET: 'get_metadef_tag',
    POST: 'add_metadef_tag',
    PUT: 'modify_metadef_tag',
    DELETE: 'delete_metadef_tag',
  },
  [`${oneNamespace}/resource_types`]: {
    GET: 'get_metadef_resource_type',
    POST: 'add_metadef_resource_type_association',
  },
  [`${oneNamespace}/resource_types/:name`]: { DELETE: 'remove_metadef_resource_type_association' },
}

/** A check of each request for metadata definitions. @throws HttpError 403, or 404 for a namespace that the caller may not see. */
export function guardMetadefs(service: Service): (request: FastifyRequest) => Promise<void> {
  return async (request) => {
    const { caller } = request
    const { url = '' } = request.routeOptions
    const action = actions[url]?.[request.method]
    if (action === undefined) return
    const { namespace: name } = request.params as { namespace?: string }
    const namespace = name === undefined ? undefined : await service.catalog.metadefs.get(name)
    const missing = () => new HttpError(404, `Namespace ${name} not found`)
    if (namespace !== undefined && !isVisible(service, namespace, request)) {
      throw action === 'get_metadef_namespace' ? new HttpError(404) : missing()
    }
    // One that there is not is as good as one's own: its handler says that it is not there.
    const target = namespace === undefined ? ofCaller(caller) : targetOf(namespace)
    if (service.policy.allows(action, caller, target)) return
    if (name !== undefined && namespace === undefined) throw missing()
    // Who may not look is not told that there is something that may not be done.
    const maySee = action !== 'get_metadef_namespace' && service.policy.allows('get_metadef_namespace', caller, target)
    throw maySee ? forbidden(action) : new HttpError(404)
  }
}

function isVisible({ policy }: Service, { visibility, owner }: Namespace, { caller }: FastifyRequest): boolean {
  return visibility === 'public' || owner === null || policy.isAdmin(caller) || owner === caller.projectId
}

const targetOf = (namespace: Namespace) => (name: string) => {
  if (name === 'project_id' || name === 'owner') return namespace.owner
  return name === 'visibility' ? namespace.visibility : undefined
}
