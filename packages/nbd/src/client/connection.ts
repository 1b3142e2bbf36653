/** One connection in its transmission phase: requests go out as they come, replies come back in any order. */
import { MoraineError } from '@moraine/engine'
import type { Link } from '../transport/connect.ts'
import { command, requestBytes, requestMagic } from '../wire/constants.ts'
import { writeU64 } from '../wire/integers.ts'
import type { Agreement } from './negotiate.ts'
import { ReplyReader } from './reply-reader.ts'
import { type Order, Request } from './request.ts'

/** Requests that a server has at once; QEMU's server takes no more from one connection. */
const mostRequests = 16

/** So much of a reply counts as a sign of life. */
const progressBytes = 64 * 1024

/** How long a reply that is being received may hold up a cancellation, in milliseconds. */
const cancelPatience = 2000

/** A connection. Requests fail all together when it breaks. */
export class Connection {
  readonly agreement: Agreement
  readonly #link: Link
  readonly #name: string
  readonly #requests = new Map<number, Request>()
  readonly #queue: (() => void)[] = []
  #running = 0
  #cookie = 1
  #broken: MoraineError | undefined
  #closing = false
  /** What was received, and when there was progress last. */
  #seen = 0
  #progress = 0
  readonly #timeout: number
  readonly #watch: NodeJS.Timeout

  /** `timeout`: milliseconds without progress after which a server that owes a reply is given up. */
  constructor(link: Link, agreement: Agreement, { name, timeout }: { name: string; timeout: number }) {
    this.#link = link
    this.agreement = agreement
    this.#name = name
    this.#timeout = timeout
    this.#watch = setInterval(() => this.#look(), Math.min(1000, Math.ceil(timeout / 4)))
    this.#watch.unref()
    const reader = new ReplyReader(link.receiver, agreement, name, {
      find: (cookie) => this.#requests.get(cookie),
      done: (cookie) => this.#done(cookie),
    })
    reader.run().catch((error: unknown) => this.#break(error))
  }

  /** Requests that were sent or wait to be. */
  get load(): number {
    return this.#running + this.#queue.length
  }

  /** Why it is of no more use; undefined as long as it is. */
  get broken(): MoraineError | undefined {
    return this.#broken
  }

  /** Sends a request and waits for its reply. The buffers of the order are untouched by this connection from then on.
   *  @throws MoraineError `io` (with the server's code, or `ECONNRESET`, `ETIMEDOUT`), `denied`, `unsupported`, `corrupt`, `cancelled`. */
  async send(order: Order, signal?: AbortSignal): Promise<Request> {
    if (this.#running >= mostRequests) await new Promise<void>((resolve) => this.#queue.push(resolve))
    else this.#running++
    try {
      if (signal?.aborted) throw this.#cancelled(signal)
      if (this.#broken !== undefined) throw this.#broken
      return await this.#sent(order, signal)
    } finally {
      const next = this.#queue.shift()
      if (next === undefined) this.#running--
      else next()
    }
  }

  async #sent(order: Order, signal: AbortSignal | undefined): Promise<Request> {
    const request = new Request(order)
    const cookie = this.#cookie++
    if (this.#requests.size === 0) this.#progress = Date.now()
    this.#requests.set(cookie, request)
    this.#transmit(cookie, request)
    const cancel = () => this.#cancel(cookie, request, signal)
    signal?.addEventListener('abort', cancel, { once: true })
    try {
      await request.promise
      return request
    } finally {
      signal?.removeEventListener('abort', cancel)
    }
  }

  #transmit(cookie: number, request: Request): void {
    const { type, flags, offset, length, payload } = request.order
    const header = Buffer.allocUnsafe(requestBytes)
    header.writeUInt32BE(requestMagic, 0)
    header.writeUInt16BE(flags, 4)
    header.writeUInt16BE(type, 6)
    writeU64(header, cookie, 8)
    writeU64(header, offset, 16)
    header.writeUInt32BE(length, 24)
    const { socket } = this.#link
    if (payload === undefined || payload.length === 0) {
      socket.write(header)
      return
    }
    request.busy = true
    socket.cork()
    socket.write(header)
    socket.write(payload, () => {
      request.busy = false
    })
    socket.uncork()
  }

  /** Gives a request up. The server still answers it; but as long as the socket uses its buffer, the caller must not get it back. */
  #cancel(cookie: number, request: Request, signal: AbortSignal | undefined): void {
    request.abandoned = true
    const error = this.#cancelled(signal)
    if (!request.busy) {
      request.fail(error)
      return
    }
    request.note(error)
    const { payload } = request.order
    const timer = setTimeout(() => {
      if (this.#requests.get(cookie) !== request) return
      request.fail(error)
      const reason = 'the connection was given up with a request that was cancelled'
      this.#break(new MoraineError('io', reason, { path: this.#name, code: 'ECONNRESET' }))
    }, cancelPatience)
    const end = () => clearTimeout(timer)
    request.promise.then(end, end)
    // Once a payload has been sent its buffer is free; no need to wait for the answer.
    if (payload !== undefined) this.#link.socket.write(Buffer.alloc(0), () => request.fail(error))
  }

  #cancelled(signal: AbortSignal | undefined): MoraineError {
    return new MoraineError('cancelled', 'the operation was cancelled', { path: this.#name, cause: signal?.reason })
  }

  #done(cookie: number): void {
    const request = this.#requests.get(cookie)
    this.#requests.delete(cookie)
    this.#progress = Date.now()
    request?.finish()
  }

  /** A server that owes something must give signs of life. */
  #look(): void {
    if (this.#requests.size === 0) return
    const { received } = this.#link.receiver
    if (received - this.#seen >= progressBytes) {
      this.#seen = received
      this.#progress = Date.now()
    }
    if (Date.now() - this.#progress < this.#timeout) return
    this.#break(
      new MoraineError('io', `the server was silent for ${this.#timeout / 1000} s`, {
        path: this.#name,
        code: 'ETIMEDOUT',
      }),
    )
  }

  #break(cause: unknown): void {
    if (this.#broken !== undefined) return
    const error =
      cause instanceof MoraineError
        ? cause
        : new MoraineError('io', 'the connection broke', { path: this.#name, code: 'ECONNRESET', cause })
    this.#broken = error
    clearInterval(this.#watch)
    this.#link.receiver.fail(error)
    this.#link.socket.destroy()
    for (const request of this.#requests.values()) request.fail(error)
    this.#requests.clear()
  }

  /** Says goodbye and closes. What is still under way fails. */
  async close(): Promise<void> {
    if (this.#closing) return
    this.#closing = true
    clearInterval(this.#watch)
    const { socket } = this.#link
    if (this.#broken === undefined && this.#requests.size === 0) {
      // The reader's error is the end that is wanted.
      this.#broken = new MoraineError('io', 'the connection was closed', { path: this.#name, code: 'EBADF' })
      const header = Buffer.alloc(requestBytes)
      header.writeUInt32BE(requestMagic, 0)
      header.writeUInt16BE(command.disconnect, 6)
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 1000)
        socket.end(header, () => {
          clearTimeout(timer)
          resolve()
        })
        socket.once('close', resolve)
      })
    } else this.#break(new MoraineError('io', 'the connection was closed', { path: this.#name, code: 'EBADF' }))
    socket.destroy()
  }
}
