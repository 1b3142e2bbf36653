/** A stand-in for Keystone that says what a test tells it to, and counts. What a real one says is tested with a real one. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { afterAll } from 'vitest'

export interface KeystoneDouble {
  url: string
  /** Tokens that it knows, with what it says of them. */
  tokens: Map<string, object>
  /** What it says of other services. */
  catalog: object[]
  /** Logins of the service. */
  logins: number
  /** Questions about tokens. */
  questions: string[]
  /** The service's token that is good now. */
  serviceToken: string
  /** Answers everything, when it is set. */
  instead: ((request: IncomingMessage, answer: ServerResponse) => void) | undefined
  /** Seconds for which the service's token is good. */
  serviceLife: number
}

/** What Keystone says of a token. */
export function tokenOf(name: string, more: object = {}): object {
  return {
    user: { id: `id-of-${name}`, name, domain: { id: 'default', name: 'Default' } },
    project: { id: 'p1', name: 'garden', domain: { id: 'default', name: 'Default' } },
    roles: [{ id: 'r1', name: 'Member' }],
    expires_at: new Date(Date.now() + 3_600_000).toISOString(),
    ...more,
  }
}

/** Gives a function that starts such a Keystone, over TLS where it is given a certificate; all are stopped after the tests. */
export function keystoneDoubles(): (certificate?: { cert: string; key: string }) => Promise<KeystoneDouble> {
  const servers: ReturnType<typeof createServer>[] = []
  afterAll(() => {
    for (const server of servers) server.close().closeAllConnections()
  })
  return async (certificate) => {
    const listener = (request: IncomingMessage, answer: ServerResponse): unknown => {
      request.resume()
      if (double.instead !== undefined) return double.instead(request, answer)
      const send = (status: number, body: object, headers = {}) =>
        answer.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(body))
      if (request.method === 'POST') {
        double.serviceToken = `service-${++double.logins}`
        const token = tokenOf('glance', { expires_at: new Date(Date.now() + double.serviceLife * 1000).toISOString() })
        return send(201, { token }, { 'x-subject-token': double.serviceToken })
      }
      if (request.headers['x-auth-token'] !== double.serviceToken) return send(401, {})
      if (request.url === '/v3/auth/catalog') return send(200, { catalog: double.catalog })
      const subject = String(request.headers['x-subject-token'])
      double.questions.push(`${subject} ${request.url}`)
      const token = double.tokens.get(subject)
      return token === undefined ? send(404, {}) : send(200, { token })
    }
    const server = certificate === undefined ? createServer(listener) : createTlsServer(certificate, listener)
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    servers.push(server)
    const { port } = server.address() as AddressInfo
    const double: KeystoneDouble = {
      url: `${certificate === undefined ? 'http' : 'https'}://127.0.0.1:${port}`,
      tokens: new Map(),
      catalog: [],
      logins: 0,
      questions: [],
      serviceToken: '',
      instead: undefined,
      serviceLife: 3600,
    }
    return double
  }
}
