/** Reads replies from a server that is not trusted: each must belong to a request, fit it, and come to its end. */
import { MoraineError } from '@moraine/engine'
import type { Receiver } from '../transport/receiver.ts'
import {
  chunk,
  chunkDone,
  chunkHeaderBytes,
  command,
  simpleReplyBytes,
  simpleReplyMagic,
  stringBytes,
  structuredReplyMagic,
} from '../wire/constants.ts'
import { readU64 } from '../wire/integers.ts'
import type { Agreement } from './negotiate.ts'
import { printable } from './options.ts'
import { type Request, type StatusRun, serverError } from './request.ts'

/** Most bytes of a chunk that is not data. QEMU's server sends up to 128 Ki extents of 8 bytes. */
const chunkBytes = 2 * 1024 * 1024

const discardBytes = 64 * 1024

/** The requests under way, by cookie. */
export interface RequestTable {
  find(cookie: number): Request | undefined
  done(cookie: number): void
}

interface Chunk {
  cookie: number
  request: Request
  done: boolean
  type: number
  length: number
}

/** The reader of one connection. */
export class ReplyReader {
  readonly #receiver: Receiver
  readonly #agreement: Agreement
  readonly #name: string
  readonly #table: RequestTable
  readonly #header = Buffer.alloc(chunkHeaderBytes)
  readonly #small = Buffer.alloc(8)
  readonly #discard = Buffer.alloc(discardBytes)

  constructor(receiver: Receiver, agreement: Agreement, name: string, table: RequestTable) {
    this.#receiver = receiver
    this.#agreement = agreement
    this.#name = name
    this.#table = table
  }

  /** Reads until the connection ends.
   *  @throws MoraineError `io` at its end, `corrupt` for what breaks the protocol. */
  async run(): Promise<never> {
    const start = this.#header.subarray(0, simpleReplyBytes)
    const rest = this.#header.subarray(simpleReplyBytes)
    for (;;) {
      await this.#receiver.fill(start)
      const magic = start.readUInt32BE(0)
      if (magic === simpleReplyMagic) await this.#simple()
      else if (magic === structuredReplyMagic && this.#agreement.structured) {
        await this.#receiver.fill(rest)
        await this.#structured()
      } else throw this.#corrupt('invalid magic in a reply', 'magic', `0x${magic.toString(16)}`, 'that of a reply')
    }
  }

  #corrupt(reason: string, field: string, value: number | string, rule: string): MoraineError {
    return new MoraineError('corrupt', reason, { path: this.#name, field, value, rule })
  }

  #find(at: number): { cookie: number; request: Request } {
    const cookie = readU64(this.#header, at)
    const request = this.#table.find(cookie)
    if (request === undefined) {
      throw this.#corrupt('Unexpected reply', 'cookie', cookie, 'that of a request which waits for a reply')
    }
    return { cookie, request }
  }

  async #simple(): Promise<void> {
    const { cookie, request } = this.#find(8)
    const { order } = request
    const error = this.#header.readUInt32BE(4)
    if (
      this.#agreement.structured &&
      (order.type === command.read || order.type === command.blockStatus) &&
      error === 0
    ) {
      throw this.#corrupt(
        'Protocol error: simple reply when structured reply chunk was expected',
        'type',
        order.type,
        'chunks',
      )
    }
    if (error !== 0) request.note(serverError(this.#name, order, error))
    else if (order.into !== undefined) {
      request.coverage.add(0, order.length)
      await this.#data(request, 0, order.length)
    }
    this.#table.done(cookie)
  }

  async #structured(): Promise<void> {
    const { cookie, request } = this.#find(8)
    const head: Chunk = {
      cookie,
      request,
      done: (this.#header.readUInt16BE(4) & chunkDone) !== 0,
      type: this.#header.readUInt16BE(6),
      length: this.#header.readUInt32BE(16),
    }
    await this.#chunk(head)
    if (!head.done) return
    this.#checkEnd(request)
    this.#table.done(cookie)
  }

  async #chunk(head: Chunk): Promise<void> {
    switch (head.type) {
      case chunk.none:
        if (head.length !== 0 || !head.done)
          throw this.#corrupt('Protocol error: NONE chunk', 'length', head.length, '0, and the last')
        return
      case chunk.offsetData:
        return await this.#offsetData(head)
      case chunk.offsetHole:
        return await this.#offsetHole(head)
      case chunk.blockStatus:
        return await this.#blockStatus(head)
      default:
        if ((head.type & 0x8000) === 0) {
          throw this.#corrupt('Protocol error: unknown type of chunk', 'type', head.type, 'one that was agreed upon')
        }
        return await this.#error(head)
    }
  }

