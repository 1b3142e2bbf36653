/** The handshake of a client: greeting, TLS, structured replies, contexts, and the export that is wanted. */
import { MoraineError } from '@moraine/engine'
import type { Link } from '../transport/connect.ts'
import { type NbdTls, startTls } from '../transport/tls.ts'
import {
  exportFlag,
  handshakeFlag,
  information,
  initialMagic,
  oldstyleMagic,
  option,
  optionMagic,
  optionReply,
  stringBytes,
  usualPayload,
} from '../wire/constants.ts'
import { readU64 } from '../wire/integers.ts'
import { askOption, lengthAndText, type OptionReply, printable, replyError, sendOption } from './options.ts'

/** What both sides have agreed upon. */
export interface Agreement {
  /** Bytes. */
  size: number
  /** Transmission flags. */
  flags: number
  protocol: 'oldstyle' | 'newstyle' | 'newstyle-fixed'
  structured: boolean
  /** Requests begin and end at multiples of this. */
  minimumBlock: number
  preferredBlock: number
  /** Most bytes that one request carries. */
  maximumPayload: number
  /** Contexts of block status, by the number that the server gave them. */
  contexts: ReadonlyMap<number, string>
  description?: string | undefined
}

/** What a client wants. */
export interface Wish {
  name: string
  exportName: string
  /** Undefined: in clear. Otherwise nothing but TLS will do. */
  tls: NbdTls | undefined
  /** The name that TLS checks where `tls` names none. */
  host: string
  contexts: readonly string[]
  /** Milliseconds that TLS may take. */
  timeout: number
}

function corrupt(name: string, reason: string, field?: string, value?: number | string, rule?: string): MoraineError {
  return new MoraineError('corrupt', reason, { path: name, field, value, rule })
}

/** What the greeting tells. */
interface Greeting {
  link: Link
  protocol: Agreement['protocol']
  noZeroes: boolean
}

/** Reads the greeting and answers it, up to where options begin (or, in the old style, the export). `link` is another one after this where TLS was agreed upon.
 *  @throws MoraineError `corrupt` when this is no NBD server, `denied` when it does not do the TLS that is wanted. */
export async function greet(link: Link, wish: Pick<Wish, 'name' | 'tls' | 'host' | 'timeout'>): Promise<Greeting> {
  const { name, tls } = wish
  const magics = Buffer.alloc(16)
  await link.receiver.fill(magics.subarray(0, 8))
  const initial = magics.readBigUInt64BE(0)
  if (initial !== initialMagic) {
    throw corrupt(name, `Bad initial magic received: 0x${initial.toString(16).padStart(16, '0')}`)
  }
  await link.receiver.fill(magics.subarray(8))
  const magic = magics.readBigUInt64BE(8)
  if (magic === oldstyleMagic) {
    if (tls !== undefined) throw noTls(name)
    return { link, protocol: 'oldstyle', noZeroes: false }
  }
  if (magic !== optionMagic) {
    throw corrupt(name, `Bad server magic received: 0x${magic.toString(16).padStart(16, '0')}`)
  }
  const offered = Buffer.alloc(2)
  await link.receiver.fill(offered)
  const flags = offered.readUInt16BE(0) & (handshakeFlag.fixedNewstyle | handshakeFlag.noZeroes)
  const answer = Buffer.alloc(4)
  answer.writeUInt32BE(flags)
  link.socket.write(answer)
  const fixed = (flags & handshakeFlag.fixedNewstyle) !== 0
  const greeting: Greeting = {
    link,
    protocol: fixed ? 'newstyle-fixed' : 'newstyle',
    noZeroes: (flags & handshakeFlag.noZeroes) !== 0,
  }
  if (tls === undefined) return greeting
  if (!fixed) throw noTls(name)
  const [reply] = await askOption(link, option.startTls, undefined, name)
  const refused = reply === undefined ? undefined : replyError(reply, option.startTls, name)
  if (refused !== undefined || reply?.type !== optionReply.ack) throw noTls(name, refused)
  greeting.link = await startTls(link, tls, { name, host: wish.host, timeout: wish.timeout })
  return greeting
}

/** A connection in clear is never a way out. */
function noTls(name: string, refused?: MoraineError): MoraineError {
  return new MoraineError('denied', refused?.reason ?? 'Server does not support STARTTLS', {
    path: name,
    field: 'starttls',
    rule: 'TLS was asked for, so nothing is sent in clear',
    hint: refused?.hint,
  })
}

/** Goes through the whole handshake.
 *  @throws MoraineError `missing` (no such export), `denied`, `unsupported`, `corrupt`, `limit`, `io`. */
export async function negotiate(first: Link, wish: Wish): Promise<{ link: Link; agreement: Agreement }> {
  if (Buffer.byteLength(wish.exportName) > stringBytes) {
    throw new MoraineError('invalid', 'export name too long to send to server', { path: wish.name, field: 'export' })
  }
  const { link, protocol, noZeroes } = await greet(first, wish)
  const agreement: Agreement = {
    size: 0,
    flags: 0,
    protocol,
    structured: false,
    minimumBlock: 1,
    preferredBlock: 4096,
    maximumPayload: usualPayload,
    contexts: new Map(),
  }
  if (protocol === 'oldstyle') await readOldstyle(link, wish, agreement)
  else if (protocol === 'newstyle') await nameExport(link, wish, agreement, noZeroes)
  else await choose(link, wish, agreement, noZeroes)
  checkAgreement(wish.name, agreement)
  return { link, agreement }
}

