/** Members of shared images: which other projects may use an image, and what they say to it. */
import { Type } from '@fastify/type-provider-typebox'
import { type Member, type MemberStatus, memberStatuses } from '../../catalog/members.ts'
import type { Caller } from '../../identity/caller.ts'
import type { Service } from '../../service.ts'
import { HttpError } from '../http-error.ts'
import { imageParams, type Routes, readBody, refuseBody, refuseOtherMethods, sendJson } from '../routes.ts'
import { enforceOn, findImage, type Sight } from './access.ts'
import { isoTime } from './image-document.ts'

const url = '/v2/images/:image_id/members'
const one = `${url}/:member_id`
const memberParams = Type.Object({ image_id: Type.String(), member_id: Type.String() })
const mostNameLength = 255

export function addMembers(routes: Routes, service: Service): void {
  const { members } = service.catalog

  routes.post(url, { schema: { params: imageParams } }, async (request, reply) => {
    const id = request.params.image_id
    const memberId = readMember(readBody(request.body))
    const sight = await findShared(service, request.caller, id, 'create')
    enforceOn(service, 'add_member', sight)
    return sendJson(reply, memberDocument(await members.add(id, memberId, service.config.memberQuota)))
  })

  routes.get(url, { schema: { params: imageParams }, onRequest: refuseBody }, async (request, reply) => {
    const id = request.params.image_id
    const sight = await findShared(service, request.caller, id, 'list')
    enforceOn(service, 'get_members', sight)
    const all = await members.list(id)
    // A member knows of itself, not of the others.
    const shown = sight.isMember ? all.filter(({ memberId }) => memberId === request.caller.projectId) : all
    return sendJson(reply, { members: shown.map(memberDocument), schema: '/v2/schemas/members' })
  })
  refuseOtherMethods(routes, url, 'GET, POST')

  routes.get(one, { schema: { params: memberParams }, onRequest: refuseBody }, async (request, reply) => {
    const { image_id: id, member_id: memberId } = request.params
    const sight = await findShared(service, request.caller, id, 'show')
    return sendJson(reply, memberDocument(await findMember(service, sight, memberId)))
  })

  routes.put(one, { schema: { params: memberParams } }, async (request, reply) => {
    const { image_id: id, member_id: memberId } = request.params
    const status = readStatus(readBody(request.body))
    const sight = await findShared(service, request.caller, id, 'update')
    await findMember(service, sight, memberId)
    enforceOn(service, 'modify_member', sight)
    const member = await members.setStatus(id, memberId, status)
    if (member === undefined) throw noMember(id, memberId)
    return sendJson(reply, memberDocument(member))
  })

  routes.delete(one, { schema: { params: memberParams }, onRequest: refuseBody }, async (request, reply) => {
    const { image_id: id, member_id: memberId } = request.params
    const sight = await findShared(service, request.caller, id, 'delete')
    await findMember(service, sight, memberId)
    enforceOn(service, 'delete_member', sight)
    if (!(await members.remove(id, memberId))) throw noMember(id, memberId)
    return reply.code(204).send()
  })
  refuseOtherMethods(routes, one, 'GET, PUT, DELETE')
}

type Verb = 'create' | 'list' | 'show' | 'update' | 'delete'

async function findShared(service: Service, caller: Caller, id: string, verb: Verb): Promise<Sight> {
  const sight = await findImage(service, caller, id, () => new HttpError(404, `Image ${id} not found.`))
  if (sight.image.visibility === 'shared') return sight
  const reason = 'Only shared images have members.'
  if (verb === 'show') throw new HttpError(404, reason)
  throw new HttpError(403, `Not allowed to ${verb} members for image ${id}${verb === 'list' ? `: ${reason}` : '.'}`)
}

/** A member that the caller may know of: any for the owner, itself for a member. @throws HttpError 404. */
async function findMember(service: Service, sight: Sight, memberId: string): Promise<Member> {
  const { image, caller, isMember } = sight
  const isOther = isMember && memberId !== caller.projectId && !service.policy.isAdmin(caller)
  const member = isOther ? undefined : await service.catalog.members.get(image.id, memberId)
  if (member === undefined) throw noMember(image.id, memberId)
  try {
    enforceOn(service, 'get_member', sight)
  } catch {
    throw new HttpError(404, `You are not authorized to lookup the members of the image ${image.id}.`)
  }
  return member
}

function noMember(id: string, memberId: string): HttpError {
  return new HttpError(404, `${memberId} not found in the member list of the image ${id}.`)
}

function readMember(body: unknown): string {
  const wrong = (reason: string) => new HttpError(400, reason)
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw wrong('Expected a member in the form: {"member": "image_id"}')
  }
  const { member } = body as { member?: unknown }
  if (member === undefined) throw wrong('Member to be added not specified')
  if (typeof member !== 'string' || member === '') throw wrong("Member can't be empty")
  if (member.length > mostNameLength) throw wrong(`Member can't be longer than ${mostNameLength} characters`)
  return member
}

function readStatus(body: unknown): MemberStatus {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new HttpError(400, 'Expected a status in the form: {"status": "status"}')
  }
  const { status } = body as { status?: unknown }
  if (status === undefined) throw new HttpError(400, 'Status not specified')
  const known = memberStatuses.find((name) => name === status)
  if (known !== undefined) return known
  throw new HttpError(400, 'Incorrect request: Status must be "pending", "accepted" or "rejected".')
}

function memberDocument(member: Member): object {
  return {
    member_id: member.memberId,
    image_id: member.imageId,
    status: member.status,
    created_at: isoTime(member.createdAt),
    updated_at: isoTime(member.updatedAt),
    schema: '/v2/schemas/member',
  }
}
