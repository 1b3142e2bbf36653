/** Asks for an import into an image. The work is a task's. */
import { randomUUID } from 'node:crypto'
import { type Image, readableLocations } from '../../catalog/image.ts'
import type { JsonObject } from '../../catalog/json.ts'
import { checkable } from '../../import/body.ts'
import { taskInput } from '../../import/job.ts'
import { locked } from '../../import/lock.ts'
import { importMethods, type MethodName } from '../../import/methods.ts'
import { injected } from '../../import/plugins.ts'
import type { Service } from '../../service.ts'
import { list, WebRefused } from '../../web/gate.ts'
import { HttpError } from '../http-error.ts'
import { enforceOn, findImage } from '../images/access.ts'
import { imageParams, type Routes, readBody, refuseOtherMethods } from '../routes.ts'
import { staleLock, withoutLock } from './import-lock.ts'
import { tokenOf } from './receive.ts'

const url = '/v2/images/:image_id/import'

/** A request as it was read: well-formed, and of a method that is offered. */
interface ImportRequest {
  body: JsonObject
  details: JsonObject
  method: MethodName
  allStores: boolean
  allMustSucceed: boolean
}

export function addImport(routes: Routes, service: Service): void {
  const { catalog, config, tasks } = service
  routes.post(url, { schema: { params: imageParams } }, async (request, reply) => {
    const id = request.params.image_id
    const wanted = readRequest(service, readBody(request.body))
    const sight = await findImage(service, request.caller, id)
    checkImage(sight.image, wanted)
    enforceOn(service, wanted.method === 'copy-image' ? 'copy_image' : 'modify_image', sight)
    const stale = await staleLock(service, sight.image)
    const stores = chosenStores(service, sight.image, wanted, request.headers['x-image-meta-store'])
    if (stores.length === 0) return reply.code(202).send()
    if (!wanted.allMustSucceed && !service.stores.multiple) {
      throw new HttpError(400, 'All_stores_must_succeed can only be set with enabled_backends')
    }
    if (wanted.method === 'web-download') await checkAddress(service, wanted.details)

    const taskId = randomUUID()
    const { caller } = request
    const isInjected =
      wanted.method !== 'copy-image' && !list(config.importInjectIgnoreRoles).some((role) => caller.roles.has(role))
    const own = tokenOf(request.raw)
    const token = wanted.method === 'glance-download' ? own : undefined
    const certificate = wanted.method === 'copy-image' ? undefined : await service.signatures.fetched(sight.image, own)
    const inject = isInjected ? injected(config.importInject) : {}
    const input = taskInput(id, wanted.body, stores, inject, token !== undefined, certificate)
    const { projectId: owner, userId } = caller
    const starts = {
      ...{ id: taskId, type: 'api_image_import' as const, owner: owner ?? sight.image.owner, imageId: id, userId },
      ...{ requestId: request.id, input },
      // The token stays in this process.
      workerId: token === undefined ? undefined : service.worker.id,
    }
    const lock = (now: Image) => {
      checkImage(now, wanted)
      const free = withoutLock(now, stale)
      return locked(free, taskId)
    }
    if (token !== undefined) service.callerTokens.keep(taskId, token)
    try {
      const image = await catalog.update(id, lock, { starts })
      if (image === undefined) throw new HttpError(404, `No image found with ID ${id}`)
    } catch (error) {
      service.callerTokens.drop(taskId)
      throw error
    }
    tasks.kick()
    return reply.code(202).send()
  })
  refuseOtherMethods(routes, url, 'POST')
}

function readRequest({ config }: Service, read: unknown): ImportRequest {
  if (typeof read !== 'object' || read === null || Array.isArray(read)) {
    throw new HttpError(400, 'The request body must be a JSON object.')
  }
  const body = read as JsonObject
  if (body.method === undefined) throw new HttpError(400, "Import request requires a 'method' field.")
  const details = body.method
  if (typeof details !== 'object' || details === null || Array.isArray(details)) {
    throw new HttpError(400, "The 'method' field must be a JSON object.")
  }
  if (details.name === undefined) throw new HttpError(400, "Import request requires a 'name' field.")
  const method = importMethods(config).find((name) => name === details.name)
  if (method === undefined) throw new HttpError(400, `Unknown import method name '${String(details.name)}'.`)
  const flag = (name: string, initial: boolean) => {
    const value = body[name] ?? initial
    if (typeof value === 'boolean') return value
    throw new HttpError(400, `'${name}' must be boolean value only`)
  }
  const allMustSucceed = flag('all_stores_must_succeed', true)
  const { stores } = body
  if (stores !== undefined && !(Array.isArray(stores) && stores.every((store) => typeof store === 'string'))) {
    throw new HttpError(400, "'stores' must be a list of names of stores")
  }
  checkDigest(details)
  return { body, details, method, allStores: flag('all_stores', false), allMustSucceed }
}

