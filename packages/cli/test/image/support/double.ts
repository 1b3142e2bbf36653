/** A stand-in for an image service and its Keystone that breaks where a test says. What real ones do is tested with real ones. */
import { createHash } from 'node:crypto'
import { createServer, type Server as HttpServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { Readable } from 'node:stream'
import { DataStore, Server as TusServer, Upload } from '@tus/server'
import { afterAll } from 'vitest'

export interface DoubleImage {
  document: Record<string, unknown>
  data: Buffer
}

/** A request as it came. */
export interface Seen {
  method: string
  path: string
  headers: IncomingMessage['headers']
}

export interface Double {
  url: string
  images: Map<string, DoubleImage>
  seen: Seen[]
  /** Tokens that are good; empty: nobody is asked. */
  tokens: Set<string>
  logins: number
  /** Answers a request itself, and says so by returning true. */
  instead: ((request: IncomingMessage, response: ServerResponse, path: string) => boolean) | undefined
  /** Closes the connection of a download after so many bytes, once for each entry. */
  cuts: number[]
  /** Downloads send so many bytes, and then nothing until their connection is closed. */
  holdsAt: number | undefined
  /** What downloads have as ETag. */
  etag: string | undefined
  /** What exports are, whatever is asked for; without one there are none. */
  exported: Buffer | undefined
  /** Whether a Range is looked at. */
  ranges: boolean
  /** Closes the connection of an upload by tus after so many bytes, once for each entry. */
  tusCuts: number[]
  /** Resolves when uploads have brought so many bytes. */
  received(bytes: number): Promise<void>
  /** Puts an active image there. */
  add(id: string, name: string, data: Buffer, more?: Record<string, unknown>): void
}

/** Gives a function that starts such a service; all are stopped after the tests. */
export function doubles(): () => Promise<Double> {
  const servers: HttpServer[] = []
  afterAll(() => {
    for (const server of servers) server.close().closeAllConnections()
  })
  return async () => {
    const server = createServer((request, response) => {
      answer(double, uploads, request, response).catch((error: unknown) => response.writeHead(500).end(String(error)))
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    servers.push(server)
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const uploads = new MemoryUploads()
    const double: Double = {
      url,
      images: new Map(),
      seen: [],
      tokens: new Set(),
      logins: 0,
      instead: undefined,
      cuts: [],
      holdsAt: undefined,
      etag: undefined,
      exported: undefined,
      ranges: true,
      tusCuts: uploads.cuts,
      received: (bytes) => uploads.count.reach(bytes),
      add(id, name, data, more = {}) {
        const document = {
          id,
          name,
          status: 'active',
          visibility: 'shared',
          disk_format: 'raw',
          container_format: 'bare',
          tags: [],
          ...facts(data),
          ...more,
        }
        double.images.set(id, { document, data })
      },
    }
    return double
  }
}

class Counter {
  private count = 0
  private waiting: { at: number; resolve: () => void }[] = []

  add(bytes: number): void {
    this.count += bytes
    for (const { at, resolve } of this.waiting) if (this.count >= at) resolve()
  }

  reach(at: number): Promise<void> {
    return new Promise((resolve) => {
      this.waiting.push({ at, resolve })
      this.add(0)
    })
  }
}

function facts(data: Buffer): Record<string, unknown> {
  const hash = (name: string) => createHash(name).update(data).digest('hex')
  return { size: data.length, checksum: hash('md5'), os_hash_algo: 'sha512', os_hash_value: hash('sha512') }
}

async function answer(
  double: Double,
  uploads: MemoryUploads,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const url = new URL(request.url ?? '/', double.url)
  const path = url.pathname
  const method = request.method ?? ''
  double.seen.push({ method, path: path + url.search, headers: request.headers })
  const send = (status: number, body?: unknown, headers = {}): void => {
    request.resume()
    response.writeHead(status, { 'content-type': 'application/json', ...headers })
    response.end(body === undefined ? undefined : JSON.stringify(body))
  }
  if (double.instead?.(request, response, path) === true) return
  if (path === '/v3/auth/tokens') {
    const token = `token-${++double.logins}`
    double.tokens.add(token)
    const endpoint = { interface: 'public', region_id: 'one', url: double.url }
    return send(
      201,
      { token: { expires_at: '2999-01-01T00:00:00Z', catalog: [{ type: 'image', endpoints: [endpoint] }] } },
      { 'x-subject-token': token },
    )
  }
  if (double.tokens.size > 0 && !double.tokens.has(String(request.headers['x-auth-token']))) {
    return send(401, { message: 'who are you?' })
  }
  const [, , , id = '', what = ''] = path.split('/')
  if (what === 'tus') return await handleTus(double, uploads, id, request, response)
  if (id === '') return await collection(double, method, url, request, send)
  const image = double.images.get(id)
  if (image === undefined) return send(404, { message: `no image ${id}` })
  if (what === '' && method === 'GET') return send(200, image.document)
  if (what === '' && method === 'DELETE') {
    double.images.delete(id)
    return send(204)
  }
  if (what === 'export' && double.exported !== undefined)
    return await download(double, { ...image, data: double.exported }, request, response)
  if (what === 'tasks') return send(200, { tasks: [] })
  if (what === 'file' && method === 'GET') return await download(double, image, request, response)
  if (what === 'file' && method === 'PUT') {
    fill(image, await wholeBody(request))
    return send(204)
  }
  send(404, { message: 'nothing here' })
}

async function wholeBody(request: IncomingMessage): Promise<Buffer> {
  const parts: Buffer[] = []
  for await (const part of request as AsyncIterable<Buffer>) parts.push(part)
  return Buffer.concat(parts)
}

function fill(image: DoubleImage, data: Buffer): void {
  image.data = data
  Object.assign(image.document, facts(data), { status: 'active' })
}

async function collection(
  double: Double,
  method: string,
  url: URL,
  request: IncomingMessage,
  send: (status: number, body?: unknown) => void,
): Promise<void> {
  if (method === 'POST') {
    const given = JSON.parse((await wholeBody(request)).toString())
    const id = given.id ?? crypto.randomUUID()
    const document = { tags: [], visibility: 'shared', size: null, checksum: null, status: 'queued', ...given, id }
    double.images.set(id, { document, data: Buffer.alloc(0) })
    return send(201, document)
  }
  const name = url.searchParams.get('name')
  const images = [...double.images.values()]
    .map(({ document }) => document)
    .filter((one) => name === null || one.name === name)
  send(200, { images })
}

async function download(
  double: Double,
  image: DoubleImage,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const { data } = image
  const range = double.ranges ? /^bytes=(\d+)-$/.exec(request.headers.range ?? '') : null
  const condition = request.headers['if-range']
  const start = range !== null && (condition === undefined || condition === double.etag) ? Number(range[1]) : 0
  const isPart = start > 0
  response.writeHead(isPart ? 206 : 200, {
    'content-type': 'application/octet-stream',
    'content-length': data.length - start,
    ...(double.etag !== undefined && { etag: double.etag }),
    ...(isPart && { 'content-range': `bytes ${start}-${data.length - 1}/${data.length}` }),
  })
  const cut = double.cuts.shift()
  const step = 65_536
  for (let at = start; at < data.length; at += step) {
    if (cut !== undefined && at - start >= cut) return void response.destroy()
    if (double.holdsAt !== undefined && at - start >= double.holdsAt)
      return void (await new Promise((resolve) => response.once('close', resolve)))
    const piece = data.subarray(at, at + step)
    const drained = response.write(piece)
    if (!drained) await drain(response)
    if (response.destroyed) return
    // Lets a test act while a transfer goes on.
    await new Promise((resolve) => setImmediate(resolve))
  }
  response.end()
}

function drain(response: ServerResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      response.off('drain', done).off('close', done)
      resolve()
    }
    response.on('drain', done).on('close', done)
  })
}

