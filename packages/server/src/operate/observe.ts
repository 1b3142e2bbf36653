/** Watches every request: one line in the log, one in the audit log if it changed something, and the measures. */
import type { Socket } from 'node:net'
import type { FastifyBaseLogger, FastifyReply, FastifyRequest } from 'fastify'
import type { Routes } from '../api/routes.ts'
import { auditLine } from './audit.ts'
import type { Ending } from './ending.ts'
import type { Metrics } from './metrics.ts'

/** To be called before other hooks are added: who is cut off in one of them is seen, too.
 *  @param audit Where audit lines go; undefined: into the log. */
export function observe(routes: Routes, metrics: Metrics, audit: Pick<FastifyBaseLogger, 'info'> | undefined): void {
  /** What each connection had carried after its last request. */
  const before = new WeakMap<Socket, { read: number; written: number }>()

  const tell = (request: FastifyRequest, reply: FastifyReply, isWhole: boolean): void => {
    const { method, url, ip, caller } = request
    const { socket } = request.raw
    const { read, written } = before.get(socket) ?? { read: 0, written: 0 }
    before.set(socket, { read: socket.bytesRead, written: socket.bytesWritten })
    const status = reply.raw.headersSent ? reply.raw.statusCode : undefined
    // An error that was said is an answer, also to a client that does not stay for the end of its refused upload.
    const isCut = !isWhole && (status ?? 0) < 400
    const ending: Ending = {
      isCut,
      status,
      received: socket.bytesRead - read,
      sent: socket.bytesWritten - written,
    }
    metrics.count(request, reply, ending)
    const milliseconds = Math.round(reply.elapsedTime)
    const who = caller?.userId == null ? {} : { user: caller.userId, project: caller.projectId }
    const how = isCut ? { outcome: 'cut', sent: ending.sent } : {}
    request.log.info(
      { method, url, status: status ?? null, milliseconds, ip, ...who, ...how },
      isCut ? 'cut off' : 'answered',
    )
    const line = auditLine(request, ending)
    if (line === undefined) return
    if (audit === undefined) request.log.info(line, 'audit')
    else audit.info({ reqId: request.id, ...line })
  }

  /** Those that were answered to the last byte. */
  const answered = new WeakSet<object>()
  routes.addHook('onRequest', async (request, reply) => {
    // A connection that is gone has no address any more, unless somebody asked for it before.
    void request.ip
    // Fastify calls nobody when a connection ends early, or an answer is given up.
    reply.raw.once('close', () => {
      if (!answered.has(reply.raw)) tell(request, reply, false)
    })
  })
  routes.addHook('onResponse', async (request, reply) => {
    // Also called for an answer that failed; it is closed next.
    if (reply.raw.errored) return
    answered.add(reply.raw)
    tell(request, reply, true)
  })
}
