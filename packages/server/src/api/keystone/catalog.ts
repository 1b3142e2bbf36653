/** What is there and does not change: the domain, the services and their endpoints, the region, and the groups that there are not. */
import { domain } from '../../identity/local.ts'
import type { Service } from '../../service.ts'
import { HttpError } from '../http-error.ts'
import { readQuery } from '../metadefs/shared.ts'
import { baseUrl, type Routes, sendJson } from '../routes.ts'
import { catalogServices, domainDocument, endpointsOf } from './documents.ts'
import { allow, identityUrl, idParams, mayLook, notFound, sendList } from './shared.ts'

export function addCatalog(routes: Routes, service: Service): void {
  const { region } = service.config

  routes.get('/v3/domains', (request, reply) => {
    allow(mayLook(request.session), 'list_domains')
    const parameters = readQuery(request)
    const isOther =
      (parameters.get('name') ?? domain.name) !== domain.name || /^(0|false)$/i.test(parameters.get('enabled') ?? '')
    const documents = isOther ? [] : [domainDocument(identityUrl(service, request))]
    return sendList(reply, service, request, 'domains', documents)
  })
  routes.get('/v3/domains/:id', { schema: idParams }, (request, reply) => {
    if (request.params.id !== domain.id) throw notFound('domain', request.params.id)
    return sendJson(reply, { domain: domainDocument(identityUrl(service, request)) })
  })
  refuseChanges(routes, 'domain', `There is one domain here, ${domain.name}, and it cannot be changed.`)

  // Endpoints follow from the settings of the service, so they are seen and not changed.
  const { services, endpoints } = {
    services: (base: string, url: string) =>
      catalogServices(base).map(({ id, type, name }) => ({
        id,
        type,
        name,
        enabled: true,
        links: { self: `${url}/services/${id}` },
      })),
    endpoints: (base: string, url: string) =>
      catalogServices(base)
        .flatMap((entry) => endpointsOf(entry, region))
        .map((endpoint) => ({ ...endpoint, enabled: true, links: { self: `${url}/endpoints/${endpoint.id}` } })),
  }
  const regions = (_base: string, url: string) => [
    { id: region, description: '', parent_region_id: null, links: { self: `${url}/regions/${region}` } },
  ]
  const kinds: Record<string, (base: string, url: string) => (Record<string, unknown> & { id: string })[]> = {
    service: services,
    endpoint: endpoints,
    region: regions,
    group: () => [],
  }
  for (const [kind, things] of Object.entries(kinds)) {
    const reason =
      kind === 'group' ? 'There are no groups here.' : `The ${kind}s follow from the settings of the service.`
    refuseChanges(routes, kind, reason)
    routes.get(`/v3/${kind}s`, (request, reply) => {
      allow(mayLook(request.session), `list_${kind}s`)
      const parameters = [...readQuery(request)].filter(([name]) =>
        ['name', 'type', 'service_id', 'interface', 'region_id'].includes(name),
      )
      const found = things(baseUrl(service, request), identityUrl(service, request)).filter((thing) =>
        parameters.every(([name, value]) => !(name in thing) || thing[name] === value),
      )
      return sendList(reply, service, request, `${kind}s`, found)
    })
    routes.get(`/v3/${kind}s/:id`, { schema: idParams }, (request, reply) => {
      allow(mayLook(request.session), `get_${kind}`)
      const { id } = request.params
      const found = things(baseUrl(service, request), identityUrl(service, request)).find((thing) => thing.id === id)
      if (found === undefined) throw notFound(kind, id)
      return sendJson(reply, { [kind]: found })
    })
  }
}

function refuseChanges(routes: Routes, kind: string, reason: string): void {
  for (const url of [`/v3/${kind}s`, `/v3/${kind}s/:id`]) {
    routes.route({
      method: ['POST', 'PUT', 'PATCH', 'DELETE'],
      url,
      handler: () => {
        throw new HttpError(403, reason)
      },
    })
  }
}
