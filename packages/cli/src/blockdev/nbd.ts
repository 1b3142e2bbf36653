/** The protocol `nbd`: exports of NBD servers as nodes. Options, their checks and words: QEMU's `block/nbd.c`, tried with qemu-img 7.2. */
import { type ByteSource, MoraineError } from '@moraine/engine'
import { type NbdAddress, type NbdServerAddress, type NbdTls, openNbd, parseNbdName } from '@moraine/nbd'
import type { Objects } from '../objects/objects.ts'
import type { NodeRequest, Protocol } from './driver.ts'
import { type NameParts, NodeOptions } from './options.ts'

/** Connections to a server that allows several, as nbdcopy makes: while one is emptied, the server fills another. */
const connections = 4

/** The protocol, under each of the names with which its names begin. */
export const nbd: Protocol = {
  strong: ['path', 'host', 'port', 'export', 'tls-creds', 'tls-hostname', 'server.', 'tls.'],
  readName: (name) => optionsOf(parseNbdName(name)),
  plainName,
  open: openExport,
}

function optionsOf({ server, exportName, tls }: NbdAddress): NodeOptions {
  const options = new NodeOptions([['server.type', server.type]])
  if (server.type === 'unix') options.set('server.path', server.path)
  else {
    options.set('server.host', server.host)
    options.set('server.port', server.port)
    if (server.family !== undefined) options.set(`server.ipv${server.family}`, 'on')
  }
  if (exportName !== '') options.set('export', exportName)
  if (tls === undefined) return options
  // What QEMU says by an object, a name with nbds says by itself.
  options.set('tls.required', true)
  if (tls.certificates !== undefined) options.set('tls.certificates', tls.certificates)
  if (tls.hostname !== undefined) options.set('tls.hostname', tls.hostname)
  return options
}

/** What QEMU calls such a node: a URI, with nothing escaped. */
function plainName(strong: NameParts): string | undefined {
  const known = new Set(
    'server.type server.path server.host server.port path host port export tls-creds tls-hostname'.split(' '),
  )
  const secure = Object.keys(strong).some((name) => name.startsWith('tls.'))
  if (Object.keys(strong).some((name) => !known.has(name) && !name.startsWith('tls.'))) return undefined
  const path = strong['server.path'] ?? strong.path
  const host = strong['server.host'] ?? strong.host
  const scheme = secure ? 'nbds' : 'nbd'
  const { export: name } = strong
  const certificates = strong['tls.certificates'] === undefined ? '' : `tls-certificates=${strong['tls.certificates']}`
  if (path !== undefined) {
    const query = certificates === '' ? '' : `&${certificates}`
    return `${scheme}+unix://${name === undefined ? '' : `/${name}`}?socket=${path}${query}`
  }
  const port = strong['server.port'] ?? strong.port ?? '10809'
  const query = certificates === '' ? '' : `?${certificates}`
  return `${scheme}://${host}:${port}${name === undefined ? '' : `/${name}`}${query}`
}

async function openExport(options: NodeOptions, { context, mode }: NodeRequest): Promise<ByteSource> {
  for (const name of ['reconnect-delay', 'open-timeout']) takeSeconds(options, name)
  const exportName = options.takeText('export') ?? ''
  const bitmap = options.takeText('x-dirty-bitmap')
  const server = readServer(options)
  const given = takeCredentials(options, server, context.objects)
  if (bitmap !== undefined) {
    throw new MoraineError('unsupported', "the option 'x-dirty-bitmap' is not supported by moraine", {
      field: 'x-dirty-bitmap',
    })
  }
  const named = options.hasBelow('tls') ? readTls(options.takeBelow('tls')) : undefined
  const address: NbdAddress = { server, exportName, ...(named === undefined ? {} : { tls: named }) }
  const tls = given === undefined ? {} : { tls: given }
  return await openNbd(address, {
    mode,
    signal: context.signal,
    connections,
    ...tls,
    ...(mode === 'write' ? { retries: 0 } : {}),
  })
}

