/** Tasks: of an image, and, for those who run the service, all of them. */
import { randomUUID } from 'node:crypto'
import { Type } from '@fastify/type-provider-typebox'
import { type Task, type TaskEnd, type TaskQuery, type TaskSortKey, taskSortKeys } from '../../catalog/work.ts'
import type { Config } from '../../config.ts'
import { legacyProperties } from '../../import/legacy.ts'
import { taskAuditLine } from '../../operate/audit.ts'
import type { Service } from '../../service.ts'
import { WebRefused } from '../../web/gate.ts'
import { tokenOf } from '../data/receive.ts'
import { HttpError } from '../http-error.ts'
import { enforce, findImage } from '../images/access.ts'
import { isoTime } from '../images/image-document.ts'
import { baseUrl, imageParams, type Routes, readBody, refuseBody, refuseOtherMethods, sendJson } from '../routes.ts'

const idPattern = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i
const statuses = ['pending', 'processing', 'success', 'failure']

export function addTasks(routes: Routes, service: Service): void {
  const { tasks } = service.catalog.work

  const ofImage = '/v2/images/:image_id/tasks'
  routes.get(ofImage, { schema: { params: imageParams }, onRequest: refuseBody }, async (request, reply) => {
    const { caller } = request
    const { image } = await findImage(service, caller, request.params.image_id, () => new HttpError(404))
    // Whoever sees a public image need not know from which address, signed for one project, and by whom it was brought.
    const isOwn = (project: string | null) => project === caller.projectId
    const all = isOwn(image.owner) || service.policy.isAdmin(caller)
    const shown = (await tasks.ofImage(image.id)).filter(({ owner }) => all || isOwn(owner))
    return sendJson(reply, { tasks: shown.map(imageTaskDocument) })
  })

  routes.post('/v2/tasks', async (request, reply) => {
    enforce(service, 'tasks_api_access', request.caller)
    const { type, input } = readTask(readBody(request.body))
    try {
      await service.web.check(String(input.import_from))
    } catch (error) {
      if (error instanceof WebRefused) throw refusedSource(String(input.import_from), error)
    }
    const { projectId: owner, userId } = request.caller
    const { certificate: _given, ...asked } = input
    const certificate = await service.signatures.fetched({ properties: legacyProperties(input) }, tokenOf(request.raw))
    const task = await tasks.create({
      ...{ id: randomUUID(), type, owner, imageId: null, userId },
      ...{ requestId: request.id, input: { ...asked, ...(certificate === undefined ? {} : { certificate }) } },
    })
    service.tasks.kick()
    return sendJson(
      reply.header('location', `${baseUrl(service, request)}/v2/tasks/${task.id}`),
      taskDocument(task),
      201,
    )
  })

  routes.get('/v2/tasks', { onRequest: refuseBody }, async (request, reply) => {
    enforce(service, 'tasks_api_access', request.caller)
    const parameters = new URLSearchParams(request.url.split('?')[1] ?? '')
    const page = await tasks.list(readQuery(parameters, service.config))
    parameters.delete('marker')
    const link = () => (parameters.size === 0 ? '/v2/tasks' : `/v2/tasks?${parameters}`)
    const document: Record<string, unknown> = {
      tasks: page.tasks.map(briefDocument),
      first: link(),
      schema: '/v2/schemas/tasks',
    }
    const last = page.tasks.at(-1)
    if (page.more && last !== undefined) {
      parameters.append('marker', last.id)
      document.next = link()
    }
    return sendJson(reply, document)
  })
  refuseOtherMethods(routes, '/v2/tasks', 'GET, POST')

  const one = '/v2/tasks/:task_id'
  const params = Type.Object({ task_id: Type.String() })
  routes.get(one, { schema: { params }, onRequest: refuseBody }, async (request, reply) => {
    enforce(service, 'tasks_api_access', request.caller)
    const id = request.params.task_id
    const task = await tasks.get(id)
    if (task === undefined) throw new HttpError(404, `Could not find task ${id}`)
    return sendJson(reply, taskDocument(task))
  })
  routes.delete(one, { schema: { params }, onRequest: refuseBody }, (request) => {
    enforce(service, 'tasks_api_access', request.caller)
    throw new HttpError(
      405,
      'This operation is currently not permitted on Glance Tasks. They are auto deleted after reaching the time based on their expires_at property.',
      { headers: { Allow: 'GET' } },
    )
  })
  refuseOtherMethods(routes, one, 'GET, DELETE')
}

function refusedSource(address: string, { message }: WebRefused): HttpError {
  if (!/^file:/i.test(address)) return new HttpError(400, `import_from: ${message}`)
  return new HttpError(400, 'File based imports are not allowed. Please use a non-local source of image data.')
}

