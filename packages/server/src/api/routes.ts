/** What all routes share: types, answers, and the refusal of other methods. */
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import { Type } from '@fastify/type-provider-typebox'
import type {
  FastifyBaseLogger,
  FastifyInstance,
  FastifyReply,
  FastifyRequest,
  RawReplyDefaultExpression,
  RawRequestDefaultExpression,
  RawServerDefault,
} from 'fastify'
import type { Service } from '../service.ts'
import { HttpError } from './http-error.ts'

export type Routes = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression,
  RawReplyDefaultExpression,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>

declare module 'fastify' {
  interface FastifyContextConfig {
    /** The path has no such method. */
    refused?: true
  }
}

export const imageParams = Type.Object({ image_id: Type.String() })
export const tagParams = Type.Object({ image_id: Type.String(), tag_value: Type.String() })

const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'TRACE'] as const

/** Answers every method that a path does not have with 405. @param allowed Its methods as `Allow` lists them. @param unlisted Those that it has besides. */
export function refuseOtherMethods(
  routes: Routes,
  url: string,
  allowed: string,
  unlisted: readonly string[] = [],
): void {
  const known = [...allowed.split(', '), ...unlisted]
  routes.route({
    method: methods.filter((method) => !known.includes(method)),
    url,
    config: { refused: true },
    handler: (request) => {
      throw new HttpError(405, `The method ${request.method} is not allowed for this resource.`, {
        headers: { Allow: allowed },
      })
    },
  })
}

/** For requests that have no business with a body. @throws HttpError 400. */
export async function refuseBody(request: FastifyRequest): Promise<void> {
  const length = request.headers['content-length']
  const isChunked = request.headers['transfer-encoding'] !== undefined
  if (isChunked || (length !== undefined && Number(length) > 0)) {
    throw new HttpError(400, 'A body is not expected with this request.')
  }
}

/** The body, which every media type brings as bytes. @throws HttpError 400 when it is no JSON document in UTF-8. */
export function readBody(body: unknown): unknown {
  if (!(body instanceof Uint8Array) || body.length === 0) throw new HttpError(400, 'Body expected in request.')
  let document: unknown
  try {
    document = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
  } catch {
    throw new HttpError(400, 'Malformed JSON in request body.')
  }
  if (typeof document === 'object' && document !== null) return document
  throw new HttpError(400, 'Unexpected body type. Expected list/dict.')
}

/** The media type of a request's body, without parameters. Nothing said counts as text, as in Glance. */
export function mediaType(request: FastifyRequest): string {
  return (request.headers['content-type'] ?? 'text/plain').split(';')[0]?.trim().toLowerCase() ?? ''
}

export function unsupportedType(type: string, headers: Record<string, string> = {}): HttpError {
  return new HttpError(415, `The request media type ${type} is not supported by this server.`, { headers })
}

/** Sends a JSON document. As bytes, because fastify adds a charset to JSON text, and Glance names none. */
export function sendJson(reply: FastifyReply, document: unknown, status = 200): FastifyReply {
  return reply
    .code(status)
    .header('content-type', 'application/json')
    .send(Buffer.from(JSON.stringify(document)))
}

/** The URL under which the client reached the service, without a slash at the end. */
export function baseUrl(service: Service, request: FastifyRequest): string {
  const { publicUrl } = service.config
  return publicUrl === '' ? `${request.protocol}://${request.host}` : publicUrl.replace(/\/+$/, '')
}
