/** Application credentials of a user. */
import { randomBytes } from 'node:crypto'
import { type Static, Type } from '@fastify/type-provider-typebox'
import type { Session } from '../../catalog/logins.ts'
import { type LocalIdentity, newId } from '../../identity/local.ts'
import { hashPassword, longestPassword } from '../../identity/passwords.ts'
import type { Service } from '../../service.ts'
import { HttpError } from '../http-error.ts'
import { readQuery } from '../metadefs/shared.ts'
import { type Routes, refuseOtherMethods, sendJson } from '../routes.ts'
import { credentialDocument } from './documents.ts'
import { allow, identityUrl, mayLook, mayManage, nameType, notFound, sendList, textType } from './shared.ts'

const text = Type.Optional(Type.String())

const creation = Type.Object({
  application_credential: Type.Object(
    {
      name: nameType(),
      description: Type.Optional(textType),
      secret: Type.Optional(Type.String({ minLength: 1, maxLength: longestPassword })),
      roles: Type.Optional(Type.Array(Type.Object({ id: text, name: text }), { maxItems: 100 })),
      expires_at: Type.Optional(Type.Union([Type.String(), Type.Null()])),
      unrestricted: Type.Optional(Type.Union([Type.Boolean(), Type.Null()])),
      project_id: text,
    },
    { additionalProperties: false },
  ),
})

type Given = Static<typeof creation>['application_credential']

export function addCredentials(routes: Routes, service: Service, { logins }: LocalIdentity): void {
  const all = '/v3/users/:user/application_credentials'
  const one = `${all}/:id`
  const params = { params: Type.Object({ user: Type.String() }) }
  const oneParams = { params: Type.Object({ user: Type.String(), id: Type.String() }) }
  const noCredential = (id: string) => notFound('Application Credential', id)

  routes.get(all, { schema: params }, async (request, reply) => {
    const { user } = request.params
    allow(request.session.user.id === user || mayLook(request.session), 'list_application_credentials')
    const found = await logins.credentials(user, readQuery(request).get('name') ?? undefined)
    return sendList(reply, service, request, 'application_credentials', found, credentialDocument)
  })

  routes.post(all, { schema: { ...params, body: creation } }, async (request, reply) => {
    const { session } = request
    allow(session.user.id === request.params.user, 'create_application_credential')
    refuseRestricted(session)
    const { application_credential: given } = request.body
    const { project } = session
    if (project === null || (given.project_id ?? project.id) !== project.id) {
      throw new HttpError(400, 'Invalid application credential: it is for the project of the token that makes it')
    }
    const secret = given.secret ?? randomBytes(64).toString('base64url')
    const credential = {
      id: newId(),
      userId: session.user.id,
      projectId: project.id,
      name: given.name,
      description: given.description ?? null,
      secretHash: await hashPassword(secret),
      roles: chosenRoles(given, session),
      expiresAt: readExpiry(given.expires_at ?? null),
      unrestricted: given.unrestricted ?? false,
    }
    await logins.createCredential(credential)
    const document = { ...credentialDocument(credential, identityUrl(service, request)), secret }
    return sendJson(reply, { application_credential: document }, 201)
  })
  refuseOtherMethods(routes, all, 'GET, POST')

  routes.get(one, { schema: oneParams }, async (request, reply) => {
    const { user, id } = request.params
    allow(request.session.user.id === user || mayLook(request.session), 'get_application_credential')
    const credential = await logins.credential(id)
    if (credential?.userId !== user) throw noCredential(id)
    return sendJson(reply, {
      application_credential: credentialDocument(credential, identityUrl(service, request)),
    })
  })

  routes.delete(one, { schema: oneParams }, async (request, reply) => {
    const { user, id } = request.params
    allow(request.session.user.id === user || mayManage(request.session), 'delete_application_credential')
    refuseRestricted(request.session)
    if (!(await logins.removeCredential(user, id))) throw noCredential(id)
    return reply.code(204).send()
  })
  refuseOtherMethods(routes, one, 'GET, DELETE')
}

/** A credential that was stolen should not make others that outlive it. */
function refuseRestricted({ credential }: Session): void {
  if (credential === null || credential.unrestricted) return
  throw new HttpError(
    403,
    "You are not authorized to perform the requested action: Using method 'application_credential' is not allowed for managing additional application credentials.",
  )
}

/** The roles that are asked for, which the token must have; all that it has where none is named. */
function chosenRoles({ roles }: Given, session: Session): { id: string; name: string }[] {
  if (roles === undefined || roles.length === 0) return session.roles.map(({ id, name }) => ({ id, name }))
  return roles.map((wanted) => {
    const role = session.roles.find(({ id, name }) =>
      wanted.id === undefined ? name.toLowerCase() === wanted.name?.toLowerCase() : id === wanted.id,
    )
    if (role !== undefined) return { id: role.id, name: role.name }
    throw new HttpError(
      400,
      'Invalid application credential: Cannot create an application credential with unassigned role',
    )
  })
}

/** Times without a zone are in UTC. */
function readExpiry(written: string | null): number | null {
  if (written === null) return null
  const isTime = /^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?$/.test(written)
  const time = isTime ? Date.parse(/(Z|[+-]\d\d:\d\d)$/.test(written) ? written : `${written}Z`) : Number.NaN
  if (Number.isNaN(time)) {
    throw new HttpError(400, `Invalid input for field 'expires_at': '${written}' is not a time of ISO 8601`)
  }
  if (time < Date.now()) throw new HttpError(400, "The 'expires_at' must not be before now.")
  return Math.floor(time / 1000)
}
