/** Names of exports: URIs (NetworkBlockDevice/nbd, doc/uri.md) and QEMU's older form `nbd:…`. What is refused, and in which words, is as QEMU 7.2 has it
 *  (`qemu-img info NAME`, tried); `nbds` and `nbds+unix` are not QEMU's. */
import { MoraineError } from '@moraine/engine'
import { defaultPort } from './wire/constants.ts'

/** Where an export is. */
export interface NbdAddress {
  server: NbdServerAddress
  /** Name of the export; the empty one is the server's default. */
  exportName: string
  /** TLS is demanded by the name (`nbds`), with what stands in its query. */
  tls?: NbdNameTls | undefined
}

/** A socket. `port` is a number or, as QEMU allows it, anything else that is then refused when it is resolved. */
export type NbdServerAddress =
  | { type: 'inet'; host: string; port: string; family?: 4 | 6 | undefined }
  | { type: 'unix'; path: string }

/** What the query of an `nbds` URI says, in the words of libnbd. */
export interface NbdNameTls {
  /** `tls-certificates`: a folder with `ca-cert.pem` and, for clients that must say who they are, `client-cert.pem` and `client-key.pem`. */
  certificates?: string | undefined
  /** `tls-hostname`: the name that the server's certificate must have, where it is another than the host's. */
  hostname?: string | undefined
}

/** Whether a name is one of an export. `nbds` is known where `secure` is set. */
export function isNbdName(name: string, secure = true): boolean {
  return /^nbd(?:$|:|\+tcp:|\+unix:)/.test(name) || (secure && /^nbds(?:\+tcp|\+unix)?:/.test(name))
}

/** Reads a name.
 *  @throws MoraineError `invalid`, in QEMU's words. */
export function parseNbdName(name: string): NbdAddress {
  return name.includes('://') ? parseUri(name) : parseLegacy(name)
}

function invalid(name: string, reason: string, rule?: string): MoraineError {
  return new MoraineError('invalid', reason, { path: name, field: 'name', rule })
}

const uriForm =
  /^(nbds?)(?:\+(tcp|unix))?:\/\/(?:([^/?#@]*)@)?(\[[^\]/?#]*\]|[^/?#:]*)(?::([^/?#]*))?(\/[^?#]*)?(?:\?([^#]*))?(?:#.*)?$/

function parseUri(name: string): NbdAddress {
  const refuse = (rule: string) => invalid(name, 'No valid URL specified', rule)
  const parts = uriForm.exec(name)
  if (parts === null) throw refuse('nbd://host[:port]/export or nbd+unix:///export?socket=PATH')
  const [, scheme, transport, user, host = '', port, path = '', query = ''] = parts
  const decode = (text: string): string => {
    try {
      return decodeURIComponent(text)
    } catch {
      throw refuse('percent signs with two hexadecimal digits')
    }
  }
  // One slash belongs to the URI, further ones to the export's name.
  const exportName = decode(path.replace(/^\//, ''))
  const { socket, ...tls } = readQuery(query, decode, scheme === 'nbds', refuse)
  const secure = scheme === 'nbds' ? { tls } : {}
  if (transport === 'unix') {
    if (host !== '' || port !== undefined || user !== undefined) throw refuse('no host in a name with a UNIX socket')
    if (socket === undefined) throw refuse('socket=PATH in the query')
    return { server: { type: 'unix', path: socket }, exportName, ...secure }
  }
  if (socket !== undefined) throw refuse('socket=PATH only with nbd+unix')
  if (host === '') throw refuse('a host')
  if (port !== undefined && !/^\d*$/.test(port)) throw refuse('a port from 0 to 65535')
  if (Number(port ?? 0) > 65_535) throw refuse('a port from 0 to 65535')
  const bare = decode(host.startsWith('[') ? host.slice(1, -1) : host)
  // QEMU takes port 0 for none.
  const number = Number(port ?? 0) === 0 ? defaultPort : Number(port)
  return { server: { type: 'inet', host: bare, port: String(number) }, exportName, ...secure }
}

function readQuery(
  query: string,
  decode: (text: string) => string,
  secure: boolean,
  refuse: (rule: string) => MoraineError,
): NbdNameTls & { socket?: string } {
  const found: NbdNameTls & { socket?: string } = {}
  for (const item of query.split(/[&;]/)) {
    if (item === '') continue
    const [key = '', value] = item.split(/=(.*)/s, 2)
    if (value === undefined) throw refuse(`a value for ${key} in the query`)
    if (key === 'socket' && found.socket === undefined) found.socket = decode(value)
    else if (secure && key === 'tls-certificates') found.certificates = decode(value)
    else if (secure && key === 'tls-hostname') found.hostname = decode(value)
    else throw refuse(secure ? 'socket, tls-certificates and tls-hostname in the query' : 'socket alone in the query')
  }
  return found
}

const exportMark = ':exportname='

function parseLegacy(name: string): NbdAddress {
  const missing = invalid(name, 'NBD server address missing', 'nbd:HOST:PORT or nbd:unix:PATH')
  const mark = name.indexOf(exportMark)
  const exportName = mark < 0 ? '' : name.slice(mark + exportMark.length)
  if (mark >= 0 && exportName === '') throw missing
  const place = mark < 0 ? name : name.slice(0, mark)
  if (!place.startsWith('nbd:')) {
    throw invalid(name, "File name string for NBD must start with 'nbd:'")
  }
  const host = place.slice('nbd:'.length)
  if (host === '') throw missing
  if (host.startsWith('unix:')) return { server: { type: 'unix', path: host.slice('unix:'.length) }, exportName }
  return { server: parseInet(name, host), exportName }
}

/** `HOST:PORT[,ipv4][,ipv6][,to=…]`, as `inet_parse` of QEMU reads it. */
function parseInet(name: string, text: string): NbdServerAddress {
  const bracketed = text.startsWith('[')
  const form = bracketed ? /^\[([^\]]{1,64})\]:([^,]{1,32})(.*)$/s : /^([^:]{0,64}):([^,]{1,32})(.*)$/s
  const parts = form.exec(text)
  if (parts === null) {
    const what = text.startsWith(':') ? 'port in address' : bracketed ? 'IPv6 address' : 'address'
    throw invalid(name, `error parsing ${what} '${text}'`, 'HOST:PORT')
  }
  const [, host = '', port = '', flags = ''] = parts
  const family =
    bracketed || /,ipv6(?:=on)?(?:,|$)/.test(flags) ? 6 : /,ipv4(?:=on)?(?:,|$)/.test(flags) ? 4 : undefined
  return { type: 'inet', host, port, family }
}

/** The server as messages name it: `HOST:PORT`, or the socket's path. */
export function serverText(server: NbdServerAddress): string {
  return server.type === 'unix' ? server.path : `${server.host}:${server.port}`
}
