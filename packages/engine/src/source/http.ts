/** A resource over HTTP as a source: ranges by fetch, in Node and in browsers. Facts: RFC 9110 (ranges, validators, content codings). */
import { type ByteSource, type Extent, MoraineError } from '../core/index.ts'
import { BodyReader } from './http-body.ts'
import { type Facts, factsOf, HttpClient, type HttpOptions } from './http-client.ts'
import { allData, checkRange } from './range.ts'

export type { HttpOptions } from './http-client.ts'

/** Opens a resource: one HEAD request, or one GET of its first byte where HEAD is refused or says no length.
 *  @throws MoraineError `missing` (404, 410), `denied` (401, 403), `unsupported` when the server tells no length, `io`, `cancelled`. */
export async function openHttp(
  url: string | URL,
  options: HttpOptions = {},
  signal?: AbortSignal,
): Promise<ByteSource> {
  const client = new HttpClient(url, options)
  const facts = await askHead(client, signal)
  return new HttpSource(client, facts ?? (await askFirstByte(client, signal)), options)
}

async function askHead(client: HttpClient, signal: AbortSignal | undefined): Promise<Facts | undefined> {
  // Some servers know only GET, and a signed address is often signed for GET alone: whatever HEAD says against it, GET decides.
  const response = await client.request('HEAD', undefined, signal)
  if (!response.ok) return undefined
  const coding = response.headers.get('content-encoding')
  const facts = factsOf(response)
  // The length of a compressed answer is not that of the bytes.
  if (facts.size === undefined || (coding !== null && coding !== 'identity')) return undefined
  return facts
}

async function askFirstByte(client: HttpClient, signal: AbortSignal | undefined): Promise<Facts> {
  const { response, stop } = await client.get(0, 1, signal)
  const facts = factsOf(response)
  // One byte is sooner read than its connection given up; all of the resource is not.
  if (response.status === 206) await response.arrayBuffer().catch(() => {})
  stop()
  // 416: there is no first byte.
  if (response.status === 416) return { ...facts, size: facts.size ?? 0 }
  if (facts.size === undefined) {
    throw new MoraineError('unsupported', 'the server does not tell the length of the resource', {
      path: client.name,
      field: response.status === 206 ? 'Content-Range' : 'Content-Length',
    })
  }
  return facts
}

interface Reading {
  offset: number
  into: Uint8Array
  signal: AbortSignal | undefined
  /** Bytes that have come. */
  filled: number
  settled: boolean
  resolve(): void
  reject(error: unknown): void
}

/** One opened resource. */
class HttpSource implements ByteSource {
  readonly name: string
  readonly size: number
  readonly identity: string
  readonly #client: HttpClient
  readonly #first: Facts
  readonly #gap: number
  readonly #mostBytes: number
  readonly #skipLimit: number
  #ranges: boolean
  #waiting: Reading[] = []
  /** Without ranges: the one answer that is read front to back, and whose turn it is. */
  #stream: { body: BodyReader; at: number; stop(): void } | undefined
  #turn: Promise<void> = Promise.resolve()

  constructor(client: HttpClient, facts: Facts, options: HttpOptions) {
    this.#client = client
    this.#first = facts
    this.name = client.name
    this.identity = client.name
    this.size = facts.size ?? 0
    this.#ranges = facts.ranges
    this.#gap = options.gapBytes ?? 32 * 1024
    this.#mostBytes = options.requestBytes ?? 8 * 1024 * 1024
    this.#skipLimit = options.skipBytes ?? 64 * 1024 * 1024
  }

