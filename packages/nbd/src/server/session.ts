/** The transmission phase of one client: its requests side by side, bounded in number and in memory. */
import { isMoraineError, MoraineError } from '@moraine/engine'
import {
  chunk,
  chunkDone,
  chunkHeaderBytes,
  command,
  commandFlag,
  requestBytes,
  requestMagic,
  simpleReplyMagic,
  structuredReplyMagic,
  usualPayload,
} from '../wire/constants.ts'
import { numberOfCode } from '../wire/errno.ts'
import { readU64, writeU64 } from '../wire/integers.ts'
import { Budget } from './budget.ts'
import { contextRuns, type Exported } from './exported.ts'
import type { Client } from './handshake.ts'

/** Requests of one client at once, and bytes for them. */
const mostRequests = 16
const mostBytes = usualPayload

/** A read is answered in pieces of so many bytes, where the client allows pieces. */
const pieceBytes = 2 * 1024 * 1024

/** Shorter reads are not searched for holes. */
const searchedBytes = 64 * 1024

/** Most extents in a block status. */
const mostRuns = 8192

/** A request as it came. */
interface Asked {
  type: number
  flags: number
  cookie: Buffer
  offset: number
  length: number
  payload: Buffer | undefined
}

/** Flags that a request may have. */
const knownFlags: Readonly<Record<number, number>> = {
  [command.read]: commandFlag.fua | commandFlag.df,
  [command.write]: commandFlag.fua,
  [command.flush]: commandFlag.fua,
  [command.trim]: commandFlag.fua,
  [command.writeZeroes]: commandFlag.fua | commandFlag.noHole,
  [command.blockStatus]: commandFlag.fua | commandFlag.reqOne,
}

/** Serves one client. */
export class Session {
  readonly #exported: Exported
  readonly #client: Client
  readonly #slots = new Budget(mostRequests)
  readonly #bytes = new Budget(mostBytes)
  readonly #running = new Set<Promise<void>>()
  readonly #buffers: Buffer[] = []
  #written = false
  #stopping = false

  constructor(exported: Exported, client: Client) {
    this.#exported = exported
    this.#client = client
  }

  /** Serves until the client leaves, or is to leave. What it has written is on stable storage then.
   *  @throws MoraineError when it broke the protocol, or the disk could not be flushed. */
  async run(): Promise<void> {
    try {
      await this.#serve()
    } catch (error) {
      // A client that is gone without a word is no fault of anybody's.
      if (!this.#stopping && !isMoraineError(error, 'io')) throw error
    } finally {
      await Promise.all(this.#running)
      if (this.#written) await this.#exported.writable?.flush()
    }
  }

  /** Takes no more requests; those under way are answered. */
  stop(): void {
    this.#stopping = true
    this.#client.receiver.fail(new MoraineError('io', 'the server is shutting down', { code: 'ESHUTDOWN' }))
  }

  async #serve(): Promise<void> {
    const { receiver, socket } = this.#client
    const header = Buffer.alloc(requestBytes)
    while (!this.#stopping) {
      await receiver.fill(header)
      // What it asked for before it went is nobody's wish any more.
      if (socket.destroyed) return
      if (header.readUInt32BE(0) !== requestMagic) throw broken('magic', header.readUInt32BE(0))
      const asked: Asked = {
        flags: header.readUInt16BE(4),
        type: header.readUInt16BE(6),
        cookie: Buffer.from(header.subarray(8, 16)),
        offset: readU64(header, 16),
        length: header.readUInt32BE(24),
        payload: undefined,
      }
      if (asked.type === command.disconnect) return
      await this.#slots.take(1)
      const bytes = memoryFor(asked)
      if (asked.type === command.write && asked.length > usualPayload) throw broken('length', asked.length)
      await this.#bytes.take(bytes)
      if (asked.type === command.write) {
        asked.payload = this.#buffer(asked.length)
        await receiver.fill(asked.payload)
      }
      const task: Promise<void> = this.#answer(asked).finally(() => {
        if (asked.payload !== undefined) this.#giveBack(asked.payload)
        this.#bytes.give(bytes)
        this.#slots.give(1)
        this.#running.delete(task)
      })
      this.#running.add(task)
    }
  }

