/** Options of the handshake, as a client sends them, and the replies to them, bounded. */
import { MoraineError } from '@moraine/engine'
import type { Link } from '../transport/connect.ts'
import { optionMagic, optionNames, optionReply, optionReplyMagic, stringBytes } from '../wire/constants.ts'

/** A reply to an option. */
export interface OptionReply {
  type: number
  data: Buffer
}

/** Longest reply: two strings with their lengths. */
const replyBytes = 2 * stringBytes + 64

/** Most replies to one option (names of exports or contexts), and most bytes of them. */
const mostReplies = 20_000
const mostBytes = 16 * 1024 * 1024

/** Sends an option. */
export function sendOption({ socket }: Link, id: number, data: Buffer = Buffer.alloc(0)): void {
  const header = Buffer.alloc(16)
  header.writeBigUInt64BE(optionMagic)
  header.writeUInt32BE(id, 8)
  header.writeUInt32BE(data.length, 12)
  socket.write(data.length === 0 ? header : Buffer.concat([header, data]))
}

/** Sends an option and gives every reply to it, the last one (an ACK or an error) too.
 *  @throws MoraineError `corrupt` for what is no reply to it, `limit` when there is no end of them, `io`. */
export async function askOption(
  link: Link,
  id: number,
  data: Buffer | undefined,
  name: string,
): Promise<OptionReply[]> {
  sendOption(link, id, data)
  const replies: OptionReply[] = []
  let bytes = 0
  for (;;) {
    const reply = await readReply(link, id, name)
    replies.push(reply)
    bytes += reply.data.length
    if (reply.type === optionReply.ack || reply.type >= 0x8000_0000) return replies
    if (replies.length > mostReplies || bytes > mostBytes) {
      throw new MoraineError('limit', `the server does not come to an end of option ${id} (${optionNames[id]})`, {
        path: name,
        field: 'option reply',
        value: replies.length,
        rule: `at most ${mostReplies} replies of ${mostBytes} bytes together`,
      })
    }
  }
}

async function readReply({ receiver }: Link, id: number, name: string): Promise<OptionReply> {
  const header = Buffer.alloc(20)
  await receiver.fill(header)
  const magic = header.readBigUInt64BE(0)
  const wrong = (reason: string, field: string, value: number | string, rule: string) =>
    new MoraineError('corrupt', reason, { path: name, field, value, rule })
  if (magic !== optionReplyMagic) {
    throw wrong('Unexpected option reply magic', 'magic', hex(magic), hex(optionReplyMagic))
  }
  const answered = header.readUInt32BE(8)
  if (answered !== id) throw wrong(`Unexpected option type ${answered}`, 'option', answered, String(id))
  const type = header.readUInt32BE(12)
  const length = header.readUInt32BE(16)
  if (length > replyBytes) {
    throw wrong(`option reply is too long`, 'length', length, `at most ${replyBytes}`)
  }
  if (type === optionReply.ack && length > 0) throw wrong('server sent an ACK with data', 'length', length, '0')
  const data = Buffer.alloc(length)
  await receiver.fill(data)
  return { type, data }
}

function hex(value: bigint): string {
  return `0x${value.toString(16).padStart(16, '0')}`
}

/** The error that a reply is, in QEMU's words (`nbd_handle_reply_err`); undefined for any other reply. */
export function replyError({ type, data }: OptionReply, id: number, name: string): MoraineError | undefined {
  if (type < 0x8000_0000) return undefined
  const what = `option ${id} (${optionNames[id] ?? 'unknown'})`
  const [kind, reason] = errorWords(type, what)
  const said = data.length === 0 ? undefined : `server reported: ${printable(data)}`
  const advice = type === optionReply.tlsRequired ? 'Did you forget a valid tls-creds?' : undefined
  const hint = [advice, said].filter((line) => line !== undefined).join('\n')
  return new MoraineError(kind, reason, { path: name, hint: hint === '' ? undefined : hint })
}

function errorWords(
  type: number,
  what: string,
): [kind: 'unsupported' | 'denied' | 'invalid' | 'missing' | 'io', reason: string] {
  switch (type) {
    case optionReply.unsupported:
      return ['unsupported', `Server does not support ${what}`]
    case optionReply.policy:
      return ['denied', `Denied by server for ${what}`]
    case optionReply.invalid:
      return ['invalid', `Invalid parameters for ${what}`]
    case optionReply.platform:
      return ['unsupported', `Server lacks support for ${what}`]
    case optionReply.tlsRequired:
      return ['denied', `TLS negotiation required before ${what}`]
    case optionReply.unknown:
      return ['missing', 'Requested export not available']
    case optionReply.shutdown:
      return ['io', `Server shutting down before ${what}`]
    case optionReply.blockSizeRequired:
      return ['unsupported', `Server requires INFO_BLOCK_SIZE for ${what}`]
    default:
      return ['io', `Unknown error code when asking for ${what}`]
  }
}

/** Text of a server, made harmless for a terminal. */
export function printable(bytes: Uint8Array): string {
  return Buffer.from(bytes)
    .toString('utf8')
    .replace(/\p{Cc}/gu, '?')
}

/** A string with its length before it. */
export function lengthAndText(text: string): Buffer {
  const bytes = Buffer.from(text)
  const length = Buffer.alloc(4)
  length.writeUInt32BE(bytes.length)
  return Buffer.concat([length, bytes])
}
