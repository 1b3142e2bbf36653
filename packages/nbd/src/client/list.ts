/** What a server exports: the names it tells, and what it says about each. */
import { MoraineError } from '@moraine/engine'
import { type NbdAddress, parseNbdName } from '../address.ts'
import { connectTo } from '../transport/connect.ts'
import { exportFlag, information, option, optionReply, stringBytes, usualPayload } from '../wire/constants.ts'
import { type Agreement, greet, readInformation } from './negotiate.ts'
import { type NbdOptions, nameOf, tlsOf, withinTime } from './open.ts'
import { askOption, lengthAndText, printable, replyError, sendOption } from './options.ts'

/** An export in a server's list. What the server does not tell is undefined. */
export interface NbdListed {
  name: string
  description: string | undefined
  /** Bytes. */
  size: number | undefined
  readOnly: boolean | undefined
}

/** Exports that are asked about one by one; of further ones only the names are told. */
const mostAsked = 1000

/** Asks a server for its exports. The name of an export in `where` does not matter.
 *  @throws MoraineError as `openNbd`; `unsupported` when the server has no list, `denied` when it does not show it. */
export async function listNbd(
  where: string | NbdAddress,
  options: Pick<NbdOptions, 'tls' | 'timeout' | 'signal'> = {},
): Promise<NbdListed[]> {
  const address = typeof where === 'string' ? parseNbdName(where) : where
  const name = typeof where === 'string' ? where : nameOf(address)
  const { server } = address
  const { timeout = 60_000, signal } = options
  const tls = tlsOf(address, options.tls)
  const first = await connectTo(server, { name, timeout, direct: tls === undefined, signal })
  return await withinTime(first, { name, timeout, signal }, async () => {
    const host = server.type === 'unix' ? 'localhost' : server.host
    const { link, protocol } = await greet(first, { name, tls, host, timeout })
    if (protocol !== 'newstyle-fixed') {
      throw new MoraineError('unsupported', 'the server has no list of exports', { path: name, field: 'list' })
    }
    const exports: NbdListed[] = []
    for (const reply of await askOption(link, option.list, undefined, name)) {
      const refused = replyError(reply, option.list, name)
      if (refused !== undefined) throw refused
      if (reply.type === optionReply.server) exports.push(readEntry(reply.data, name))
    }
    for (const one of exports.slice(0, mostAsked)) {
      const request = Buffer.concat([
        lengthAndText(one.name),
        Buffer.from([0, 2, 0, information.blockSize, 0, information.description]),
      ])
      const replies = await askOption(link, option.info, request, name)
      if (replies.at(-1)?.type !== optionReply.ack) continue
      const facts: Agreement = {
        size: 0,
        flags: 0,
        protocol,
        structured: false,
        minimumBlock: 1,
        preferredBlock: 4096,
        maximumPayload: usualPayload,
        contexts: new Map(),
      }
      readInformation(replies, name, facts)
      one.size = facts.size
      one.readOnly = (facts.flags & exportFlag.readOnly) !== 0
      one.description ??= facts.description
    }
    sendOption(link, option.abort)
    link.socket.destroySoon()
    return exports
  })
}

function readEntry(data: Buffer, path: string): NbdListed {
  const length = data.length < 4 ? Number.POSITIVE_INFINITY : data.readUInt32BE(0)
  if (length > stringBytes || 4 + length > data.length) {
    throw new MoraineError('corrupt', 'a name in the list of exports is longer than its entry', {
      path,
      field: 'length',
      value: length,
    })
  }
  const description = printable(data.subarray(4 + length))
  return {
    name: data.toString('utf8', 4, 4 + length),
    description: description === '' ? undefined : description,
    size: undefined,
    readOnly: undefined,
  }
}