  /** Answers a request; an answer that cannot be sent ends the connection. */
  async #answer(asked: Asked): Promise<void> {
    try {
      try {
        this.#check(asked)
        await this.#do(asked)
      } catch (error) {
        await this.#sayError(asked, error)
      }
    } catch {
      this.#client.socket.destroy()
    }
  }

  /** @throws MoraineError with the code that the protocol has for it. */
  #check({ type, flags, offset, length }: Asked): void {
    const known = knownFlags[type]
    if (known === undefined) throw refusal('EINVAL', `request ${type} is not known`)
    if ((flags & ~known) !== 0) throw refusal('EINVAL', `flags ${flags} are not known for request ${type}`)
    if (type === command.flush) return
    const { disk, writable } = this.#exported
    const changes = type === command.write || type === command.writeZeroes || type === command.trim
    if (changes && writable === undefined) throw refusal('EPERM', 'the export is read-only')
    if (offset + length > disk.size) {
      const code = type === command.write || type === command.writeZeroes ? 'ENOSPC' : 'EINVAL'
      throw refusal(code, `the request passes the end of the export (${disk.size} bytes)`)
    }
    if (type === command.read && length > usualPayload) throw refusal('EINVAL', `more than ${usualPayload} bytes`)
    if (type === command.blockStatus && (length === 0 || this.#client.contexts.length === 0)) {
      throw refusal('EINVAL', 'no context was chosen, or nothing is asked')
    }
  }

  async #do(asked: Asked): Promise<void> {
    const { type, flags, offset, length, payload } = asked
    const { writable } = this.#exported
    switch (type) {
      case command.read:
        return await this.#read(asked)
      case command.blockStatus:
        return await this.#blockStatus(asked)
      case command.write:
        this.#written = true
        if (payload !== undefined && length > 0) await writable?.write(offset, payload)
        break
      case command.writeZeroes:
        this.#written = true
        if (length > 0) await writable?.zero(offset, length, (flags & commandFlag.noHole) !== 0 ? 'allocate' : 'unmap')
        break
      case command.trim:
        this.#written = true
        if (length > 0) await writable?.discard(offset, length)
        break
      default:
        await writable?.flush()
    }
    if ((flags & commandFlag.fua) !== 0 && type !== command.flush) await writable?.flush()
    await this.#client.sender.send(simpleReply(asked, 0))
  }

  async #read(asked: Asked): Promise<void> {
    const { offset, length, flags } = asked
    const { sender, structured } = this.#client
    if (length === 0)
      return await sender.send(structured ? chunkHeader(asked, chunk.none, 0, true) : simpleReply(asked, 0))
    if (!structured) {
      return await this.#withData(offset, length, (data) => sender.send(simpleReply(asked, 0), data))
    }
    const whole = (flags & commandFlag.df) !== 0 || length <= searchedBytes
    if (whole) return await this.#sendData(asked, offset, length, true)
    const end = offset + length
    for await (const batch of this.#exported.disk.extents(offset, length)) {
      for (const extent of batch) {
        const stop = extent.offset + extent.length
        if (extent.zero) await sender.send(holeChunk(asked, extent.offset, extent.length, stop === end))
        else {
          for (let at = extent.offset; at < stop; at += pieceBytes) {
            const piece = Math.min(pieceBytes, stop - at)
            await this.#sendData(asked, at, piece, at + piece === end)
          }
        }
      }
    }
  }

  async #sendData(asked: Asked, offset: number, length: number, done: boolean): Promise<void> {
    const header = chunkHeader(asked, chunk.offsetData, 8 + length, done, 8)
    writeU64(header, offset, chunkHeaderBytes)
    await this.#withData(offset, length, (data) => this.#client.sender.send(header, data))
  }

  async #withData(offset: number, length: number, use: (data: Buffer) => Promise<void>): Promise<void> {
    const data = this.#buffer(length)
    try {
      await this.#exported.disk.read(offset, data)
      await use(data)
    } finally {
      this.#giveBack(data)
    }
  }

  async #blockStatus(asked: Asked): Promise<void> {
    const { offset, length, flags } = asked
    const most = (flags & commandFlag.reqOne) !== 0 ? 1 : mostRuns
    const { contexts, sender } = this.#client
    const pieces: Buffer[] = []
    for (const [index, number] of contexts.entries()) {
      const name = this.#exported.contexts[number] as string
      const runs = await contextRuns(this.#exported, name, { offset, length }, most)
      const body = Buffer.alloc(4 + 8 * runs.length)
      body.writeUInt32BE(number, 0)
      for (const [at, run] of runs.entries()) {
        body.writeUInt32BE(run.length, 4 + 8 * at)
        body.writeUInt32BE(run.flags, 8 + 8 * at)
      }
      pieces.push(chunkHeader(asked, chunk.blockStatus, body.length, index === contexts.length - 1), body)
    }
    await sender.send(...pieces)
  }

  /** Says what went wrong. In the middle of a read in chunks this ends it. */
  async #sayError(asked: Asked, error: unknown): Promise<void> {
    const moraine = isMoraineError(error) ? error : undefined
    const code = numberOfCode(moraine?.code ?? (moraine?.kind === 'denied' ? 'EPERM' : 'EIO'))
    if (!this.#client.structured) return await this.#client.sender.send(simpleReply(asked, code))
    const text = Buffer.from(moraine?.reason ?? 'internal error').subarray(0, 1024)
    const body = Buffer.alloc(6)
    body.writeUInt32BE(code, 0)
    body.writeUInt16BE(text.length, 4)
    await this.#client.sender.send(chunkHeader(asked, chunk.error, 6 + text.length, true), body, text)
  }

  #buffer(length: number): Buffer {
    if (length > pieceBytes) return Buffer.allocUnsafeSlow(length)
    return (this.#buffers.pop() ?? Buffer.allocUnsafeSlow(pieceBytes)).subarray(0, length)
  }

  #giveBack(buffer: Buffer): void {
    if (buffer.buffer.byteLength === pieceBytes) this.#buffers.push(Buffer.from(buffer.buffer))
  }
}

