/** A sentence for each route of accounts (`/identity`), which are there with `auth: local`. What requests bring is read from the routes themselves. */
import { about, type Described } from './openapi-routes.ts'

const identity = about('Accounts')
const base = '/identity/v3'
const done = { 204: '' }
const open = { open: true } as const

/** What there is of a kind that can be looked at only. */
function shown(kind: string): Record<string, Described> {
  return {
    [`GET ${base}/${kind}s`]: identity(`List ${kind}s`, { 200: `#identity_${kind}s` }),
    [`GET ${base}/${kind}s/:id`]: identity(`Show a ${kind}`, { 200: `#identity_${kind}` }),
  }
}

function kept(kind: string): Record<string, Described> {
  return {
    ...shown(kind),
    [`POST ${base}/${kind}s`]: identity(`Create a ${kind}`, { 201: `#identity_${kind}` }),
    [`PATCH ${base}/${kind}s/:id`]: identity(`Change a ${kind}`, { 200: `#identity_${kind}` }),
    [`DELETE ${base}/${kind}s/:id`]: identity(`Delete a ${kind}`, done),
  }
}

function assignments(where: string): Record<string, Described> {
  const list = `${base}/${where}/users/:user/roles`
  return {
    [`GET ${list}`]: identity('List the roles of a user there', { 200: '#identity_roles' }),
    [`GET ${list}/:role`]: identity('Say whether a user has a role there', done),
    [`HEAD ${list}/:role`]: identity('Say whether a user has a role there', done),
    [`PUT ${list}/:role`]: identity('Give a user a role there', done),
    [`DELETE ${list}/:role`]: identity('Take a role away', done),
  }
}

const credentials = `${base}/users/:user/application_credentials`

/** By method and path. */
export const describedIdentity: Readonly<Record<string, Described>> = {
  'GET /identity': identity('List the versions of the Identity API', { 300: '#identity_versions' }, open),
  [`GET ${base}`]: identity('Show the version', { 200: '#identity_version' }, open),
  [`POST ${base}/auth/tokens`]: identity('Log in: the token is in X-Subject-Token', { 201: '#identity_token' }, open),
  [`GET ${base}/auth/tokens`]: identity('Show the token that X-Subject-Token names', { 200: '#identity_token' }),
  [`HEAD ${base}/auth/tokens`]: identity('Say whether a token is good', { 200: '' }),
  [`DELETE ${base}/auth/tokens`]: identity('Revoke a token', done),
  [`GET ${base}/auth/catalog`]: identity('Show the services that there are', { 200: '#identity_catalog' }),
  [`GET ${base}/auth/projects`]: identity("List the caller's projects", { 200: '#identity_projects' }),
  [`GET ${base}/auth/domains`]: identity("List the caller's domains", { 200: '#identity_domains' }),
  [`GET ${base}/auth/system`]: identity('Say whether the caller has a role on the system', {
    200: '#identity_system',
  }),
  ...kept('user'),
  ...kept('project'),
  ...kept('role'),
  [`POST ${base}/users/:id/password`]: identity("Change one's own password", done),
  [`GET ${base}/users/:id/projects`]: identity('List the projects of a user', { 200: '#identity_projects' }),
  [`GET ${base}/users/:id/groups`]: identity('List the groups of a user: none', { 200: '#identity_groups' }),
  ...assignments('projects/:project'),
  ...assignments('system'),
  [`GET ${base}/role_assignments`]: identity('List who has which role', { 200: '#identity_role_assignments' }),
  [`GET ${credentials}`]: identity("List a user's application credentials", {
    200: '#identity_application_credentials',
  }),
  [`POST ${credentials}`]: identity('Make an application credential; its secret is told once', {
    201: '#identity_application_credential',
  }),
  [`GET ${credentials}/:id`]: identity('Show an application credential', { 200: '#identity_application_credential' }),
  [`DELETE ${credentials}/:id`]: identity('Delete an application credential', done),
  ...shown('domain'),
  ...shown('service'),
  ...shown('endpoint'),
  ...shown('region'),
  ...shown('group'),
}
