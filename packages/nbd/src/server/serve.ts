/** Exporting a disk: who may connect, how many at once, and how it ends. */
import { existsSync, lstatSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { dirname } from 'node:path'
import { type Disk, isMoraineError, MoraineError } from '@moraine/engine'
import { codeOf, strerror } from '@moraine/engine/node'
import type { NbdAddress } from '../address.ts'
import { nameOf } from '../client/open.ts'
import { type ExportOptions, exportDisk } from './exported.ts'
import { Handshake } from './handshake.ts'
import { Session } from './session.ts'
import { type NbdServerTls, prepareTls } from './tls.ts'

/** How a disk is served. Milliseconds. */
export interface ServeNbdOptions extends ExportOptions {
  /** A UNIX socket that is not there yet, or an address and a port (0: any). */
  listen: { path: string } | { host: string; port: number }
  /** Default: in clear. */
  tls?: NbdServerTls | undefined
  /** Clients at once; more of them wait until one has left. Default 1. */
  clients?: number | undefined
  /** How long a handshake may take, and how long a client may leave unread what was sent to it. Default 30,000. */
  timeout?: number | undefined
  /** A client has chosen the export, or has left it; `count` is how many are there now. */
  onClients?: ((count: number, event: 'came' | 'left') => void) | undefined
  /** What was wrong with a client. */
  warn?: ((message: string) => void) | undefined
}

/** A disk that is being served. */
export interface NbdServer {
  /** A URI for it. */
  readonly uri: string
  readonly port: number | undefined
  /** Clients may write. */
  readonly writable: boolean
  /** Takes no more clients and no more requests, answers those under way, flushes, and closes. The disk is still the caller's to close. `patience`: milliseconds after which
   *  clients are cut off. Default 10,000. */
  close(patience?: number): Promise<void>
}

/** Clients that may wait for their turn. */
const mostWaiting = 64

/** Serves a disk, as long as it takes.
 *  @throws MoraineError `denied`, `io` (the address), and as `ExportOptions` say. */
export async function serveNbd(disk: Disk, options: ServeNbdOptions): Promise<NbdServer> {
  const clients = options.clients ?? 1
  const exported = await exportDisk(disk, { shared: clients > 1, ...options })
  const tls = options.tls === undefined ? undefined : prepareTls(options.tls)
  const timeout = options.timeout ?? 30_000
  const sockets = new Set<Socket>()
  const sessions = new Set<Session>()
  const waiting: Socket[] = []
  const tasks = new Set<Promise<void>>()
  let closing = false
  let served = 0
  let failure: unknown

  const talk = async (socket: Socket): Promise<void> => {
    const tooLong = setTimeout(() => socket.destroy(), timeout)
    let chosen = false
    try {
      const client = await new Handshake(socket, exported, { tls, timeout }).run()
      clearTimeout(tooLong)
      if (client === undefined || closing) return
      const session = new Session(exported, client)
      sessions.add(session)
      chosen = true
      options.onClients?.(sessions.size, 'came')
      try {
        await session.run()
      } finally {
        sessions.delete(session)
      }
    } catch (error) {
      if (chosen && !isMoraineError(error, 'corrupt')) failure ??= error
      if (!hasLeft(error)) options.warn?.(error instanceof Error ? error.message : String(error))
    } finally {
      clearTimeout(tooLong)
      socket.destroySoon()
      setTimeout(() => socket.destroy(), 1000).unref()
      if (chosen) options.onClients?.(sessions.size, 'left')
    }
  }

  const next = (): void => {
    while (served < clients && !closing) {
      const socket = waiting.shift()
      if (socket === undefined) return
      if (socket.destroyed) continue
      served++
      const task: Promise<void> = talk(socket).finally(() => {
        served--
        tasks.delete(task)
        next()
      })
      tasks.add(task)
    }
  }

  const server = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket)
    socket.on('error', () => {})
    socket.once('close', () => {
      sockets.delete(socket)
      const at = waiting.indexOf(socket)
      if (at >= 0) waiting.splice(at, 1)
    })
    if (closing || waiting.length >= mostWaiting) {
      socket.destroy()
      return
    }
    waiting.push(socket)
    next()
  })
  await listen(server, options.listen)
  const bound = server.address()
  const port = typeof bound === 'object' ? bound?.port : undefined
  return {
    uri: nameOf(addressOf(options, port)),
    port,
    writable: exported.writable !== undefined,
    async close(patience = 10_000) {
      closing = true
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      for (const socket of waiting.splice(0)) socket.destroy()
      for (const session of sessions) session.stop()
      const cut = setTimeout(() => {
        for (const socket of sockets) socket.destroy()
      }, patience)
      await Promise.all(tasks)
      clearTimeout(cut)
      for (const socket of sockets) socket.destroySoon()
      await closed
      if ('path' in options.listen) await rm(options.listen.path, { force: true })
      if (failure !== undefined) throw failure
    },
  }
}

/** Clients come and go as they like. */
function hasLeft(error: unknown): boolean {
  const code = codeOf(error)
  return code === 'EPIPE' || code === 'ECONNRESET' || code === 'ERR_STREAM_DESTROYED'
}

function addressOf({ listen, exportName = '', tls }: ServeNbdOptions, port: number | undefined): NbdAddress {
  const secure = tls === undefined ? {} : { tls: {} }
  if ('path' in listen) return { server: { type: 'unix', path: listen.path }, exportName, ...secure }
  return { server: { type: 'inet', host: listen.host, port: String(port ?? listen.port) }, exportName, ...secure }
}

async function listen(server: Server, where: ServeNbdOptions['listen']): Promise<void> {
  try {
    await listening(server, where)
  } catch (error) {
    if (!('path' in where) || codeOf(error) !== 'EADDRINUSE' || !(await isForsaken(where.path)))
      throw listenError(error, where)
    // What a server that was killed has left behind.
    await rm(where.path)
    await listening(server, where).catch((again: unknown) => {
      throw listenError(again, where)
    })
  }
}

function listening(server: Server, where: ServeNbdOptions['listen']): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(where, () => {
      server.removeListener('error', reject)
      resolve()
    })
  })
}

/** Whether nobody listens on a socket any more. */
function isForsaken(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = connect(path)
    probe.once('connect', () => {
      probe.destroy()
      resolve(false)
    })
    probe.once('error', (error) => resolve(codeOf(error) === 'ECONNREFUSED' && lstatSync(path).isSocket()))
  })
}

function listenError(cause: unknown, where: ServeNbdOptions['listen']): MoraineError {
  const place = 'path' in where ? where.path : `${where.host}:${where.port}`
  // Node says EACCES of a folder that is not there.
  const code = 'path' in where && !existsSync(dirname(where.path)) ? 'ENOENT' : codeOf(cause)
  const text = code === 'EADDRINUSE' ? 'Address already in use' : strerror(code)
  const kind = code === 'EACCES' || code === 'EADDRINUSE' ? 'denied' : code === 'ENOENT' ? 'missing' : 'io'
  return new MoraineError(kind, `Failed to listen on '${place}': ${text}`, { path: place, code, cause })
}