/** What the data is expected to be, which Glance does not know: `os_hash_algo` and `os_hash_value` beside the address. */
function checkDigest({ os_hash_algo: algorithm, os_hash_value: value }: JsonObject): void {
  if (algorithm === undefined && value === undefined) return
  if (!checkable.some((name) => name === algorithm)) {
    throw new HttpError(400, `os_hash_algo must be one of the following: ${checkable.join(', ')}`)
  }
  if (typeof value !== 'string' || !/^([0-9a-f]{2}){16,64}$/i.test(value)) {
    throw new HttpError(400, 'os_hash_value must be a digest in hexadecimal digits')
  }
}

/** @throws HttpError 409, or 400 for what the method needs. */
function checkImage({ status, containerFormat, diskFormat }: Image, { method, details }: ImportRequest): void {
  const conflict = (text: string) => new HttpError(409, text)
  if (status === 'active' && method !== 'copy-image') {
    throw conflict('Image with status active cannot be target for import')
  }
  if (status !== 'active' && method === 'copy-image') {
    throw conflict('Only images with status active can be targeted for copying')
  }
  if (status !== 'queued' && (method === 'web-download' || method === 'glance-download')) {
    throw conflict(`Image needs to be in 'queued' state to use '${method}' method`)
  }
  if (status !== 'uploading' && method === 'glance-direct') {
    throw conflict("Image needs to be staged before 'glance-direct' method can be used")
  }
  if (containerFormat === null) throw conflict("'container_format' needs to be set before import")
  if (diskFormat === null) throw conflict("'disk_format' needs to be set before import")
  if (method !== 'glance-download') return
  for (const name of ['glance_region', 'glance_image_id']) {
    if (details[name] === undefined) {
      throw new HttpError(400, `'${name}' needs to be set for glance-download import method`)
    }
  }
  const id = String(details.glance_image_id)
  if (!/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i.test(id)) {
    throw new HttpError(400, `Remote image id does not look like a UUID: ${id}`)
  }
}

/** The stores that the data goes to. @throws HttpError 400 or 409. */
function chosenStores(
  { stores }: Service,
  image: Image,
  { body, method, allStores }: ImportRequest,
  header: string | string[] | undefined,
): string[] {
  if (!stores.multiple) return [stores.default.id]
  const isHere = (store: string) => readableLocations(image).some((copy) => copy.store === store)
  if (allStores) {
    if (body.stores !== undefined || header !== undefined) {
      throw new HttpError(400, "All_stores parameter can't be used with x-image-meta-store header or stores parameter")
    }
    const all = stores.all.filter(({ readOnly }) => !readOnly).map(({ id }) => id)
    return method === 'copy-image' ? all.filter((store) => !isHere(store)) : all
  }
  if (body.stores !== undefined && header !== undefined) {
    throw new HttpError(400, "Stores parameter and x-image-meta-store header can't be both specified")
  }
  const named = (body.stores as string[] | undefined) ?? [typeof header === 'string' ? header : stores.default.id]
  for (const store of named) {
    if (stores.get(store) === undefined) throw new HttpError(409, `Store for identifier ${store} not found`)
    if (method === 'copy-image' && isHere(store)) {
      throw new HttpError(400, `Image is already present at store '${store}'`)
    }
  }
  return [...new Set(named)]
}

/** @throws HttpError 400 for an address that is not fetched from; one that does not resolve now is left to the task. */
async function checkAddress({ web }: Service, { uri }: JsonObject): Promise<void> {
  if (typeof uri !== 'string') throw new HttpError(400, "'uri' needs to be set for web-download import method")
  try {
    await web.check(uri)
  } catch (error) {
    if (!(error instanceof WebRefused)) return
    throw new HttpError(400, `URI for web-download does not pass filtering: ${uri} (${error.message})`)
  }
}
