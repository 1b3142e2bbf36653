/** Services for tests: each on its own data folder, listening on a free port or asked without any socket. */
import { readdirSync } from 'node:fs'
import { request as httpRequest, type IncomingHttpHeaders, type RequestOptions } from 'node:http'
import { join } from 'node:path'
import fastify from 'fastify'
import { afterAll } from 'vitest'
import { temporaryFolder } from '../../../engine/test/support/folder.ts'
import { type AppParts, createApp } from '../../src/app.ts'
import { type ConfigInput, readConfig } from '../../src/config.ts'
import { closeService, openService } from '../../src/open-service.ts'
import type { Service } from '../../src/service.ts'

/** A service under test. `inject` asks it without a socket. */
export interface Subject {
  service: Service
  app: ReturnType<typeof createApp>
  /** Where it listens. */
  url: string
  /** Its data folder. */
  data: string
  close(): Promise<void>
}

/** Gives a function that starts services; all are stopped after the tests of the suite. `replace` may put its own parts in. */
export function services(): (
  config?: ConfigInput,
  replace?: (service: Service) => Service,
  parts?: AppParts,
) => Promise<Subject> {
  const folder = temporaryFolder()
  const running: Subject[] = []
  afterAll(async () => {
    for (const subject of running) await subject.close()
  })
  return async (input = {}, replace = (service) => service, parts = {}) => {
    const config = readConfig({ data: folder.fresh(), port: 0, logLevel: 'silent', ...input }, {})
    const { log } = fastify({ logger: { level: 'silent' } })
    const service = replace(await openService(config, { info() {}, warn() {}, error() {} }, parts.audit))
    const app = createApp(service, log, parts)
    const url = await app.listen({ host: config.host, port: config.port })
    let closed: Promise<void> | undefined
    const close = async () => {
      app.server.closeAllConnections()
      await app.close()
      await closeService(service)
    }
    const subject: Subject = {
      service,
      app,
      url,
      data: config.data,
      close() {
        closed ??= close()
        return closed
      },
    }
    running.push(subject)
    return subject
  }
}

export interface Answer {
  status: number
  headers: IncomingHttpHeaders
  body: Buffer
  /** The body as JSON. */
  json<Shape = Record<string, unknown>>(): Shape
}

/** Asks over a real connection. A body given as pieces goes out chunked. */
export function ask(
  url: string,
  method = 'GET',
  body?: Uint8Array | AsyncIterable<Uint8Array> | string,
  headers: Record<string, string> = {},
  options: RequestOptions = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const isWhole = typeof body === 'string' || body instanceof Uint8Array
    const length: Record<string, string> = isWhole ? { 'content-length': String(Buffer.byteLength(body)) } : {}
    const message = httpRequest(url, { method, headers: { ...length, ...headers }, agent: false, ...options })
    message.on('response', (response) => {
      const parts: Buffer[] = []
      response.on('data', (part: Buffer) => parts.push(part))
      response.on('error', reject)
      response.on('end', () => {
        const whole = Buffer.concat(parts)
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body: whole,
          json: <Shape>() => JSON.parse(whole.toString()) as Shape,
        })
      })
    })
    message.on('error', reject)
    if (body === undefined || isWhole) message.end(body)
    else void send(message, body).catch(reject)
  })
}

async function send(message: ReturnType<typeof httpRequest>, pieces: AsyncIterable<Uint8Array>): Promise<void> {
  for await (const piece of pieces) {
    if (message.destroyed || message.errored !== null) return
    if (!message.write(piece)) await drained(message)
  }
  message.end()
}

function drained(message: ReturnType<typeof httpRequest>): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      message.off('drain', done).off('close', done)
      resolve()
    }
    message.on('drain', done).on('close', done)
  })
}

export const binary = { 'content-type': 'application/octet-stream' }

/** Creates an image and returns its id. */
export async function createImage(url: string, attributes: Record<string, unknown> = {}): Promise<string> {
  const body = JSON.stringify({ disk_format: 'raw', container_format: 'bare', ...attributes })
  const answer = await ask(`${url}/v2/images`, 'POST', body, { 'content-type': 'application/json' })
  if (answer.status !== 201) throw new Error(`${answer.status} ${answer.body}`)
  return answer.json<{ id: string }>().id
}

export interface ImageDocument {
  id: string
  name: string | null
  status: string
  size: number | null
  virtual_size: number | null
  checksum: string | null
  os_hash_value: string | null
  tags: string[]
  [name: string]: unknown
}

/** The image as the API shows it. */
export async function showImage(url: string, id: string): Promise<ImageDocument> {
  return (await ask(`${url}/v2/images/${id}`)).json<ImageDocument>()
}

/** Uploads image data. */
export function upload(
  url: string,
  id: string,
  body: Uint8Array | AsyncIterable<Uint8Array>,
  headers: Record<string, string> = {},
): Promise<Answer> {
  return ask(`${url}/v2/images/${id}/file`, 'PUT', body, { ...binary, ...headers })
}

/** The file that keeps an image's data, in a service with one store. */
export function dataFile({ data }: Pick<Subject, 'data'>, id: string): string {
  const images = join(data, 'store', 'images')
  const name = readdirSync(images).find((file) => file.startsWith(id))
  if (name === undefined) throw new Error(`there is no data of image ${id}`)
  return join(images, name)
}
