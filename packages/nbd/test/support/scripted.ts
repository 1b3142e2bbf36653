/** A server that says what a test wants: right up to a point, wrong from there on. */
import { rmSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import {
  initialMagic,
  option,
  optionMagic,
  optionReply,
  optionReplyMagic,
  structuredReplyMagic,
} from '../../src/wire/constants.ts'

/** A client as the script sees it. */
export class Peer {
  readonly socket: Socket
  #waiting = Buffer.alloc(0)
  #wake: () => void = () => {}
  #ended = false

  constructor(socket: Socket) {
    this.socket = socket
    socket.on('error', () => {})
    socket.on('data', (data: Buffer) => {
      this.#waiting = Buffer.concat([this.#waiting, data])
      this.#wake()
    })
    socket.on('close', () => {
      this.#ended = true
      this.#wake()
    })
  }

  /** The next bytes. Throws when the client is gone. */
  async take(length: number): Promise<Buffer> {
    while (this.#waiting.length < length) {
      if (this.#ended) throw new Gone()
      await new Promise<void>((resolve) => {
        this.#wake = resolve
      })
    }
    const taken = this.#waiting.subarray(0, length)
    this.#waiting = this.#waiting.subarray(length)
    return taken
  }

  say(...pieces: Buffer[]): void {
    if (!this.socket.destroyed) this.socket.write(Buffer.concat(pieces))
  }
}

/** The client has left. */
export class Gone extends Error {}

/** Serves each client by the script, until it is stopped. */
export async function scripted(
  path: string,
  script: (peer: Peer) => Promise<void>,
): Promise<{ uri: string; stop(): Promise<void> }> {
  rmSync(path, { force: true })
  const sockets = new Set<Socket>()
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    script(new Peer(socket)).catch((error: unknown) => {
      socket.destroy()
      if (!(error instanceof Gone)) throw error
    })
  })
  await new Promise<void>((resolve) => server.listen(path, resolve))
  return {
    uri: `nbd+unix:///?socket=${path}`,
    async stop() {
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

/** Numbers in a row: the width of each in bytes, then its value. */
export function pack(...fields: [bytes: 1 | 2 | 4 | 8, value: number | bigint][]): Buffer {
  return Buffer.concat(
    fields.map(([bytes, value]) => {
      const field = Buffer.alloc(8)
      field.writeBigUInt64BE(BigInt.asUintN(64, BigInt(value)))
      return field.subarray(8 - bytes)
    }),
  )
}

/** The greeting of a fixed newstyle server. */
export const greeting = (flags = 3): Buffer => pack([8, initialMagic], [8, optionMagic], [2, flags])

/** A reply to an option. */
export const reply = (id: number, type: number, data: Buffer = Buffer.alloc(0)): Buffer =>
  Buffer.concat([pack([8, optionReplyMagic], [4, id], [4, type], [4, data.length]), data])

/** An option as it came. */
export async function takeOption(peer: Peer): Promise<{ id: number; data: Buffer }> {
  const header = await peer.take(16)
  return { id: header.readUInt32BE(8), data: await peer.take(header.readUInt32BE(12)) }
}

/** What a well-behaved server answers to GO. */
export const goAnswer = (size: number | bigint, flags: number, id: number = option.go): Buffer =>
  Buffer.concat([
    reply(id, optionReply.info, pack([2, 3], [4, 1], [4, 4096], [4, 1 << 25])),
    reply(id, optionReply.info, pack([2, 0], [8, size], [2, flags])),
    reply(id, optionReply.ack),
  ])

/** Flags of an export that does everything. */
export const allFlags = 0x0ded

/** The handshake of a well-behaved server with `base:allocation` as context 7. */
export async function handshake(peer: Peer, size: number, { structured = true, flags = allFlags } = {}): Promise<void> {
  peer.say(greeting())
  await peer.take(4)
  for (;;) {
    const { id } = await takeOption(peer)
    if (id === option.structuredReply) peer.say(reply(id, structured ? optionReply.ack : optionReply.unsupported))
    else if (id === option.setMetaContext) {
      peer.say(
        reply(id, optionReply.metaContext, Buffer.concat([pack([4, 7]), Buffer.from('base:allocation')])),
        reply(id, optionReply.ack),
      )
    } else if (id === option.go) {
      peer.say(goAnswer(size, flags))
      return
    } else peer.say(reply(id, optionReply.unsupported))
  }
}

/** A request as it came. */
export interface Asked {
  flags: number
  type: number
  cookie: bigint
  offset: number
  length: number
  payload: Buffer
}

/** The next request, with what it writes. */
export async function takeRequest(peer: Peer): Promise<Asked> {
  const header = await peer.take(28)
  const asked = {
    flags: header.readUInt16BE(4),
    type: header.readUInt16BE(6),
    cookie: header.readBigUInt64BE(8),
    offset: Number(header.readBigUInt64BE(16)),
    length: header.readUInt32BE(24),
  }
  return { ...asked, payload: asked.type === 1 ? await peer.take(asked.length) : Buffer.alloc(0) }
}

/** A chunk of a structured reply. */
export const chunkOf = (cookie: bigint, type: number, done: boolean, payload: Buffer = Buffer.alloc(0)): Buffer =>
  Buffer.concat([
    pack([4, structuredReplyMagic], [2, done ? 1 : 0], [2, type], [8, cookie], [4, payload.length]),
    payload,
  ])

/** A chunk of data. */
export const dataChunk = (cookie: bigint, offset: number, data: Buffer, done: boolean): Buffer =>
  chunkOf(cookie, 1, done, Buffer.concat([pack([8, offset]), data]))
