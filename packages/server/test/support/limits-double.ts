/** A stand-in for the part of Keystone that a Glance asks what a project may use: unified limits, flat. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll } from 'vitest'
import { type Limits, resources } from '../../src/quota/limits.ts'

/** The endpoint that Glance is told that it is. */
export const limitsEndpoint = 'glance-here'

/** Starts it; it ends with the tests of the file. @param own Limits by project. @param others Each limit of all others. */
export async function startLimits(own: Readonly<Record<string, Limits>>, others: number): Promise<string> {
  const server = createServer((request, response) => {
    const { pathname, searchParams } = new URL(request.url ?? '', url)
    const name = searchParams.get('resource_name') ?? ''
    const limit = own[searchParams.get('project_id') ?? '']?.[name as (typeof resources)[number]]
    const facts = { id: name, service_id: 'images', region_id: null, resource_name: name }
    const documents: Record<string, object> = {
      '/v3': { version: { id: 'v3.14', status: 'stable', links: [{ rel: 'self', href: `${url}/v3/` }] } },
      '/v3/limits/model': { model: { name: 'flat', description: '' } },
      [`/v3/endpoints/${limitsEndpoint}`]: {
        endpoint: { id: limitsEndpoint, service_id: 'images', region_id: null, interface: 'public', url: 'x' },
      },
      '/v3/limits': { limits: limit === undefined ? [] : [{ ...facts, resource_limit: limit }], links: {} },
      '/v3/registered_limits': { registered_limits: [{ ...facts, default_limit: others }], links: {} },
    }
    const document = documents[pathname.replace(/\/$/, '')]
    response.writeHead(document === undefined ? 404 : 200, { 'content-type': 'application/json' })
    response.end(JSON.stringify(document ?? {}))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  afterAll(() => {
    server.close().closeAllConnections()
  })
  return url
}

/** The same answers without a Keystone. */
export function limitsOf(own: Readonly<Record<string, Limits>>, others: number): (project: string) => Promise<Limits> {
  const usual = Object.fromEntries(resources.map((name) => [name, others]))
  return (project) => Promise.resolve({ ...usual, ...own[project] })
}
