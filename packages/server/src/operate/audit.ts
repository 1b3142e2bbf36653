/** Who did what: a line for each request that changes something, or takes image data out, and one for the end of each task. */
import type { FastifyRequest } from 'fastify'
import { destination, type Logger, pino } from 'pino'
import type { Task, TaskEnd, TaskType } from '../catalog/work.ts'
import type { Config } from '../config.ts'
import type { Ending } from './ending.ts'

/** What requests are called in the audit log, after Glance's notifications where it has one. Paths that are not here are named by their pattern. */
const events: Readonly<Record<string, string>> = {
  'POST /v2/images': 'image.create',
  'PATCH /v2/images/:image_id': 'image.update',
  'DELETE /v2/images/:image_id': 'image.delete',
  'PUT /v2/images/:image_id/file': 'image.upload',
  'GET /v2/images/:image_id/file': 'image.send',
  'GET /v2/images/:image_id/export': 'image.export',
  'PUT /v2/images/:image_id/stage': 'image.stage',
  'POST /v2/images/:image_id/import': 'image.import',
  'POST /v2/images/:image_id/actions/deactivate': 'image.deactivate',
  'POST /v2/images/:image_id/actions/reactivate': 'image.reactivate',
  'PUT /v2/images/:image_id/tags/:tag_value': 'image.tag.add',
  'DELETE /v2/images/:image_id/tags/:tag_value': 'image.tag.delete',
  'POST /v2/images/:image_id/members': 'image.member.create',
  'PUT /v2/images/:image_id/members/:member_id': 'image.member.update',
  'DELETE /v2/images/:image_id/members/:member_id': 'image.member.delete',
}

/** The line about a request; undefined for one that only looks. */
export function auditLine(
  request: FastifyRequest,
  { isCut, status, sent }: Ending,
): Record<string, unknown> | undefined {
  const { method, caller } = request
  const route = `${method} ${request.routeOptions.url ?? ''}`
  const event = events[route]
  if (event === undefined && (method === 'GET' || method === 'HEAD' || method === 'OPTIONS')) return undefined
  return {
    audit: event ?? route,
    outcome: isCut ? 'cut' : outcomeOf(status),
    status: status ?? null,
    // How much was taken out is not the size of the image then.
    ...(isCut ? { sent } : {}),
    user: caller?.userId ?? null,
    userName: caller?.userName ?? null,
    project: caller?.projectId ?? null,
    // Names in the path: what it was about. Bodies are not here: they may hold passwords.
    target: request.params ?? {},
    ip: request.ip,
  }
}

function outcomeOf(status = 500): 'success' | 'denied' | 'failure' {
  if (status < 400) return 'success'
  return status === 401 || status === 403 ? 'denied' : 'failure'
}

const ends: Readonly<Record<TaskType, string>> = {
  api_image_import: 'image.import.end',
  location_import: 'image.location.end',
  import: 'task.import.end',
  catalogue_sync: 'catalogue.sync.end',
}

/** The line about the end of a task; `reqId` is that of the request that asked for it. */
export function taskAuditLine(task: Task, { status, message, result }: TaskEnd): Record<string, unknown> {
  const imageId = task.imageId ?? result?.image_id
  const source = task.input.source as { name?: string } | undefined
  return {
    audit: ends[task.type],
    outcome: status,
    ...(message === '' ? {} : { reason: message }),
    user: task.userId,
    project: task.owner,
    target: {
      task_id: task.id,
      ...(imageId == null ? {} : { image_id: imageId }),
      ...(source?.name === undefined ? {} : { catalogue: source.name }),
    },
    ...(task.requestId === null ? {} : { reqId: task.requestId }),
  }
}

/** The file of the audit log, if it has one. Lines are on their way to the disk when their requests are answered. */
export function openAudit({ auditFile }: Config): Logger | undefined {
  if (auditFile === '') return undefined
  return pino({ level: 'info' }, destination({ dest: auditFile, append: true, mkdir: true, mode: 0o600, sync: true }))
}
