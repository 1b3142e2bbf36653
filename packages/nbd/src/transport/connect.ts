/** Reaching a server: TCP and UNIX sockets, and what is said when that fails. */
import { connect, type Socket } from 'node:net'
import { MoraineError } from '@moraine/engine'
import { codeOf, strerror } from '@moraine/engine/node'
import { type NbdServerAddress, serverText } from '../address.ts'
import { Receiver } from './receiver.ts'

/** A connection before anything was said on it. */
export interface Link {
  socket: Socket
  receiver: Receiver
}

/** Longest path of a UNIX socket on Linux, with the zero byte behind it. */
const socketPathBytes = 108

const resolutionWords: Readonly<Record<string, string>> = {
  ENOTFOUND: 'Name or service not known',
  EAI_NONAME: 'Name or service not known',
  ENODATA: 'No address associated with hostname',
  EAI_NODATA: 'No address associated with hostname',
  EAI_AGAIN: 'Temporary failure in name resolution',
}

const connectWords: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'Connection refused',
  ECONNRESET: 'Connection reset by peer',
  EHOSTUNREACH: 'No route to host',
  ENETUNREACH: 'Network is unreachable',
  EADDRNOTAVAIL: 'Cannot assign requested address',
}

/** Connects. `direct`: large pieces are read in place, which a connection that shall become TLS cannot.
 *  @throws MoraineError `missing` (no such socket), `denied`, `invalid`, `io`, in QEMU's words; `cancelled`. */
export async function connectTo(
  server: NbdServerAddress,
  {
    name,
    timeout,
    direct,
    signal,
  }: { name: string; timeout: number; direct: boolean; signal?: AbortSignal | undefined },
): Promise<Link> {
  refuseUnusable(server, name)
  const receiver = new Receiver()
  const socket = connect({
    ...(server.type === 'unix'
      ? { path: server.path }
      : { host: server.host, port: Number(server.port) % 65_536, family: server.family ?? 0, noDelay: true }),
    ...(direct ? { onread: receiver.onread } : {}),
  })
  await new Promise<void>((resolve, reject) => {
    const end = (error?: unknown) => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', cancel)
      socket.removeListener('connect', end)
      socket.removeListener('error', fail)
      if (error === undefined) return resolve()
      socket.on('error', () => {})
      socket.destroy()
      reject(error)
    }
    const fail = (error: Error) => end(connectError(server, name, error))
    const cancel = () =>
      end(new MoraineError('cancelled', 'the operation was cancelled', { path: name, cause: signal?.reason }))
    const timer = setTimeout(() => {
      end(
        new MoraineError('io', `Failed to connect to '${serverText(server)}': Connection timed out`, {
          path: name,
          code: 'ETIMEDOUT',
        }),
      )
    }, timeout)
    socket.once('connect', () => end())
    socket.once('error', fail)
    signal?.addEventListener('abort', cancel, { once: true })
    if (signal?.aborted) cancel()
  })
  receiver.attach(socket, name)
  return { socket, receiver }
}

function refuseUnusable(server: NbdServerAddress, name: string): void {
  if (server.type === 'inet') {
    if (/^\d+$/.test(server.port) && server.host !== '') return
    const words = server.host === '' ? 'Name or service not known' : 'Servname not supported for ai_socktype'
    throw new MoraineError('invalid', `address resolution failed for ${serverText(server)}: ${words}`, {
      path: name,
      field: 'port',
      value: server.port,
      rule: 'a host and a port from 0 to 65535',
    })
  }
  if (server.path === '') {
    throw new MoraineError('io', "Failed to connect to '': Connection refused", { path: name, code: 'ECONNREFUSED' })
  }
  if (Buffer.byteLength(server.path) < socketPathBytes) return
  throw new MoraineError('invalid', `UNIX socket path '${server.path}' is too long`, {
    path: name,
    field: 'socket',
    hint: `Path must be less than ${socketPathBytes} bytes`,
  })
}

function connectError(server: NbdServerAddress, name: string, error: Error): MoraineError {
  const code = codeOf(error)
  const place = { path: name, code, cause: error }
  const unresolved = resolutionWords[code]
  if (unresolved !== undefined) {
    return new MoraineError('io', `address resolution failed for ${serverText(server)}: ${unresolved}`, place)
  }
  const kind = code === 'ENOENT' ? 'missing' : code === 'EACCES' || code === 'EPERM' ? 'denied' : 'io'
  return new MoraineError(
    kind,
    `Failed to connect to '${serverText(server)}': ${connectWords[code] ?? strerror(code)}`,
    place,
  )
}
