/** The handshake of a server: fixed newstyle only, bounded in time, length and number of options. */
import type { Socket } from 'node:net'
import { MoraineError } from '@moraine/engine'
import { Receiver } from '../transport/receiver.ts'
import {
  bitmapContext,
  exportFlag,
  handshakeFlag,
  information,
  initialMagic,
  option,
  optionMagic,
  optionReply,
  optionReplyMagic,
  stringBytes,
  usualPayload,
} from '../wire/constants.ts'
import { writeU64 } from '../wire/integers.ts'
import type { Exported } from './exported.ts'
import { Sender } from './sender.ts'
import { acceptTls, type SpokenTls } from './tls.ts'

/** Longest option, and how many of them a client may send. */
const optionBytes = 64 * 1024
const mostOptions = 256

/** A client that has chosen an export. */
export interface Client {
  socket: Socket
  receiver: Receiver
  sender: Sender
  structured: boolean
  /** Contexts that it chose: numbers in the export's list. */
  contexts: number[]
}

/** Talks to one client until it has chosen its export. */
export class Handshake {
  readonly #exported: Exported
  readonly #tls: SpokenTls | undefined
  readonly #timeout: number
  #socket: Socket
  #receiver = new Receiver()
  #sender: Sender
  #secure = false
  #noZeroes = false
  #structured = false
  #contexts: number[] = []

  constructor(socket: Socket, exported: Exported, { tls, timeout }: { tls: SpokenTls | undefined; timeout: number }) {
    this.#socket = socket
    this.#exported = exported
    this.#tls = tls
    this.#timeout = timeout
    this.#sender = new Sender(socket, timeout)
    this.#receiver.attach(socket, 'client')
  }

  /** The client in its transmission phase; undefined when it left in order.
   *  @throws MoraineError when it broke the protocol, or was refused. */
  async run(): Promise<Client | undefined> {
    const greeting = Buffer.alloc(18)
    greeting.writeBigUInt64BE(initialMagic, 0)
    greeting.writeBigUInt64BE(optionMagic, 8)
    greeting.writeUInt16BE(handshakeFlag.fixedNewstyle | handshakeFlag.noZeroes, 16)
    await this.#sender.send(greeting)
    const flags = (await this.#take(4)).readUInt32BE(0)
    if ((flags & ~(handshakeFlag.fixedNewstyle | handshakeFlag.noZeroes)) !== 0) throw broken('flags', flags)
    if ((flags & handshakeFlag.fixedNewstyle) === 0) throw broken('flags', flags)
    this.#noZeroes = (flags & handshakeFlag.noZeroes) !== 0
    for (let count = 0; count < mostOptions; count++) {
      const header = await this.#take(16)
      if (header.readBigUInt64BE(0) !== optionMagic) throw broken('magic', `0x${header.toString('hex', 0, 8)}`)
      const length = header.readUInt32BE(12)
      if (length > optionBytes) throw broken('option length', length)
      const end = await this.#answer(header.readUInt32BE(8), await this.#take(length))
      if (end === 'left') return undefined
      if (end === 'chosen') return this.#client()
    }
    throw broken('options', mostOptions)
  }

  #client(): Client {
    return {
      socket: this.#socket,
      receiver: this.#receiver,
      sender: this.#sender,
      structured: this.#structured,
      contexts: this.#contexts,
    }
  }