  async read(offset: number, into: Uint8Array, signal?: AbortSignal): Promise<void> {
    checkRange(this.name, this.size, offset, into.length, signal)
    if (into.length === 0) return
    await new Promise<void>((resolve, reject) => {
      this.#waiting.push({ offset, into, signal, filled: 0, settled: false, resolve, reject })
      // Reads asked for in one go are put together before anything is sent.
      if (this.#waiting.length === 1) queueMicrotask(() => this.#send())
    })
  }

  extents(offset: number, length: number, signal?: AbortSignal): AsyncIterable<Extent[]> {
    return allData(this, offset, length, signal)
  }

  async close(): Promise<void> {
    this.#endStream()
  }

  #send(): void {
    const readings = this.#waiting.sort((a, b) => a.offset - b.offset)
    this.#waiting = []
    if (!this.#ranges) {
      for (const reading of readings) this.#inTurn(reading)
      return
    }
    let group: Reading[] = []
    let start = 0
    let end = 0
    for (const reading of readings) {
      const stop = reading.offset + reading.into.length
      if (group.length > 0 && (reading.offset > end + this.#gap || Math.max(end, stop) - start > this.#mostBytes)) {
        void this.#fetch(group, start, end)
        group = []
      }
      if (group.length === 0) {
        start = reading.offset
        end = stop
      }
      group.push(reading)
      end = Math.max(end, stop)
    }
    if (group.length > 0) void this.#fetch(group, start, end)
  }

  /** One request for `[start, end)`; its bytes go straight to those who wait for them. */
  async #fetch(group: Reading[], start: number, end: number): Promise<void> {
    const abort = new AbortController()
    const listeners = group.map((reading) => {
      const listener = () => {
        settle(reading, this.#cancelled(reading.signal))
        if (group.every((other) => other.settled)) abort.abort()
      }
      reading.signal?.addEventListener('abort', listener, { once: true })
      return listener
    })
    try {
      for (let attempt = 0; ; attempt++) {
        const missing = Math.min(
          ...group.filter(({ settled }) => !settled).map(({ offset, filled }) => offset + filled),
        )
        if (missing === Number.POSITIVE_INFINITY) return
        try {
          await this.#fetchOnce(group, Math.max(start, missing), end, abort.signal)
          return
        } catch (error) {
          // A connection that broke is taken up again where it broke.
          if (!this.#client.mayRetry(error, attempt)) throw error
          await this.#client.pause(attempt, abort.signal)
        }
      }
    } catch (error) {
      for (const reading of group) settle(reading, error)
    } finally {
      for (const [i, reading] of group.entries()) {
        const listener = listeners[i]
        if (listener !== undefined) reading.signal?.removeEventListener('abort', listener)
      }
    }
  }

  async #fetchOnce(group: Reading[], start: number, end: number, signal: AbortSignal): Promise<void> {
    const { response, stop } = await this.#client.get(start, end - start, signal)
    try {
      this.#refuseChange(factsOf(response), start)
      if (response.status === 200) {
        // The server ignores ranges: from here on all is read front to back.
        this.#ranges = false
        stop()
        for (const reading of group) if (!reading.settled) this.#inTurn({ ...reading, filled: 0 })
        return
      }
      this.#refuseOtherRange(response, start, end - start)
      await this.#scatter(new BodyReader(response, this.name, this.#client.timeout), group, start, end)
    } finally {
      stop()
    }
  }

  async #scatter(body: BodyReader, group: Reading[], start: number, end: number): Promise<void> {
    let at = start
    while (at < end) {
      const chunk = await body.next(at)
      if (chunk === undefined) throw this.#client.broken(at)
      const stop = at + chunk.length
      for (const reading of group) {
        const wanted = reading.offset + reading.filled
        const last = reading.offset + reading.into.length
        if (reading.settled || wanted < at || wanted >= stop) continue
        const part = chunk.subarray(wanted - at, Math.min(chunk.length, last - at))
        reading.into.set(part, reading.filled)
        reading.filled += part.length
        if (reading.filled === reading.into.length) settle(reading)
      }
      at = stop
      if (at < end && group.every(({ settled }) => settled)) return
    }
    // Seen to its end, so that the connection can be used again.
    await body.next(end)
  }

