/** Opening an export: connect, greet, agree; again where a connection broke. */
import { MoraineError } from '@moraine/engine'
import { type NbdAddress, parseNbdName } from '../address.ts'
import { connectTo, type Link } from '../transport/connect.ts'
import { type NbdTls, readClientCertificates } from '../transport/tls.ts'
import { allocationContext, exportFlag } from '../wire/constants.ts'
import { Connection } from './connection.ts'
import { type Agreement, negotiate } from './negotiate.ts'
import { NbdStore } from './store.ts'

/** How an export is opened. Milliseconds. */
export interface NbdOptions {
  /** `write` refuses an export that is read-only. Default `read`. */
  mode?: 'read' | 'write' | undefined
  /** The name in messages; default the name that was opened. */
  name?: string | undefined
  /** TLS for servers that demand it. A name with `nbds` demands it by itself. Where it is set, nothing is ever sent in clear. */
  tls?: NbdTls | undefined
  /** How long the handshake may take, and how long a server that owes a reply may show no sign of life. Default 60,000. */
  timeout?: number | undefined
  /** Connections at most, where the server allows several. Default 1. */
  connections?: number | undefined
  /** How often a connection that broke is made anew, where nothing can be lost by it: what was written must have been flushed. Default 2. */
  retries?: number | undefined
  /** Contexts of block status to ask for, besides `base:allocation`, as in `qemu:dirty-bitmap:NAME`. */
  contexts?: readonly string[] | undefined
  /** Each write has reached stable storage when it returns. */
  writeThrough?: boolean | undefined
  signal?: AbortSignal | undefined
}

/** Opens an export. The name is a URI or QEMU's older form; an address may stand in its place.
 *  @throws MoraineError `invalid` (the name), `missing` (socket, export), `denied` (TLS, read-only), `unsupported`, `limit`, `corrupt` (no NBD server, or one that breaks the
 *  protocol), `io`, `cancelled`. */
export async function openNbd(where: string | NbdAddress, options: NbdOptions = {}): Promise<NbdStore> {
  const address = typeof where === 'string' ? parseNbdName(where) : where
  const name = options.name ?? (typeof where === 'string' ? where : nameOf(address))
  const dialer = new Dialer(address, name, options)
  const first = await dialer.dial(options.signal)
  if (options.mode === 'write' && (first.agreement.flags & exportFlag.readOnly) !== 0) {
    await first.close()
    // The words are QEMU's.
    throw new MoraineError('denied', 'request on write denied without write permission', { path: name, code: 'EACCES' })
  }
  return new NbdStore(dialer, first, options)
}

/** A URI for an address. */
export function nameOf({ server, exportName, tls }: NbdAddress): string {
  const scheme = tls === undefined ? 'nbd' : 'nbds'
  const path = exportName.split('/').map(encodeURIComponent).join('/')
  if (server.type === 'unix')
    return `${scheme}+unix:///${path}?socket=${encodeURI(server.path).replaceAll('?', '%3F').replaceAll('#', '%23').replaceAll('&', '%26')}`
  const host = server.host.includes(':') ? `[${server.host}]` : server.host
  return `${scheme}://${host}:${server.port}/${path}`
}

/** Makes connections to one export. */
export class Dialer {
  readonly name: string
  readonly #address: NbdAddress
  readonly #tls: NbdTls | undefined
  readonly #timeout: number
  readonly #contexts: readonly string[]

  constructor(address: NbdAddress, name: string, options: NbdOptions) {
    this.name = name
    this.#address = address
    this.#timeout = options.timeout ?? 60_000
    this.#contexts = [allocationContext, ...(options.contexts ?? [])]
    this.#tls = tlsOf(address, options.tls)
  }

  /** A new connection, ready for requests. */
  async dial(signal: AbortSignal | undefined): Promise<Connection> {
    const { link, agreement } = await this.#open(signal)
    return new Connection(link, agreement, { name: this.name, timeout: this.#timeout })
  }

  async #open(signal: AbortSignal | undefined): Promise<{ link: Link; agreement: Agreement }> {
    const { server, exportName } = this.#address
    const direct = this.#tls === undefined
    const first = await connectTo(server, { name: this.name, timeout: this.#timeout, direct, signal })
    return await withinTime(first, { name: this.name, timeout: this.#timeout, signal }, () =>
      negotiate(first, {
        name: this.name,
        exportName,
        tls: this.#tls,
        host: server.type === 'unix' ? 'localhost' : server.host,
        contexts: this.#contexts,
        timeout: this.#timeout,
      }),
    )
  }
}

/** What an address and a caller say about TLS, together. */
export function tlsOf({ tls: named }: NbdAddress, given: NbdTls | undefined): NbdTls | undefined {
  if (named === undefined) return given
  return {
    ...(named.certificates === undefined ? {} : readClientCertificates(named.certificates)),
    ...(named.hostname === undefined ? {} : { hostname: named.hostname }),
    ...given,
  }
}

/** Does what is said before the transmission, which must come to an end in time; the socket is closed when it does not end well. */
export async function withinTime<Result>(
  { socket, receiver }: Link,
  { name, timeout, signal }: { name: string; timeout: number; signal: AbortSignal | undefined },
  work: () => Promise<Result>,
): Promise<Result> {
  const give = (error: MoraineError) => {
    receiver.fail(error)
    socket.destroy(error)
  }
  const timer = setTimeout(() => {
    const reason = `the server did not finish the handshake within ${timeout / 1000} s`
    give(new MoraineError('io', reason, { path: name, code: 'ETIMEDOUT' }))
  }, timeout)
  const cancel = () =>
    give(new MoraineError('cancelled', 'the operation was cancelled', { path: name, cause: signal?.reason }))
  signal?.addEventListener('abort', cancel, { once: true })
  try {
    return await work()
  } catch (error) {
    socket.on('error', () => {})
    socket.destroy()
    throw error
  } finally {
    clearTimeout(timer)
    signal?.removeEventListener('abort', cancel)
  }
}
