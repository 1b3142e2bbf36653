/** Real exchanges beside the OpenAPI document of a service: whether each is one that it describes. */
import { Compile } from 'typebox/compile'
import { ask } from './service.ts'

type Json = Record<string, unknown>
type Content = Record<string, { schema?: Json }>

export interface Operation {
  summary: string
  operationId: string
  parameters?: { name: string; in: string }[]
  security?: object[]
  requestBody?: { content: Content }
  responses: Record<string, { content?: Content }>
}

export interface OpenApi {
  openapi: string
  servers: { url: string }[]
  security?: object[]
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, Json> }
}

/** One request with its answer. */
export interface Exchange {
  method: string
  path: string
  sent: string | Uint8Array | undefined
  status: number
  type: string
  got: string
}

/** Asks, and keeps what was said. */
export async function exchange(
  url: string,
  method: string,
  path: string,
  body?: string | Uint8Array,
  headers: Record<string, string> = {},
): Promise<Exchange & { token: string | undefined }> {
  const answer = await ask(`${url}${path}`, method, body, headers)
  const type = String(answer.headers['content-type'] ?? '').split(';')[0] ?? ''
  const token = answer.headers['x-subject-token']?.toString()
  return { method, path, sent: body, status: answer.status, type, got: answer.body.toString(), token }
}

/** The names and operations of a document, as in `GET /v2/images/{image_id}`. */
export function operationsOf({ paths }: OpenApi): (Operation & { name: string })[] {
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ ...operation, name: `${method.toUpperCase()} ${path}` })),
  )
}

/** A judge of exchanges: what is wrong with one by the document, and which operation it was of. Exchanges that went wrong have nothing to fit but a known path. */
export function judgeBy(document: OpenApi): (one: Exchange) => { name: string | undefined; wrong: string | undefined } {
  const known = operationsOf(document)
    .map((operation) => {
      const [method = '', path = ''] = operation.name.split(' ')
      const pattern = new RegExp(`^${path.replace(/[.]/g, '\\.').replace(/\{\w+\}/g, '[^/]+')}$`)
      return { ...operation, method, pattern, places: path.split('{').length }
    })
    .sort((one, other) => one.places - other.places)
  const checks = new Map<string, ReturnType<typeof Compile>>()
  const check = (key: string, schema: Json, text: string): string | undefined => {
    const compiled = checks.get(key) ?? Compile(whole(schema, document))
    checks.set(key, compiled)
    const value: unknown = JSON.parse(text)
    if (compiled.Check(value)) return undefined
    const [first] = compiled.Errors(value)
    return `${first?.instancePath} ${first?.message}: ${text.slice(0, 300)}`
  }
  return ({ method, path, sent, status, type, got }) => {
    const plain = path.split('?')[0] ?? ''
    const operation = known.find((one) => one.method === method && one.pattern.test(plain))
    if (operation === undefined) return { name: undefined, wrong: status < 400 ? 'nothing is said of it' : undefined }
    const { name } = operation
    if (status >= 400) return { name, wrong: undefined }
    const answer = operation.responses[status]
    if (answer === undefined) return { name, wrong: `status ${status} is not said` }
    if (type === '' && answer.content !== undefined && got !== '') return { name, wrong: 'there is no type' }
    const shown = answer.content?.[type]
    if (got !== '' && shown === undefined) return { name, wrong: `a body of type ${type} is not said` }
    if (shown?.schema !== undefined) {
      const wrong = check(`${name} ${status}`, shown.schema, got)
      if (wrong !== undefined) return { name, wrong: `answer: ${wrong}` }
    }
    const [taken] = Object.values(operation.requestBody?.content ?? {})
    const isTaken = taken !== undefined || ['GET', 'DELETE'].includes(method)
    if (sent !== undefined && sent.length > 0 && !isTaken) return { name, wrong: 'a body is not said' }
    if (typeof sent !== 'string' || taken?.schema === undefined) return { name, wrong: undefined }
    const wrong = check(`${name} body`, taken.schema, sent)
    return { name, wrong: wrong && `request: ${wrong}` }
  }
}

/** References replaced by what they name, and formats left out, which this validator does not know. */
function whole(schema: Json, { components }: OpenApi): Json {
  return JSON.parse(JSON.stringify(schema), (key, value: unknown) => {
    if (key === 'format' && typeof value === 'string') return undefined
    const reference = (value as { $ref?: string } | null)?.$ref
    if (typeof reference !== 'string') return value
    const name = reference.replace('#/components/schemas/', '')
    const found = components.schemas[name]
    if (found === undefined) throw new Error(`there is no component ${name}`)
    return whole(found, { components } as OpenApi)
  })
}
