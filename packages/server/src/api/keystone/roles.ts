/** Roles, and who has which where. */
import { Type } from '@fastify/type-provider-typebox'
import type { FastifyRequest } from 'fastify'
import type { Assignment, NamedAssignment } from '../../catalog/accounts.ts'
import { type LocalIdentity, newId } from '../../identity/local.ts'
import { withImplied } from '../../identity/roles.ts'
import type { Service } from '../../service.ts'
import { HttpError } from '../http-error.ts'
import { readQuery } from '../metadefs/shared.ts'
import { type Routes, refuseOtherMethods, sendJson } from '../routes.ts'
import { assignmentDocument, isFixed, roleDocument } from './documents.ts'
import {
  addOne,
  allow,
  commonFacts,
  flagOf,
  identityUrl,
  idParams,
  mayLook,
  mayManage,
  nameType,
  notFound,
  sendList,
  textType,
} from './shared.ts'

const closed = { additionalProperties: false }
const facts = { description: Type.Optional(textType), ...commonFacts, domain_id: Type.Optional(Type.Null()) }
const creation = Type.Object({ role: Type.Object({ name: nameType(), ...facts }, closed) })
const change = Type.Object({ role: Type.Object({ name: Type.Optional(nameType()), ...facts }, closed) })

export function addRoles(routes: Routes, service: Service, identity: LocalIdentity): void {
  const { accounts } = identity
  const all = '/v3/roles'
  const one = `${all}/:id`

  routes.get(all, async (request, reply) => {
    allow(mayLook(request.session), 'list_roles')
    const parameters = readQuery(request)
    // Roles of a domain are another kind, which there is not.
    const roles = parameters.has('domain_id') ? [] : await accounts.roles({ name: parameters.get('name') ?? undefined })
    return sendList(reply, service, request, 'roles', roles, roleDocument)
  })

  routes.post(all, { schema: { body: creation } }, async (request, reply) => {
    allow(mayManage(request.session), 'create_role')
    const { name, description } = request.body.role
    const role = { id: newId(), name, description: description ?? null }
    await accounts.createRole(role)
    return sendJson(reply, { role: roleDocument(role, identityUrl(service, request)) }, 201)
  })
  refuseOtherMethods(routes, all, 'GET, POST')

  addOne(routes, service, one, {
    what: 'role',
    find: (id) => accounts.role(id),
    remove: (id) => accounts.removeRole(id),
    document: roleDocument,
    beforeRemoval: (id) => refuseFixed(id, 'delete'),
  })

  routes.patch(one, { schema: { ...idParams, body: change } }, async (request, reply) => {
    allow(mayManage(request.session), 'update_role')
    const { id } = request.params
    refuseFixed(id, 'update')
    const { name, description } = request.body.role
    const role = await accounts.changeRole(id, {
      ...(name === undefined ? {} : { name }),
      ...(description === undefined ? {} : { description }),
    })
    if (role === undefined) throw notFound('role', id)
    return sendJson(reply, { role: roleDocument(role, identityUrl(service, request)) })
  })

  refuseOtherMethods(routes, one, 'GET, PATCH, DELETE')

  for (const place of ['/v3/projects/:project', '/v3/system']) addAssignments(routes, service, identity, place)

  routes.get('/v3/role_assignments', async (request, reply) => {
    allow(mayLook(request.session), 'list_role_assignments')
    const parameters = readQuery(request)
    const text = (name: string) => parameters.get(name) ?? undefined
    // Groups and domains, which nobody here is in.
    const isElsewhere = ['group.id', 'scope.domain.id'].some((name) => parameters.has(name))
    const isSystem = parameters.has('scope.system')
    const isEffective = flagOf(parameters, 'effective') === true
    const roleId = text('role.id')
    const held = isElsewhere
      ? []
      : await accounts.assignments({
          userId: text('user.id'),
          projectId: isSystem ? null : text('scope.project.id'),
          roleId: isEffective ? undefined : roleId,
        })
    const listed = isEffective ? expanded(held).filter(({ role }) => roleId === undefined || role.id === roleId) : held
    const withNames = flagOf(parameters, 'include_names') === true
    return sendList(reply, service, request, 'role_assignments', listed, (assignment, url) =>
      assignmentDocument(assignment, url, withNames),
    )
  })
}

/** With the roles that each one implies. */
function expanded(held: readonly NamedAssignment[]): NamedAssignment[] {
  const seen = new Set<string>()
  return held.flatMap(({ role: given, user, project }) =>
    withImplied([given]).flatMap((role) => {
      const key = `${user.id} ${project?.id} ${role.id}`
      if (seen.has(key)) return []
      seen.add(key)
      return [{ user, project, role }]
    }),
  )
}

/** Roles of a user in a project, or on the whole system. */
function addAssignments(routes: Routes, service: Service, { accounts }: LocalIdentity, place: string): void {
  const all = `${place}/users/:user/roles`
  const one = `${all}/:role`
  const params = Type.Object({ project: Type.Optional(Type.String()), user: Type.String(), role: Type.String() })
  const listParams = Type.Object({ project: Type.Optional(Type.String()), user: Type.String() })
  const what = place === '/v3/system' ? 'system_grant_for_user' : 'grant'

  routes.get(all, { schema: { params: listParams } }, async (request, reply) => {
    allow(mayLook(request.session), `list_${what}s`)
    const { user, project = null } = request.params
    const ids = new Set((await accounts.assignments({ userId: user, projectId: project })).map(({ role }) => role.id))
    const roles = (await accounts.roles({})).filter(({ id }) => ids.has(id))
    return sendList(reply, service, request, 'roles', roles, roleDocument)
  })
  refuseOtherMethods(routes, all, 'GET')

  const assignmentOf = (request: FastifyRequest): Assignment => {
    const { user: userId, role: roleId, project = null } = request.params as Record<'user' | 'role' | 'project', string>
    return { userId, roleId, projectId: project }
  }
  const noAssignment = ({ userId, roleId, projectId }: Assignment) =>
    new HttpError(
      404,
      `Could not find role assignment with role: ${roleId}, user or group: ${userId}, project, domain, or system: ${projectId ?? 'system'}.`,
    )

  routes.route({
    method: ['GET', 'HEAD'],
    url: one,
    schema: { params },
    handler: async (request, reply) => {
      allow(mayLook(request.session), `check_${what}`)
      const assignment = assignmentOf(request)
      const found = await accounts.assignments(assignment)
      if (found.length === 0) throw noAssignment(assignment)
      return reply.code(204).send()
    },
  })
  routes.put(one, { schema: { params } }, async (request, reply) => {
    allow(mayManage(request.session), `create_${what}`)
    await accounts.assign(assignmentOf(request))
    return reply.code(204).send()
  })
  routes.delete(one, { schema: { params } }, async (request, reply) => {
    allow(mayManage(request.session), `revoke_${what}`)
    const assignment = assignmentOf(request)
    if (!(await accounts.unassign(assignment))) throw noAssignment(assignment)
    return reply.code(204).send()
  })
  refuseOtherMethods(routes, one, 'GET, HEAD, PUT, DELETE')
}

function refuseFixed(id: string, verb: string): void {
  if (isFixed({ id })) throw new HttpError(403, `Unable to ${verb} immutable role resource: ${id}.`)
}