  #refuseOtherRange(response: Response, start: number, length: number): void {
    const range = response.headers.get('content-range')
    const begins = /^bytes (\d+)-/.exec(range ?? '')?.[1]
    // A browser hides this header from other sites unless the server allows it; then the length has to do.
    const fits =
      range === null
        ? Number(response.headers.get('content-length') ?? length) === length
        : begins !== undefined && Number(begins) === start
    if (response.status === 206 && fits) return
    throw new MoraineError('io', 'the server answered with another range than was asked for', {
      path: this.name,
      offset: start,
      field: 'Content-Range',
      value: range ?? 'none',
      code: 'EIO',
    })
  }

  #inTurn(reading: Reading): void {
    this.#turn = this.#turn.then(async () => {
      const { signal } = reading
      const leave = () => this.#endStream()
      signal?.addEventListener('abort', leave, { once: true })
      try {
        await this.#readStream(reading)
        settle(reading)
      } catch (error) {
        this.#endStream()
        settle(reading, signal?.aborted ? this.#cancelled(signal) : error)
      } finally {
        signal?.removeEventListener('abort', leave)
      }
    })
  }

  #endStream(): void {
    this.#stream?.stop()
    this.#stream = undefined
  }

  /** Reads on in the open answer, or in a new one when the place was passed, throwing away what lies before. */
  async #readStream(reading: Reading): Promise<void> {
    if (reading.signal?.aborted) throw this.#cancelled(reading.signal)
    if (this.#stream === undefined || this.#stream.at > reading.offset) {
      this.#endStream()
      this.#refuseSkip(0, reading.offset)
      const { response, stop } = await this.#client.get(undefined, undefined, undefined)
      this.#stream = { body: new BodyReader(response, this.name, this.#client.timeout), at: 0, stop }
      this.#refuseChange(factsOf(response), reading.offset)
      if (reading.signal?.aborted) throw this.#cancelled(reading.signal)
    }
    const stream = this.#stream
    this.#refuseSkip(stream.at, reading.offset)
    while (reading.filled < reading.into.length) {
      const chunk = await stream.body.next(stream.at)
      if (chunk === undefined) throw this.#client.broken(stream.at)
      const wanted = reading.offset + reading.filled
      const skip = Math.min(chunk.length, wanted - stream.at)
      const part = chunk.subarray(skip, skip + reading.into.length - reading.filled)
      reading.into.set(part, reading.filled)
      reading.filled += part.length
      // What is left of the chunk is for the next read.
      stream.body.unread(chunk.subarray(skip + part.length))
      stream.at += skip + part.length
    }
  }

  #refuseSkip(at: number, offset: number): void {
    if (offset - at <= this.#skipLimit) return
    throw new MoraineError('unsupported', 'the server does not give ranges of this resource', {
      path: this.name,
      offset,
      rule: `at most ${this.#skipLimit} bytes are fetched to be thrown away`,
      hint: 'Download the file first, or serve it from a server that supports range requests.',
    })
  }

  /** Two reads of a resource must see the same bytes: the validators and the length of every answer are compared with the first.
   *  @throws MoraineError `io`. */
  #refuseChange(now: Facts, offset: number): void {
    const first = this.#first
    const compared = [
      // Whether a validator is weak may differ between HEAD and GET of the same bytes.
      ['ETag', first.etag?.replace(/^W\//, ''), now.etag?.replace(/^W\//, '')],
      // Behind one address may stand several servers with clocks of their own: an equal ETag is enough.
      ['Last-Modified', first.etag === undefined ? first.modified : undefined, now.modified],
      ['Content-Length', first.size, now.size],
    ] as const
    for (const [field, before, after] of compared) {
      if (before === undefined || after === undefined || before === after) continue
      throw new MoraineError('io', 'the resource changed while it was read', {
        path: this.name,
        offset,
        field,
        value: after,
        rule: `${before}, as at the first request`,
        code: 'ESTALE',
      })
    }
  }

  #cancelled(signal: AbortSignal | undefined): MoraineError {
    return new MoraineError('cancelled', 'the operation was cancelled', { path: this.name, cause: signal?.reason })
  }
}

function settle(reading: Reading, error?: unknown): void {
  if (reading.settled) return
  reading.settled = true
  if (error === undefined) reading.resolve()
  else reading.reject(error)
}
