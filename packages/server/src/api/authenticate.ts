/** Finds out who sends a request, before anything of the Image API looks at it. */
import type { FastifyRequest } from 'fastify'
import type { Caller } from '../identity/caller.ts'
import { IdentityUnavailable } from '../identity/identity.ts'
import type { Service } from '../service.ts'
import { HttpError } from './http-error.ts'
import { baseUrl } from './routes.ts'

declare module 'fastify' {
  interface FastifyRequest {
    /** Who sends the request. Only there for paths below `/v2`, and below `/identity/v3` once that is known. */
    caller: Caller
  }
}

/** A check of each request below `/v2`. @throws HttpError 401, or 503 when the identity service does not answer. */
export function authenticate(service: Service): (request: FastifyRequest) => Promise<void> {
  const { identity } = service
  return async (request) => {
    if (!/^\/v2(?:\/.|$)/.test(request.url.split('?')[0] ?? '')) return
    const { 'x-auth-token': token, 'x-service-token': serviceToken } = request.headers
    let caller: Caller | undefined
    try {
      caller = await identity.identify({ token: text(token), serviceToken: text(serviceToken) })
    } catch (error) {
      if (!(error instanceof IdentityUnavailable)) throw error
      request.log.error({ err: error }, 'the identity service does not answer')
      throw new HttpError(503)
    }
    if (caller === undefined) {
      const challenge = identity.challenge(baseUrl(service, request))
      const headers = challenge === '' ? {} : { 'WWW-Authenticate': challenge }
      throw new HttpError(401, undefined, { headers })
    }
    request.caller = caller
  }
}

function text(value: string | string[] | undefined): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined
}