async function readOldstyle(link: Link, { name, exportName }: Wish, agreement: Agreement): Promise<void> {
  if (exportName !== '') {
    throw new MoraineError('unsupported', 'Server does not support non-empty export names', {
      path: name,
      field: 'export',
    })
  }
  const rest = Buffer.alloc(8 + 4 + 124)
  await link.receiver.fill(rest)
  agreement.size = readU64(rest, 0)
  // The upper half of this field is zero in the old style.
  agreement.flags = rest.readUInt32BE(8) & 0xffff
}

async function nameExport(link: Link, { exportName }: Wish, agreement: Agreement, noZeroes: boolean): Promise<void> {
  sendOption(link, option.exportName, Buffer.from(exportName))
  const facts = Buffer.alloc(noZeroes ? 10 : 10 + 124)
  await link.receiver.fill(facts)
  agreement.size = readU64(facts, 0)
  agreement.flags = facts.readUInt16BE(8)
}

async function choose(link: Link, wish: Wish, agreement: Agreement, noZeroes: boolean): Promise<void> {
  const { name, exportName } = wish
  agreement.structured = last(await askOption(link, option.structuredReply, undefined, name)).type === optionReply.ack
  if (agreement.structured && wish.contexts.length > 0) {
    agreement.contexts = await selectContexts(link, wish)
  }
  const request = Buffer.concat([lengthAndText(exportName), Buffer.from([0, 1, 0, information.blockSize])])
  const replies = await askOption(link, option.go, request, name)
  const ending = last(replies)
  if (ending.type === optionReply.unsupported) {
    // Servers before 2016. A wrong name makes them hang up.
    agreement.contexts = new Map()
    return await nameExport(link, wish, agreement, noZeroes)
  }
  const refused = replyError(ending, option.go, name)
  if (refused !== undefined) throw refused
  readInformation(replies, name, agreement)
}

function last(replies: readonly OptionReply[]): OptionReply {
  return replies[replies.length - 1] as OptionReply
}

async function selectContexts(link: Link, wish: Wish): Promise<Map<number, string>> {
  const count = Buffer.alloc(4)
  count.writeUInt32BE(wish.contexts.length)
  const queries = Buffer.concat([lengthAndText(wish.exportName), count, ...wish.contexts.map(lengthAndText)])
  const chosen = new Map<number, string>()
  for (const { type, data } of await askOption(link, option.setMetaContext, queries, wish.name)) {
    if (type !== optionReply.metaContext) continue
    if (data.length < 5) throw corrupt(wish.name, 'a context without a name', 'length', data.length, 'at least 5')
    const context = data.toString('utf8', 4)
    // What was not asked for is not looked at.
    if (!wish.contexts.includes(context)) continue
    const id = data.readUInt32BE(0)
    if (chosen.has(id)) throw corrupt(wish.name, 'two contexts with one number', 'context', id)
    chosen.set(id, context)
  }
  return chosen
}

/** Reads what GO or INFO told about an export.
 *  @throws MoraineError `corrupt`. */
export function readInformation(replies: readonly OptionReply[], name: string, agreement: Agreement): void {
  let known = false
  for (const { type, data } of replies) {
    if (type !== optionReply.info) continue
    const need = (length: number): void => {
      if (data.length !== length)
        throw corrupt(name, 'invalid length for info reply', 'length', data.length, String(length))
    }
    if (data.length < 2) throw corrupt(name, 'invalid length for info reply', 'length', data.length, 'at least 2')
    switch (data.readUInt16BE(0)) {
      case information.export:
        need(12)
        agreement.size = readU64(data, 2)
        agreement.flags = data.readUInt16BE(10)
        known = true
        break
      case information.blockSize:
        need(14)
        agreement.minimumBlock = data.readUInt32BE(2)
        agreement.preferredBlock = data.readUInt32BE(6)
        agreement.maximumPayload = data.readUInt32BE(10)
        break
      case information.description:
        agreement.description = printable(data.subarray(2))
        break
      default:
    }
  }
  if (!known) throw corrupt(name, 'broken server omitted NBD_INFO_EXPORT')
}

function checkAgreement(name: string, agreement: Agreement): void {
  const { size, minimumBlock, preferredBlock, maximumPayload } = agreement
  if (!Number.isSafeInteger(size)) {
    throw new MoraineError('limit', 'the export is too large', {
      path: name,
      field: 'size',
      rule: 'at most 2^53 - 1 bytes',
    })
  }
  const isPower = (value: number) => value > 0 && (value & (value - 1)) === 0
  if (!isPower(minimumBlock) || minimumBlock > 65_536) {
    throw corrupt(
      name,
      `server minimum block size ${minimumBlock} is not a power of two up to 65536`,
      'block size',
      minimumBlock,
    )
  }
  if (!isPower(preferredBlock) || preferredBlock < minimumBlock) {
    throw corrupt(name, `server preferred block size ${preferredBlock} is not valid`, 'block size', preferredBlock)
  }
  if (maximumPayload < minimumBlock) {
    throw corrupt(name, `server maximum block size ${maximumPayload} is not valid`, 'block size', maximumPayload)
  }
  if (size % minimumBlock !== 0) {
    const reason = `export size ${size} is not multiple of minimum block size ${minimumBlock}`
    throw new MoraineError('unsupported', reason, { path: name, field: 'size', value: size })
  }
  agreement.maximumPayload = Math.floor(Math.min(maximumPayload, usualPayload) / minimumBlock) * minimumBlock
  if ((agreement.flags & exportFlag.hasFlags) === 0) agreement.flags = 0
}
