/** What a caller may see, and what it may do with what it sees. What one may not see is not there: 404, never 403. */
import type { Image } from '../../catalog/image.ts'
import type { Caller } from '../../identity/caller.ts'
import type { Target } from '../../policy/language.ts'
import { ofCaller } from '../../policy/policy.ts'
import type { Action } from '../../policy/rules.ts'
import type { Service } from '../../service.ts'
import { HttpError } from '../http-error.ts'

/** An image as one caller sees it. */
export interface Sight {
  readonly image: Image
  readonly caller: Caller
  /** Whether the image is shared with the caller's project. */
  readonly isMember: boolean
}

/** Finds an image that the caller may see. @param missing What is said when there is none. @throws HttpError 404. */
export async function findImage(
  service: Service,
  caller: Caller,
  id: string,
  missing: (id: string) => HttpError = noImage,
): Promise<Sight> {
  const image = await service.catalog.get(id)
  if (image === undefined) throw missing(id)
  const sight = await look(service, caller, image)
  if (!isVisible(service, sight)) throw missing(id)
  if (!service.policy.allows('get_image', caller, targetOf(sight))) throw new HttpError(404)
  return sight
}

/** The image as the caller sees it, whether it may or not. */
async function look({ catalog }: Service, caller: Caller, image: Image): Promise<Sight> {
  const { projectId } = caller
  const mayBeMember = image.visibility === 'shared' && projectId !== null && projectId !== image.owner
  const isMember = mayBeMember && (await catalog.members.get(image.id, projectId)) !== undefined
  return { image, caller, isMember }
}

/** Whether an image that the catalog lists for the caller is shown to it: the operator's rules may forbid what the catalog's do not. */
export function isListed({ policy }: Service, caller: Caller, image: Image): boolean {
  // What is listed, shared and not one's own is shared with oneself.
  const isMember = image.visibility === 'shared' && caller.projectId !== null && image.owner !== caller.projectId
  return policy.allows('get_image', caller, targetOf({ image, caller, isMember }))
}

/** What rules can ask about an image that is to be. */
export function ofNewImage({ owner, visibility = 'shared' }: { owner: string | null; visibility?: string }): Target {
  return (name) => {
    if (name === 'project_id' || name === 'owner') return owner
    return name === 'visibility' ? visibility : undefined
  }
}

/** An image without an owner is everybody's to see. */
function isVisible({ policy }: Service, { image, caller, isMember }: Sight): boolean {
  if (policy.isAdmin(caller) || image.owner === null || isMember) return true
  return image.visibility === 'public' || image.visibility === 'community' || image.owner === caller.projectId
}

/** @throws HttpError 403. */
export function enforce(service: Service, action: Action, caller: Caller, target?: Target): void {
  if (!service.policy.allows(action, caller, target ?? ofCaller(caller))) throw forbidden(action)
}

/** Asks for an image that the caller sees. @throws HttpError 403. */
export function enforceOn(service: Service, action: Action, sight: Sight): void {
  enforce(service, action, sight.caller, targetOf(sight))
}

/** Whether the rules of an image allow something, where it does not matter whether it is shared with the caller. */
export function mayOn({ policy }: Service, action: Action, image: Image, caller: Caller): boolean {
  return policy.allows(action, caller, targetOf({ image, caller, isMember: false }))
}

export function forbidden(action: string): HttpError {
  return new HttpError(403, `You are not authorized to complete ${action} action.`)
}

export function noImage(id: string): HttpError {
  return new HttpError(404, `No image found with ID ${id}`)
}

/** What rules can ask about an image. */
function targetOf({ image, caller, isMember }: Sight): Target {
  return (name) => {
    switch (name) {
      case 'project_id':
      case 'owner':
        return image.owner
      case 'member_id':
        return isMember ? caller.projectId : null
      case 'image_id':
      case 'id':
        return image.id
      case 'name':
      case 'status':
      case 'visibility':
        return image[name]
      case 'disk_format':
        return image.diskFormat
      case 'container_format':
        return image.containerFormat
      case 'protected':
        return image.protected ? 'True' : 'False'
      default:
        return image.properties.get(name)
    }
  }
}