  async #take(length: number): Promise<Buffer> {
    const bytes = Buffer.alloc(length)
    await this.#receiver.fill(bytes)
    return bytes
  }

  async #answer(id: number, data: Buffer): Promise<'chosen' | 'left' | undefined> {
    if (id === option.abort) {
      await this.#reply(id, optionReply.ack)
      return 'left'
    }
    if (this.#tls?.required === true && !this.#secure && id !== option.startTls) {
      // This option has no reply: whoever may not have the export is cut off.
      if (id === option.exportName) throw new MoraineError('denied', 'a client asked for the export without TLS')
      await this.#refuse(id, optionReply.tlsRequired, 'TLS is required')
      return undefined
    }
    switch (id) {
      case option.exportName:
        return await this.#exportName(data)
      case option.list:
        return await this.#list(id, data)
      case option.startTls:
        return await this.#startTls(id, data)
      case option.info:
      case option.go:
        return await this.#information(id, data)
      case option.structuredReply:
        if (data.length > 0) return await this.#refuse(id, optionReply.invalid, 'no data is expected')
        this.#structured = true
        return await this.#reply(id, optionReply.ack)
      case option.listMetaContext:
      case option.setMetaContext:
        return await this.#metaContext(id, data)
      default:
        return await this.#refuse(id, optionReply.unsupported, `option ${id} is not known`)
    }
  }

  async #reply(id: number, type: number, ...data: Buffer[]): Promise<undefined> {
    const body = Buffer.concat(data)
    const header = Buffer.alloc(20)
    header.writeBigUInt64BE(optionReplyMagic, 0)
    header.writeUInt32BE(id, 8)
    header.writeUInt32BE(type, 12)
    header.writeUInt32BE(body.length, 16)
    await this.#sender.send(Buffer.concat([header, body]))
  }

  #refuse(id: number, type: number, text: string): Promise<undefined> {
    return this.#reply(id, type, Buffer.from(text).subarray(0, stringBytes))
  }

  get #flags(): number {
    return this.#exported.flags | (this.#structured ? exportFlag.sendDf : 0)
  }

  async #exportName(data: Buffer): Promise<'chosen'> {
    if (data.toString() !== this.#exported.name)
      throw new MoraineError('missing', 'a client asked for an export that is not there')
    // Contexts belong to the export that GO names.
    this.#contexts = []
    const facts = Buffer.alloc(this.#noZeroes ? 10 : 134)
    writeU64(facts, this.#exported.disk.size, 0)
    facts.writeUInt16BE(this.#flags, 8)
    await this.#sender.send(facts)
    return 'chosen'
  }

  async #list(id: number, data: Buffer): Promise<undefined> {
    if (data.length > 0) return await this.#refuse(id, optionReply.invalid, 'no data is expected')
    const { name, description } = this.#exported
    await this.#reply(id, optionReply.server, prefixed(name), Buffer.from(description ?? ''))
    return await this.#reply(id, optionReply.ack)
  }

  async #startTls(id: number, data: Buffer): Promise<undefined> {
    if (data.length > 0) return await this.#refuse(id, optionReply.invalid, 'no data is expected')
    if (this.#secure) return await this.#refuse(id, optionReply.invalid, 'TLS is spoken already')
    if (this.#tls === undefined) return await this.#refuse(id, optionReply.policy, 'TLS not configured')
    await this.#reply(id, optionReply.ack)
    // What was said in clear before TLS could be anybody's.
    if (!this.#receiver.detach()) throw broken('data before TLS', 'in clear')
    this.#socket = await acceptTls(this.#socket, this.#tls)
    this.#receiver = new Receiver()
    this.#receiver.attach(this.#socket, 'client')
    this.#sender = new Sender(this.#socket, this.#timeout)
    this.#secure = true
    this.#structured = false
    this.#contexts = []
    return undefined
  }

  async #information(id: number, data: Buffer): Promise<'chosen' | undefined> {
    const name = stringAt(data, 0)
    const count = name === undefined || data.length < name.end + 2 ? -1 : data.readUInt16BE(name.end)
    if (name === undefined || data.length !== name.end + 2 + 2 * count) {
      return await this.#refuse(id, optionReply.invalid, 'lengths do not add up')
    }
    const { disk, name: own, description } = this.#exported
    if (name.text !== own) return await this.#refuse(id, optionReply.unknown, `export '${name.text}' not present`)
    const asked = new Set<number>()
    for (let i = 0; i < count; i++) asked.add(data.readUInt16BE(name.end + 2 + 2 * i))
    const tell = (kind: number, body: Buffer) => this.#reply(id, optionReply.info, shortNumber(kind), body)
    if (asked.has(information.name)) await tell(information.name, Buffer.from(own))
    if (asked.has(information.description) && description !== undefined) {
      await tell(information.description, Buffer.from(description))
    }
    const sizes = Buffer.alloc(12)
    sizes.writeUInt32BE(1, 0)
    sizes.writeUInt32BE(4096, 4)
    sizes.writeUInt32BE(usualPayload, 8)
    await tell(information.blockSize, sizes)
    const facts = Buffer.alloc(10)
    writeU64(facts, disk.size, 0)
    facts.writeUInt16BE(this.#flags, 8)
    await tell(information.export, facts)
    await this.#reply(id, optionReply.ack)
    return id === option.go ? 'chosen' : undefined
  }

  async #metaContext(id: number, data: Buffer): Promise<undefined> {
    if (!this.#structured) return await this.#refuse(id, optionReply.invalid, 'structured replies come first')
    const name = stringAt(data, 0)
    if (name === undefined || data.length < name.end + 4)
      return await this.#refuse(id, optionReply.invalid, 'lengths do not add up')
    const queries: string[] = []
    let at = name.end + 4
    for (let left = data.readUInt32BE(name.end); left > 0; left--) {
      const query = stringAt(data, at)
      if (query === undefined) return await this.#refuse(id, optionReply.invalid, 'lengths do not add up')
      queries.push(query.text)
      at = query.end
    }
    if (at !== data.length) return await this.#refuse(id, optionReply.invalid, 'lengths do not add up')
    if (name.text !== this.#exported.name)
      return await this.#refuse(id, optionReply.unknown, `export '${name.text}' not present`)
    const listing = id === option.listMetaContext
    const chosen: number[] = []
    for (const [number, context] of this.#exported.contexts.entries()) {
      const fits = queries.some((query) => (listing ? matches(query, context) : query === context))
      if (!fits && !(listing && queries.length === 0)) continue
      chosen.push(number)
      await this.#reply(id, optionReply.metaContext, longNumber(listing ? 0 : number), Buffer.from(context))
    }
    if (!listing) this.#contexts = chosen
    return await this.#reply(id, optionReply.ack)
  }
}

/** Whether a query of a list means a context: its name, its namespace, or what all bitmaps have in common. */
function matches(query: string, context: string): boolean {
  if (query === context) return true
  if (query === bitmapContext) return context.startsWith(bitmapContext)
  return query.endsWith(':') && query === context.slice(0, context.indexOf(':') + 1)
}

function stringAt(data: Buffer, at: number): { text: string; end: number } | undefined {
  if (data.length < at + 4) return undefined
  const length = data.readUInt32BE(at)
  const end = at + 4 + length
  if (length > stringBytes || end > data.length) return undefined
  return { text: data.toString('utf8', at + 4, end), end }
}

function prefixed(text: string): Buffer {
  const bytes = Buffer.from(text)
  return Buffer.concat([longNumber(bytes.length), bytes])
}

function shortNumber(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16BE(value)
  return bytes
}

function longNumber(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

function broken(field: string, value: number | string): MoraineError {
  return new MoraineError('corrupt', 'a client does not keep to the protocol', { field, value })
}