/** An independent implementation of the protocol, in front of memory. */
async function handleTus(
  double: Double,
  uploads: MemoryUploads,
  id: string,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const image = double.images.get(id)
  if (image === undefined) return void response.writeHead(404).end()
  uploads.onEnd.set(id, (data) => fill(image, data))
  const server = new TusServer({
    path: `/v2/images/${id}/tus`,
    datastore: uploads,
    namingFunction: () => `${id}-upload`,
    generateUrl: (_request, { path, id: upload }) => `http://elsewhere.invalid${path}/${upload}`,
  })
  await server.handle(request, response)
}

class MemoryUploads extends DataStore {
  readonly cuts: number[] = []
  readonly count = new Counter()
  readonly onEnd = new Map<string, (data: Buffer) => void>()
  private readonly kept = new Map<string, { upload: Upload; data: Buffer[] }>()

  constructor() {
    super()
    this.extensions = ['creation']
  }

  override async create(upload: Upload): Promise<Upload> {
    this.kept.set(upload.id, { upload, data: [] })
    return upload
  }

  override async getUpload(id: string): Promise<Upload> {
    const found = this.kept.get(id)
    if (found === undefined) throw { status_code: 404, body: 'not here' }
    const offset = found.data.reduce((sum, part) => sum + part.length, 0)
    return new Upload({ id, size: found.upload.size ?? 0, offset })
  }

  override async write(stream: Readable, id: string, offset: number): Promise<number> {
    const data = this.kept.get(id)?.data ?? []
    const cut = this.cuts.shift()
    let at = offset
    for await (const part of stream as AsyncIterable<Buffer>) {
      data.push(Buffer.from(part))
      at += part.length
      this.count.add(part.length)
      if (cut !== undefined && at - offset >= cut) throw new Error('cut by the test')
    }
    if (at === this.kept.get(id)?.upload.size) this.onEnd.get(id.replace('-upload', ''))?.(Buffer.concat(data))
    return at
  }
}
