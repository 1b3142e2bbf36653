/** The OpenAPI document of the service: made from the routes that there are, the schemas that requests are checked by, and a sentence for each. */
import type { RouteOptions } from 'fastify'
import type { Service } from '../service.ts'
import { metadefDocuments } from './metadefs/documents.ts'
import { describedIdentity } from './openapi-identity.ts'
import { type Described, described } from './openapi-routes.ts'
import { identitySchemas, openApiSchemas, withTaskTypes } from './openapi-schemas.ts'
import { baseUrl, type Routes, refuseOtherMethods, sendJson } from './routes.ts'

const url = '/openapi.json'
const json = 'application/json'
const patchType = 'application/openstack-images-v2.1-json-patch'

interface Known {
  method: string
  url: string
  /** The schema that the route checks bodies by itself. */
  body: unknown
}

/** What is said of all routes, those of accounts too. */
const all: Readonly<Record<string, Described>> = { ...described, ...describedIdentity }

/** Watches which routes are added from here on, and serves the document. */
export function addOpenApi(routes: Routes, service: Service): void {
  const known: Known[] = []
  routes.addHook('onRoute', ({ method, url, config, schema }: RouteOptions) => {
    if (config?.refused === true) return
    for (const one of [method].flat()) known.push({ method: one, url, body: schema?.body })
  })
  routes.get(url, (request, reply) => sendJson(reply, openApiDocument(service, known, baseUrl(service, request))))
  refuseOtherMethods(routes, url, 'GET')
}

/** Routes that the document does not describe: pages that others stand for, and methods of Keystone's that only say no. */
function isLeftOut({ method, url }: Known): boolean {
  return (
    (method === 'HEAD' && all[`HEAD ${url}`] === undefined) ||
    (/^\/identity\/v3\/(domains|services|endpoints|regions|groups)\b/.test(url) && method !== 'GET') ||
    /.\/$|^\/v2$/.test(url)
  )
}

/** A route that nobody has described; a test finds it. */
const nobody: Described = { summary: '', tag: 'Service', answers: { 200: 'application/json' } }

function openApiDocument(service: Service, known: readonly Known[], base: string): object {
  const paths: Record<string, Record<string, object>> = {}
  for (const route of known.filter((one) => !isLeftOut(one))) {
    const { method, url } = route
    const facts = all[`${method} ${url}`] ?? nobody
    const path = url.replace(/:(\w+)/g, '{$1}')
    paths[path] = { ...paths[path], [method.toLowerCase()]: operation(route, path, facts) }
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'moraine image service',
      description: 'The OpenStack Image API v2, and what moraine adds to it.',
      version: '2.18',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: base }],
    ...(service.config.auth === 'none' ? {} : { security: [{ token: [] }] }),
    tags: [...new Set(known.flatMap(({ method, url }) => all[`${method} ${url}`]?.tag ?? []))].map((name) => ({
      name,
    })),
    paths,
    components: {
      schemas: {
        ...components(withTaskTypes(service.schemas.documents)),
        ...components(metadefDocuments, 'metadef_'),
        ...openApiSchemas,
        ...(service.config.auth === 'local' ? identitySchemas : {}),
      },
      securitySchemes: {
        token: {
          type: 'apiKey',
          in: 'header',
          name: 'X-Auth-Token',
          description: 'A token of Keystone, or of /identity/v3',
        },
      },
    },
  }
}

/** The documents under `/v2/schemas`, which are JSON schemas with links. */
function components(documents: Readonly<Record<string, object>>, prefix = ''): Record<string, object> {
  return Object.fromEntries(
    Object.entries(documents).map(([name, document]) => {
      const { links: _links, name: _name, definitions: _definitions, ...schema } = document as Record<string, unknown>
      return [
        `${prefix}${name}`,
        inlined({ type: 'object', ...schema }, (document as { definitions?: object }).definitions),
      ]
    }),
  )
}

/** References into a document's own definitions, replaced by what they mean: components have no definitions of their own. */
function inlined(schema: object, definitions: object | undefined, depth = 0): object {
  if (definitions === undefined || depth > 8) return schema
  return JSON.parse(JSON.stringify(schema), (_key, value: unknown) => {
    const reference = (value as { $ref?: string } | null)?.$ref
    if (typeof reference !== 'string' || !reference.startsWith('#/definitions/')) return value
    const found = (definitions as Record<string, object>)[reference.slice('#/definitions/'.length)]
    return found === undefined ? {} : inlined(found, definitions, depth + 1)
  })
}

function operation({ method, body: own }: Known, path: string, facts: Described): object {
  const { summary, tag, query, body, answers, open } = facts
  const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => ({
    name,
    in: 'path',
    required: true,
    schema: { type: 'string' },
  }))
  const inQuery = (query ?? []).map((name) => ({ name, in: 'query', schema: { type: 'string' } }))
  const parameters = [...inPath, ...inQuery]
  return {
    operationId: `${method.toLowerCase()}${path.replace(/[^A-Za-z0-9]+/g, '_')}`.replace(/_$/, ''),
    summary,
    tags: [tag],
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(open === true ? { security: [] } : {}),
    ...(own === undefined ? {} : { requestBody: { required: true, content: { [json]: { schema: own } } } }),
    ...(body === undefined ? {} : { requestBody: { required: true, content: content(body) } }),
    responses: {
      ...Object.fromEntries(
        Object.entries(answers).map(([status, type]) => [
          status,
          { description: descriptions[status] ?? 'Done', ...(type === '' ? {} : { content: content(type) }) },
        ]),
      ),
      default: { description: 'An error: a page, text or JSON, as `Accept` asks for' },
    },
  }
}

const descriptions: Readonly<Record<string, string>> = {
  200: 'As asked',
  201: 'Made',
  202: 'Taken on; it is done beside',
  204: 'Done, or nothing to send',
  206: 'A part',
  300: 'The versions that there are',
  304: 'It is what the client has',
}

/** @param type A media type, or the name of a schema as in `#image`. */
function content(type: string): object {
  if (!type.startsWith('#')) return { [type]: {} }
  return { [type === '#json_patch' ? patchType : json]: { schema: { $ref: `#/components/schemas/${type.slice(1)}` } } }
}
