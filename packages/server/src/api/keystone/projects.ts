/** Projects. */
import { type Static, Type } from '@fastify/type-provider-typebox'
import type { Project } from '../../catalog/accounts.ts'
import { domain, type LocalIdentity, newId } from '../../identity/local.ts'
import type { Service } from '../../service.ts'
import { HttpError } from '../http-error.ts'
import { readQuery } from '../metadefs/shared.ts'
import { type Routes, refuseOtherMethods, sendJson } from '../routes.ts'
import { projectDocument } from './documents.ts'
import {
  addOne,
  allow,
  checkDomain,
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

const facts = {
  enabled: Type.Optional(Type.Boolean()),
  description: Type.Optional(textType),
  tags: Type.Optional(Type.Array(Type.String({ minLength: 1, maxLength: 255 }), { maxItems: 80 })),
  parent_id: Type.Optional(Type.Union([Type.String(), Type.Null()])),
  is_domain: Type.Optional(Type.Boolean()),
  ...commonFacts,
}
const closed = { additionalProperties: false }
const creation = Type.Object({ project: Type.Object({ name: nameType(64), ...facts }, closed) })
const change = Type.Object({ project: Type.Object({ name: Type.Optional(nameType(64)), ...facts }, closed) })

export function addProjects(routes: Routes, service: Service, { accounts }: LocalIdentity): void {
  const all = '/v3/projects'
  const one = `${all}/:id`

  routes.get(all, async (request, reply) => {
    allow(mayLook(request.session), 'list_projects')
    const parameters = readQuery(request)
    const isElsewhere =
      ['domain_id', 'parent_id'].some((name) => (parameters.get(name) ?? domain.id) !== domain.id) ||
      flagOf(parameters, 'is_domain') === true
    const filter = { name: parameters.get('name') ?? undefined, enabled: flagOf(parameters, 'enabled') }
    const wanted = (parameters.get('tags') ?? '').split(',').filter((tag) => tag !== '')
    const projects = isElsewhere ? [] : await accounts.projects(filter)
    const tagged = projects.filter(({ tags }) => wanted.every((tag) => tags.includes(tag)))
    return sendList(reply, service, request, 'projects', tagged, projectDocument)
  })

  routes.post(all, { schema: { body: creation } }, async (request, reply) => {
    allow(mayManage(request.session), 'create_project')
    const { project: given } = request.body
    checkDomain(given.domain_id)
    checkPlace(given)
    const empty = { id: newId(), name: given.name, enabled: true, description: '', tags: [] }
    const project: Project = { ...empty, ...changed(given) }
    await accounts.createProject(project)
    return sendJson(reply, { project: projectDocument(project, identityUrl(service, request)) }, 201)
  })
  refuseOtherMethods(routes, all, 'GET, POST')

  addOne(routes, service, one, {
    what: 'project',
    find: (id) => accounts.project(id),
    remove: (id) => accounts.removeProject(id),
    document: projectDocument,
    isOwn: (session, id) => session.project?.id === id,
  })

  routes.patch(one, { schema: { ...idParams, body: change } }, async (request, reply) => {
    allow(mayManage(request.session), 'update_project')
    const { id } = request.params
    if ((await accounts.project(id)) === undefined) throw notFound('project', id)
    if ((request.body.project.domain_id ?? domain.id) !== domain.id) throw new HttpError(400, 'Cannot change Domain ID')
    checkPlace(request.body.project)
    const project = await accounts.changeProject(id, changed(request.body.project))
    if (project === undefined) throw notFound('project', id)
    return sendJson(reply, { project: projectDocument(project, identityUrl(service, request)) })
  })

  refuseOtherMethods(routes, one, 'GET, PATCH, DELETE')
}

type Given = Static<typeof change>['project']

/** Projects stand in the one domain, not below each other. */
function checkPlace({ parent_id, is_domain }: Given): void {
  if (is_domain === true)
    throw new HttpError(403, `There is one domain here, ${domain.name}, and no other can be made.`)
  if ((parent_id ?? domain.id) !== domain.id)
    throw new HttpError(403, 'Projects cannot stand below other projects here.')
}

function changed({ name, enabled, description, tags }: Given): Partial<Omit<Project, 'id'>> {
  return {
    ...(name === undefined ? {} : { name }),
    ...(enabled === undefined ? {} : { enabled }),
    ...(description === undefined ? {} : { description: description ?? '' }),
    ...(tags === undefined ? {} : { tags }),
  }
}