/** Ends the tasks of an image that is gone. */
export async function cancelTasks({ catalog, config, audit }: Service, imageId: string): Promise<void> {
  const { tasks } = catalog.work
  const expiresAt = Math.floor(Date.now() / 1000) + config.taskHours * 3600
  const end: TaskEnd = { status: 'failure', message: 'the image was deleted' }
  for (const task of await tasks.ofImage(imageId)) {
    if (task.status !== 'pending' && task.status !== 'processing') continue
    if (await tasks.finish(task.id, null, end, expiresAt)) audit(taskAuditLine(task, end))
  }
}

function readTask(read: unknown): { type: 'import'; input: Record<string, never> & Task['input'] } {
  const body =
    typeof read === 'object' && read !== null && !Array.isArray(read) ? (read as Record<string, unknown>) : {}
  for (const name of ['type', 'input']) {
    if (body[name] === undefined) throw new HttpError(400, `Task '${name}' is required`)
  }
  if (body.type !== 'import') {
    throw new HttpError(400, `Provided object does not match schema 'task': type ${String(body.type)} is not import`)
  }
  const { input } = body
  if (typeof input !== 'object' || input === null || Array.isArray(input)) {
    throw new HttpError(400, "Task 'input' must be a JSON object")
  }
  const facts = input as Task['input']
  for (const name of ['import_from', 'import_from_format', 'image_properties']) {
    if (facts[name] === undefined) throw new HttpError(400, `Input does not contain '${name}' field`)
  }
  return { type: 'import', input: facts as Record<string, never> & Task['input'] }
}

function readQuery(parameters: URLSearchParams, { listLimit, listLimitMax }: Config): TaskQuery {
  const written = parameters.get('limit')
  if (written !== null && !/^-?\d+$/.test(written)) throw new HttpError(400, 'limit param must be an integer')
  const limit = written === null ? listLimit : Number(written)
  if (limit < 0) throw new HttpError(400, 'limit param must be positive')
  const direction = parameters.get('sort_dir') ?? 'desc'
  if (direction !== 'asc' && direction !== 'desc') throw new HttpError(400, `Invalid sort direction: ${direction}`)
  const sort = parameters.get('sort_key') ?? 'created_at'
  if (!taskSortKeys.some((key) => key === sort)) throw new HttpError(400, 'Sort key supplied was not valid.')
  const status = parameters.get('status') ?? undefined
  if (status !== undefined && !statuses.includes(status)) throw new HttpError(400, `Invalid status value: ${status}`)
  const type = parameters.get('type') ?? undefined
  if (type !== undefined && type !== 'import') throw new HttpError(400, `Invalid type value: ${type}`)
  const marker = parameters.get('marker') ?? undefined
  if (marker !== undefined && !idPattern.test(marker)) throw new HttpError(400, 'Invalid marker format')
  const owner = parameters.get('owner') ?? undefined
  return {
    ...{ owner, status, type, marker, sort: sort as TaskSortKey },
    ...{ descending: direction === 'desc', limit: Math.min(limit, listLimitMax) },
  }
}

function briefDocument(task: Task): Record<string, unknown> {
  return {
    id: task.id,
    type: task.type,
    status: task.status,
    // The `glance` client takes nothing but text.
    owner: task.owner ?? '',
    created_at: isoTime(task.createdAt),
    updated_at: isoTime(task.updatedAt),
    self: `/v2/tasks/${task.id}`,
    schema: '/v2/schemas/task',
    ...(task.expiresAt === null ? {} : { expires_at: isoTime(task.expiresAt) }),
  }
}

function taskDocument(task: Task): Record<string, unknown> {
  return {
    ...briefDocument(task),
    ...{ input: task.input, message: task.message, result: task.result },
    ...(task.imageId === null ? {} : { image_id: task.imageId }),
    ...(task.requestId === null ? {} : { request_id: task.requestId }),
    ...(task.userId === null ? {} : { user_id: task.userId }),
  }
}

/** Here Glance shows a row of its database. */
function imageTaskDocument(task: Task): Record<string, unknown> {
  // As the database writes times: without a zone.
  const time = (seconds: number | null) => (seconds === null ? null : isoTime(seconds).replace(/Z$/, '.000000'))
  return {
    ...{ id: task.id, type: task.type, status: task.status, owner: task.owner, image_id: task.imageId },
    ...{ request_id: task.requestId, user_id: task.userId, input: task.input, result: task.result },
    message: task.message,
    progress: task.progress,
    ...{ expires_at: time(task.expiresAt), created_at: time(task.createdAt), updated_at: time(task.updatedAt) },
    ...{ deleted_at: null, deleted: false },
  }
}
