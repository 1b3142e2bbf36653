/** Watches every request: one line in the log, one in the audit log if it changed something, and the measures. */
import type { Socket } from 'node:net'
import type { FastifyBaseLogger } from 'fastify'
import type { Routes } from '../api/routes.ts'
import { auditLine } from './audit.ts'
import type { Metrics } from './metrics.ts'

/** @param audit Where audit lines go; undefined: into the log. */
export function observe(routes: Routes, metrics: Metrics, audit: Pick<FastifyBaseLogger, 'info'> | undefined): void {
  /** What each connection had carried after its last request. */
  const before = new WeakMap<Socket, { read: number; written: number }>()
  routes.addHook('onResponse', async (request, reply) => {
    const { method, url, ip, caller } = request
    const { socket } = request.raw
    const { read, written } = before.get(socket) ?? { read: 0, written: 0 }
    metrics.count(request, reply, { received: socket.bytesRead - read, sent: socket.bytesWritten - written })
    before.set(socket, { read: socket.bytesRead, written: socket.bytesWritten })
    const milliseconds = Math.round(reply.elapsedTime)
    const who = caller?.userId == null ? {} : { user: caller.userId, project: caller.projectId }
    request.log.info({ method, url, status: reply.raw.statusCode, milliseconds, ip, ...who }, 'answered')
    const line = auditLine(request, reply)
    if (line === undefined) return
    if (audit === undefined) request.log.info(line, 'audit')
    else audit.info({ reqId: request.id, ...line })
  })
}