  async #offsetData({ request, length }: Chunk): Promise<void> {
    if (length <= 8) throw this.#corrupt('Protocol error: data chunk', 'length', length, 'more than 8')
    const start = await this.#place(request, length - 8)
    await this.#data(request, start, length - 8)
  }

  async #offsetHole({ request, length }: Chunk): Promise<void> {
    if (length !== 12) throw this.#corrupt('Protocol error: hole chunk', 'length', length, '12')
    await this.#receiver.fill(this.#small)
    const offset = readU64(this.#small, 0)
    const size = this.#small.subarray(0, 4)
    await this.#receiver.fill(size)
    const bytes = size.readUInt32BE(0)
    const start = this.#cover(request, offset, bytes)
    if (!request.abandoned) request.order.into?.fill(0, start, start + bytes)
  }

  /** Reads the offset of a chunk of `bytes` of data; where it begins in the buffer. */
  async #place(request: Request, bytes: number): Promise<number> {
    await this.#receiver.fill(this.#small)
    return this.#cover(request, readU64(this.#small, 0), bytes)
  }

  #cover(request: Request, offset: number, bytes: number): number {
    const { order } = request
    const start = offset - order.offset
    if (order.into === undefined)
      throw this.#corrupt('Protocol error: data for a request that reads none', 'offset', offset, 'none')
    if (!request.coverage.add(start, start + bytes)) {
      throw this.#corrupt(
        'Protocol error: server sent chunk exceeding requested region, or twice',
        'offset',
        offset,
        `${bytes} bytes within ${order.length} at ${order.offset}, each once`,
      )
    }
    return start
  }

  /** Receives data into a request's buffer, or nowhere. */
  async #data(request: Request, start: number, length: number): Promise<void> {
    const { into } = request.order
    if (into === undefined || request.abandoned) return await this.#skip(length)
    request.busy = true
    await this.#receiver.fill(into.subarray(start, start + length))
    request.busy = false
  }

  async #skip(length: number): Promise<void> {
    for (let left = length; left > 0; left -= discardBytes) {
      await this.#receiver.fill(this.#discard.subarray(0, Math.min(left, discardBytes)))
    }
  }

  async #blockStatus({ request, length }: Chunk): Promise<void> {
    const { order } = request
    if (order.type !== command.blockStatus) {
      throw this.#corrupt(
        'Protocol error: block status for another request',
        'type',
        order.type,
        String(command.blockStatus),
      )
    }
    if (length < 12 || length % 8 !== 4 || length > chunkBytes) {
      throw this.#corrupt(
        'Protocol error: block status',
        'length',
        length,
        `4 + 8 for each extent, at most ${chunkBytes}`,
      )
    }
    const bytes = Buffer.allocUnsafe(length)
    await this.#receiver.fill(bytes)
    const id = bytes.readUInt32BE(0)
    if (!this.#agreement.contexts.has(id))
      throw this.#corrupt('Protocol error: unexpected context', 'context', id, 'one that was chosen')
    if (request.status.has(id)) throw this.#corrupt('Protocol error: a context twice', 'context', id, 'once')
    request.status.set(id, this.#runs(bytes, order.length))
  }

  #runs(bytes: Buffer, asked: number): StatusRun[] {
    const runs: StatusRun[] = []
    let covered = 0
    for (let at = 4; at < bytes.length; at += 8) {
      const length = bytes.readUInt32BE(at)
      const flags = bytes.readUInt32BE(at + 4)
      if (length === 0 || length % this.#agreement.minimumBlock !== 0) {
        throw this.#corrupt(
          'Protocol error: server sent status chunk with invalid length',
          'length',
          length,
          `a multiple of ${this.#agreement.minimumBlock}`,
        )
      }
      if (covered >= asked) {
        throw this.#corrupt(
          'Protocol error: extents behind the requested region',
          'length',
          covered,
          `the last extent reaches ${asked}`,
        )
      }
      covered += length
      const last = runs[runs.length - 1]
      if (last !== undefined && last.flags === flags) last.length += length
      else runs.push({ length, flags })
    }
    return runs
  }

  async #error({ request, type, length }: Chunk): Promise<void> {
    if (length < 6 || length > stringBytes + 14) {
      throw this.#corrupt('Protocol error: error chunk', 'length', length, `6 to ${stringBytes + 14}`)
    }
    const bytes = Buffer.alloc(length)
    await this.#receiver.fill(bytes)
    const number = bytes.readUInt32BE(0)
    const text = bytes.readUInt16BE(4)
    const tail = type === chunk.errorOffset ? 8 : 0
    if (number === 0) throw this.#corrupt('Protocol error: error chunk without an error', 'error', 0, 'more than 0')
    if (6 + text + tail > length)
      throw this.#corrupt('Protocol error: message of an error chunk', 'length', text, `at most ${length - 6 - tail}`)
    const { order } = request
    let at = order.offset
    if (tail > 0) {
      at = readU64(bytes, 6 + text)
      if (at < order.offset || at >= order.offset + Math.max(1, order.length)) {
        throw this.#corrupt(
          'Protocol error: an error outside of the request',
          'offset',
          at,
          `${order.length} bytes at ${order.offset}`,
        )
      }
    }
    request.note(serverError(this.#name, { ...order, offset: at }, number, printable(bytes.subarray(6, 6 + text))))
  }

  /** Nothing may be missing in a reply that says it went well. */
  #checkEnd(request: Request): void {
    if (request.failed) return
    const { order, coverage, status } = request
    if (order.into !== undefined && !coverage.complete) {
      throw this.#corrupt(
        'Protocol error: data is missing in a reply',
        'length',
        order.length,
        'all that was asked for',
      )
    }
    if (order.type === command.blockStatus && status.size === 0) {
      throw this.#corrupt('Protocol error: no block status in a reply', 'context', 'none', 'at least one')
    }
  }
}
