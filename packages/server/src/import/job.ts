/** What an import is asked to do, as it stands in its task. */
import type { Image } from '../catalog/image.ts'
import type { JsonObject } from '../catalog/json.ts'
import type { Task } from '../catalog/work.ts'
import type { CarriedCertificate } from '../signature/signatures.ts'
import type { MethodName } from './methods.ts'

export interface Job {
  readonly taskId: string
  readonly imageId: string
  readonly method: MethodName
  /** What the request says of the method. */
  readonly details: JsonObject
  /** Where the data goes. */
  readonly stores: readonly string[]
  readonly allMustSucceed: boolean
  /** Properties that the operator gives imported images. */
  readonly inject: Readonly<Record<string, string>>
  /** The caller's token came along, for the other service. It is not part of this, as tasks are written down. */
  readonly withToken: boolean
  /** By which the image is signed, where it was fetched in the caller's name. */
  readonly certificate: CarriedCertificate | undefined
}

/** The input of a task, as Glance's tasks show it. @param inject Only there when something is injected. @param withToken Likewise. @param certificate Likewise. */
export function taskInput(
  imageId: string,
  request: JsonObject,
  stores: readonly string[],
  inject: JsonObject,
  withToken = false,
  certificate?: CarriedCertificate,
): JsonObject {
  return {
    ...{ image_id: imageId, import_req: request, backend: [...stores] },
    ...(Object.keys(inject).length === 0 ? {} : { inject }),
    ...(withToken ? { with_token: true } : {}),
    ...(certificate === undefined ? {} : { certificate }),
  }
}

export function readJob({ id, imageId, input }: Task): Job {
  const request = input.import_req as JsonObject
  const details = request.method as JsonObject
  return {
    taskId: id,
    imageId: imageId ?? String(input.image_id),
    method: details.name as MethodName,
    details,
    stores: input.backend as string[],
    allMustSucceed: request.all_stores_must_succeed !== false,
    inject: (input.inject ?? {}) as Record<string, string>,
    withToken: input.with_token === true,
    certificate: input.certificate as CarriedCertificate | undefined,
  }
}

/** Stores whose copies stay when the import is given up: those that had the data before it began, and, once the image is in use because one store was enough, all that have it. */
export function storesThatStay({ method, stores }: Job, image: Image): string[] {
  const all = image.locations.map(({ store }) => store)
  if (method === 'copy-image') return all.filter((store) => !stores.includes(store))
  return image.status === 'importing' || image.status === 'queued' || image.status === 'uploading' ? [] : all
}
