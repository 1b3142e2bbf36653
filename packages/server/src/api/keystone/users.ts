/** Users. */
import { type Static, Type } from '@fastify/type-provider-typebox'
import type { User } from '../../catalog/accounts.ts'
import { type LocalIdentity, newId } from '../../identity/local.ts'
import { hashPassword, longestPassword } from '../../identity/passwords.ts'
import type { Service } from '../../service.ts'
import { HttpError } from '../http-error.ts'
import { readQuery } from '../metadefs/shared.ts'
import { type Routes, refuseOtherMethods, sendJson } from '../routes.ts'
import { projectsOf } from './auth.ts'
import { projectDocument, userDocument } from './documents.ts'
import {
  addOne,
  allow,
  checkDomain,
  commonFacts,
  flagOf,
  identityUrl,
  idParams,
  login,
  mayLook,
  mayManage,
  nameType,
  notFound,
  sendList,
  textType,
} from './shared.ts'

const passwordType = Type.String({ minLength: 1, maxLength: longestPassword })

const facts = {
  enabled: Type.Optional(Type.Boolean()),
  description: Type.Optional(textType),
  email: Type.Optional(textType),
  default_project_id: Type.Optional(Type.Union([Type.String(), Type.Null()])),
  password: Type.Optional(Type.Union([passwordType, Type.Null()])),
  ...commonFacts,
}
const closed = { additionalProperties: false }
const creation = Type.Object({ user: Type.Object({ name: nameType(), ...facts }, closed) })
const change = Type.Object({ user: Type.Object({ name: Type.Optional(nameType()), ...facts }, closed) })
const passwordChange = Type.Object({
  user: Type.Object({ password: passwordType, original_password: Type.String({ maxLength: longestPassword }) }),
})

export function addUsers(routes: Routes, service: Service, identity: LocalIdentity): void {
  const { accounts } = identity
  const all = '/v3/users'
  const one = `${all}/:id`

  routes.get(all, async (request, reply) => {
    allow(mayLook(request.session), 'list_users')
    const parameters = readQuery(request)
    const isElsewhere = (parameters.get('domain_id') ?? 'default') !== 'default'
    const filter = { name: parameters.get('name') ?? undefined, enabled: flagOf(parameters, 'enabled') }
    const users = isElsewhere ? [] : await accounts.users(filter)
    return sendList(reply, service, request, 'users', users, userDocument)
  })

  routes.post(all, { schema: { body: creation } }, async (request, reply) => {
    allow(mayManage(request.session), 'create_user')
    const { user: given } = request.body
    checkDomain(given.domain_id)
    const user: User = {
      id: newId(),
      name: given.name,
      enabled: true,
      description: null,
      email: null,
      defaultProjectId: null,
      passwordHash: null,
      ...(await changed(given)),
    }
    await accounts.createUser(user)
    return sendJson(reply, { user: userDocument(user, identityUrl(service, request)) }, 201)
  })
  refuseOtherMethods(routes, all, 'GET, POST')

  addOne(routes, service, one, {
    what: 'user',
    find: (id) => accounts.user(id),
    remove: (id) => accounts.removeUser(id),
    document: userDocument,
    isOwn: (session, id) => session.user.id === id,
  })

  routes.patch(one, { schema: { ...idParams, body: change } }, async (request, reply) => {
    allow(mayManage(request.session), 'update_user')
    const { id } = request.params
    if ((await accounts.user(id)) === undefined) throw notFound('user', id)
    if ((request.body.user.domain_id ?? 'default') !== 'default') throw new HttpError(400, 'Cannot change Domain ID')
    const user = await accounts.changeUser(id, await changed(request.body.user))
    if (user === undefined) throw notFound('user', id)
    return sendJson(reply, { user: userDocument(user, identityUrl(service, request)) })
  })

  refuseOtherMethods(routes, one, 'GET, PATCH, DELETE')

  const password = `${one}/password`
  routes.post(password, { schema: { ...idParams, body: passwordChange } }, async (request, reply) => {
    const { id } = request.params
    const { session, ip } = request
    // A program that logs in for a user does not become the user.
    allow(session.user.id === id && session.credential === null, 'change_password')
    const { password: next, original_password: original } = request.body.user
    await login(request, service, () => identity.changePassword(id, original, next, ip))
    return reply.code(204).send()
  })
  refuseOtherMethods(routes, password, 'POST')

  routes.get(`${one}/projects`, { schema: idParams }, async (request, reply) => {
    const { id } = request.params
    allow(mayLook(request.session) || request.session.user.id === id, 'list_user_projects')
    const projects = await projectsOf(identity, id, false)
    return sendList(reply, service, request, 'projects', projects, projectDocument)
  })
  routes.get(`${one}/groups`, { schema: idParams }, (request, reply) => {
    allow(mayLook(request.session) || request.session.user.id === request.params.id, 'list_groups_for_user')
    return sendList(reply, service, request, 'groups', [])
  })
}

/** What a request says, in the catalog's words; what it leaves out is not there. */
async function changed(given: Static<typeof change>['user']): Promise<Partial<Omit<User, 'id'>>> {
  const { name, enabled, description, email, default_project_id: project, password } = given
  return {
    ...(name === undefined ? {} : { name }),
    ...(enabled === undefined ? {} : { enabled }),
    ...(description === undefined ? {} : { description }),
    ...(email === undefined ? {} : { email }),
    ...(project === undefined ? {} : { defaultProjectId: project }),
    ...(password === undefined ? {} : { passwordHash: password === null ? null : await hashPassword(password) }),
  }
}