/** What the object that `tls-creds` names holds, for this server. */
function takeCredentials(
  options: NodeOptions,
  server: NbdServerAddress,
  { tlsCredentials, kinds }: Objects,
): NbdTls | undefined {
  const id = options.takeText('tls-creds')
  const hostname = options.takeText('tls-hostname')
  if (id === undefined) return undefined
  const place = { field: 'tls-creds', value: id }
  const found = tlsCredentials.get(id)
  if (found === undefined) {
    if (kinds.has(id)) throw new MoraineError('invalid', `Object with id '${id}' is not TLS credentials`, place)
    throw new MoraineError('missing', `No TLS credentials with id '${id}'`, place)
  }
  if (found.endpoint === 'server') {
    throw new MoraineError('invalid', 'Expected TLS credentials for a client endpoint', place)
  }
  // Who comes by a UNIX socket must say what name the certificate shall have.
  const name = hostname ?? (server.type === 'inet' ? server.host : undefined)
  return { ...found.tls, ...(name !== undefined ? { hostname: name } : found.named ? { nameless: true } : {}) }
}

function takeSeconds(options: NodeOptions, name: string): void {
  const value = options.take(name)
  if (value === undefined || /^\d+$/.test(String(value))) return
  throw new MoraineError('invalid', `Parameter '${name}' expects a number`, { field: name, value: String(value) })
}

function readTls(options: NodeOptions): NonNullable<NbdAddress['tls']> {
  options.take('required')
  const certificates = options.takeText('certificates')
  const hostname = options.takeText('hostname')
  return { ...(certificates === undefined ? {} : { certificates }), ...(hostname === undefined ? {} : { hostname }) }
}

function readServer(options: NodeOptions): NbdServerAddress {
  const refuse = (reason: string, field: string) => new MoraineError('invalid', reason, { field })
  const path = options.takeText('path')
  const host = options.takeText('host')
  const port = textOf(options.take('port'))
  if (path !== undefined && host !== undefined) throw refuse('path and host may not be used at the same time', 'path')
  if (options.hasBelow('server')) {
    if (path !== undefined || host !== undefined || port !== undefined) {
      throw refuse("Cannot use 'server' and path/host/port at the same time", 'server')
    }
    return readSocket(options.takeBelow('server'))
  }
  if (path !== undefined) return { type: 'unix', path }
  if (host === undefined) throw refuse('NBD server address missing', 'server')
  return { type: 'inet', host, port: port ?? '10809' }
}

/** `SocketAddress` of QEMU's schema. */
function readSocket(options: NodeOptions): NbdServerAddress {
  const refuse = (reason: string, field: string) => new MoraineError('invalid', reason, { field: `server.${field}` })
  const need = (name: string): string => {
    const text = textOf(options.take(name))
    if (text === undefined) throw refuse(`Parameter '${name}' is missing`, name)
    return text
  }
  const type = need('type')
  const server = ((): NbdServerAddress => {
    switch (type) {
      case 'unix':
        return { type, path: need('path') }
      case 'inet': {
        const host = need('host')
        const port = need('port')
        for (const name of ['numeric', 'keep-alive', 'mptcp']) options.takeSwitch(name)
        options.take('to')
        const four = options.takeSwitch('ipv4')
        const six = options.takeSwitch('ipv6')
        return {
          type,
          host,
          port,
          family: four === true && six !== true ? 4 : six === true && four !== true ? 6 : undefined,
        }
      }
      case 'vsock':
      case 'fd':
        throw new MoraineError('unsupported', `sockets of type '${type}' are not supported by moraine`, {
          field: 'server.type',
        })
      default:
        throw refuse(`Parameter 'type' does not accept value '${type}'`, 'type')
    }
  })()
  const [left] = options.names()
  if (left !== undefined) throw refuse(`Parameter '${left}' is unexpected`, left)
  return server
}

function textOf(value: unknown): string | undefined {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : undefined
}