/** What a request needs at most, of the memory of its client. */
function memoryFor({ type, flags, length }: Asked): number {
  if (type === command.write) return Math.min(length, mostBytes)
  if (type !== command.read) return 0
  return Math.min((flags & commandFlag.df) !== 0 ? length : Math.max(pieceBytes, length), mostBytes)
}

function simpleReply({ cookie }: Asked, error: number): Buffer {
  const reply = Buffer.alloc(16)
  reply.writeUInt32BE(simpleReplyMagic, 0)
  reply.writeUInt32BE(error, 4)
  cookie.copy(reply, 8)
  return reply
}

/** The header of a chunk, with room for `extra` bytes of its payload. */
function chunkHeader({ cookie }: Asked, type: number, length: number, done: boolean, extra = 0): Buffer {
  const header = Buffer.alloc(chunkHeaderBytes + extra)
  header.writeUInt32BE(structuredReplyMagic, 0)
  header.writeUInt16BE(done ? chunkDone : 0, 4)
  header.writeUInt16BE(type, 6)
  cookie.copy(header, 8)
  header.writeUInt32BE(length, 16)
  return header
}

function holeChunk(asked: Asked, offset: number, length: number, done: boolean): Buffer {
  const bytes = chunkHeader(asked, chunk.offsetHole, 12, done, 12)
  writeU64(bytes, offset, chunkHeaderBytes)
  bytes.writeUInt32BE(length, chunkHeaderBytes + 8)
  return bytes
}

function refusal(code: string, reason: string): MoraineError {
  return new MoraineError(code === 'EPERM' ? 'denied' : 'io', reason, { code })
}

function broken(field: string, value: number): MoraineError {
  return new MoraineError('corrupt', 'a client does not keep to the protocol', { field, value })
}
