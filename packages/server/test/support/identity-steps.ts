/** Requests about accounts that a real Keystone and ours are both asked. `{name}` stands for what an earlier answer gave under that name. */

export interface IdentityStep {
  /** As in `GET /users`; behind `/v3`. */
  line: string
  body?: unknown
  /** Whose token goes along: a name under which one was kept. Default: `admin`; null: none. */
  as?: string | null
  /** A token that the request is about. */
  about?: string
  /** Keeps the token of the answer, and the id of what was made, under this name. */
  keep?: string
  /** Why ours answers otherwise. */
  differs?: string
}

const login = (identity: object, scope?: unknown, keep?: string): IdentityStep => ({
  line: 'POST /auth/tokens',
  as: null,
  body: { auth: { identity, ...(scope === undefined ? {} : { scope }) } },
  ...(keep === undefined ? {} : { keep }),
})
const byDefault = { domain: { id: 'default' } }
const password = (name: string, secret: string) => ({
  methods: ['password'],
  password: { user: { name, password: secret, ...byDefault } },
})
const token = (id: string) => ({ methods: ['token'], token: { id } })
const application = (more: object) => ({ methods: ['application_credential'], application_credential: more })
const inProject = (name: string) => ({ project: { name, ...byDefault } })
const get = (path: string, as = 'admin'): IdentityStep => ({ line: `GET ${path}`, as })
const send = (line: string, body?: unknown, more: Partial<IdentityStep> = {}): IdentityStep => ({ line, body, ...more })
const but = (differs: string, step: IdentityStep): IdentityStep => ({ ...step, differs })

/** The password of the account admin. */
export const adminPassword = 'secret-admin'
const admin = password('admin', adminPassword)

const loggingIn: IdentityStep[] = [
  login(admin, { project: { name: 'admin', domain: { name: 'Default' } } }, 'admin'),
  login(admin, { system: { all: true } }, 'system'),
  login(admin, 'unscoped', 'unscoped'),
  login(admin, { domain: { id: 'default' } }),
  login(admin, inProject('nothing')),
  login(admin, { project: { name: 'admin', domain: { name: 'Other' } } }),
  login(password('admin', 'wrong'), inProject('admin')),
  login(password('nobody', 'wrong'), inProject('admin')),
  login({ methods: ['password'], password: { user: { name: 'admin', domain: { id: 'other' }, password: 'x' } } }),
  login(token('{admin}'), { system: { all: true } }),
  login(token('{admin}'), 'unscoped'),
  but('a token that is none is 401, not 404', login(token('none'), inProject('admin'))),
  login({ methods: [] }),
  login({ methods: ['password'] }),
  login({ methods: ['nothing'] }),
  login({ methods: ['password'], password: { user: { password: 'x' } } }),
  login({ methods: ['password'], password: { user: { name: 'admin', password: 'x' } } }),
  send('POST /auth/tokens', {}, { as: null }),
  send('POST /auth/tokens', { auth: 5 }, { as: null }),
  get('/auth/projects'),
  get('/auth/domains'),
  get('/auth/system'),
  get('/auth/catalog'),
  get('/users', 'nonsense'),
  { line: 'GET /users', as: null },
]

const looking: IdentityStep[] = [
  { line: 'GET /auth/tokens', about: 'admin' },
  { line: 'GET /auth/tokens', about: 'system' },
  { line: 'GET /auth/tokens?nocatalog', about: 'admin' },
  { line: 'HEAD /auth/tokens', about: 'admin' },
  but('in other words', { line: 'GET /auth/tokens', about: 'nonsense' }),
  { line: 'GET /auth/tokens' },
  ...['users', 'projects', 'roles', 'domains', 'services', 'endpoints', 'regions', 'groups'].map((kind) =>
    get(`/${kind}?name=nothing&service_id=x&region_id=x`),
  ),
  get('/domains'),
  get('/domains/default'),
  get('/domains/other'),
  ...['users', 'projects', 'roles', 'services', 'endpoints', 'regions', 'groups'].map((kind) => get(`/${kind}/x`)),
  get('/services?type=image'),
  get('/role_assignments'),
  get('/role_assignments?include_names=1'),
  get('/role_assignments?scope.system=all'),
]

const making: IdentityStep[] = [
  send('POST /users', { user: { name: 'ann', password: 'secret-ann', email: 'a@b.example' } }, { keep: 'ann' }),
  but('in other words', send('POST /users', { user: { name: 'ann' } })),
  send('POST /users', { user: { name: '' } }),
  send('POST /users', { user: { name: 'x', enabled: 'yes' } }),
  send('POST /users', { user: { name: 'x', domain_id: 'other' } }),
  send('POST /users', { user: {} }),
  but('what is not kept is refused', send('POST /users', { user: { name: 'colour', colour: 'red' } })),
  get('/users/{ann}'),
  get('/users?name=ann'),
  send('PATCH /users/{ann}', { user: { name: 'admin' } }),
  send('PATCH /users/{ann}', { user: { description: 'likes roses', enabled: true } }),
  send('PATCH /users/{ann}', { user: { domain_id: 'other' } }),
  send('PATCH /users/nobody', { user: { email: 'x' } }),
  send('POST /projects', { project: { name: 'garden', description: 'd', tags: ['green'] } }, { keep: 'garden' }),
  but('in other words', send('POST /projects', { project: { name: 'garden' } })),
  send('POST /projects', { project: { name: 'x'.repeat(65) } }),
  but(
    'projects stand side by side',
    send('POST /projects', { project: { name: 'bed', parent_id: '{garden}' } }, { keep: 'bed' }),
  ),
  but('projects stand side by side', { line: 'DELETE /projects/{bed}' }),
  get('/projects/{garden}'),
  get('/projects?name=garden'),
  send('PATCH /projects/{garden}', { project: { description: 'all of it' } }),
  send('POST /roles', { role: { name: 'cook' } }, { keep: 'cook' }),
  send('POST /roles', { role: { name: 'cook' } }),
  send('PATCH /roles/{cook}', { role: { description: 'cooks' } }),
  get('/roles?name=member'),
]

const role = '/projects/{garden}/users/{ann}/roles'

const assigning: IdentityStep[] = [
  send(`PUT ${role}/{cook}`),
  send(`PUT ${role}/{cook}`),
  send(`PUT ${role}/nothing`),
  send('PUT /projects/nothing/users/{ann}/roles/{cook}'),
  send('PUT /projects/{garden}/users/nobody/roles/{cook}'),
  send(`HEAD ${role}/{cook}`),
  get(`${role}/{cook}`),
  get(role),
  get('/role_assignments?user.id={ann}&include_names=1'),
  get('/role_assignments?scope.project.id={garden}'),
  get('/users/{ann}/projects'),
  login(password('ann', 'secret-ann'), inProject('garden'), 'cooking'),
  login(password('ann', 'secret-ann')),
  login(password('ann', 'secret-ann'), inProject('admin')),
  login(password('ann', 'secret-ann'), { system: { all: true } }),
  ...['/users', '/users/{ann}', '/projects', '/projects/{garden}', '/roles', '/roles/{cook}', '/domains'].map((path) =>
    get(path, 'cooking'),
  ),
  ...['/domains/default', '/role_assignments', '/services', '/endpoints', '/groups', '/users/{ann}/projects'].map(
    (path) => get(path, 'cooking'),
  ),
  get('/auth/projects', 'cooking'),
  get('/auth/system', 'cooking'),
  send('POST /users', { user: { name: 'mallory' } }, { as: 'cooking' }),
  { line: 'GET /auth/tokens', as: 'cooking', about: 'admin' },
  { line: 'GET /auth/tokens', as: 'admin', about: 'cooking' },
]

const credentials = '/users/{ann}/application_credentials'
const credential = (facts: object, keep?: string): IdentityStep =>
  send(
    `POST ${credentials}`,
    { application_credential: facts },
    { as: 'cooking', ...(keep === undefined ? {} : { keep }) },
  )

const ownLink = 'the link leads there, and unrestricted is false, not null'

const applying: IdentityStep[] = [
  but(
    ownLink,
    credential(
      { name: 'robot', secret: 'secret-robot', roles: [{ name: 'cook' }], expires_at: '2099-01-01T00:00:00.000000' },
      'robot',
    ),
  ),
  credential({ name: 'robot', secret: 'x' }),
  credential({ name: 'other', roles: [{ name: 'admin' }] }),
  credential({ name: 'other', expires_at: '2001-01-01T00:00:00' }),
  credential({ name: 'other', expires_at: 'soon' }),
  credential({}),
  { ...credential({ name: 'other' }), as: 'admin' },
  but(ownLink, get(credentials, 'cooking')),
  but(ownLink, get(`${credentials}/{robot}`, 'cooking')),
  get(`${credentials}/nothing`, 'cooking'),
  login(application({ id: '{robot}', secret: 'secret-robot' }), undefined, 'robotic'),
  login(application({ name: 'robot', secret: 'secret-robot', user: { name: 'ann', ...byDefault } })),
  login(application({ name: 'robot', secret: 'secret-robot', user: { id: '{ann}' } })),
  login(application({ id: '{robot}', secret: 'wrong' })),
  but('nobody is told what is there', login(application({ id: 'nothing', secret: 'wrong' }))),
  but('in other words', login(application({ id: '{robot}', secret: 'secret-robot' }), inProject('garden'))),
  but('one dot less', login(token('{robotic}'), inProject('garden'))),
  but('one dot less', { ...credential({ name: 'other' }), as: 'robotic' }),
  { line: `DELETE ${credentials}/{robot}`, as: 'cooking' },
  but('in other words', { line: 'GET /auth/tokens', about: 'robotic' }),
]

const ending: IdentityStep[] = [
  send('POST /users/{ann}/password', { user: { password: 'next', original_password: 'wrong' } }, { as: 'cooking' }),
  send(
    'POST /users/{ann}/password',
    { user: { password: 'next', original_password: 'secret-ann' } },
    { as: 'cooking' },
  ),
  login(password('ann', 'secret-ann'), inProject('garden')),
  { line: 'GET /auth/tokens', about: 'cooking' },
  { line: 'DELETE /auth/tokens', about: 'unscoped' },
  get('/auth/projects', 'unscoped'),
  { line: `DELETE ${role}/{cook}` },
  { line: `DELETE ${role}/{cook}` },
  { line: 'DELETE /projects/{garden}' },
  { line: 'DELETE /projects/{garden}' },
  { line: 'DELETE /users/{ann}' },
  { line: 'DELETE /users/{ann}' },
  { line: 'DELETE /roles/{cook}' },
  { line: 'DELETE /roles/{cook}' },
  but('there is one domain', send('POST /domains', { domain: { name: 'other' } })),
  but('there are no groups', send('POST /groups', { group: { name: 'g' } })),
]

/** The parts of the exchange, in their order. */
export const exchange: Readonly<Record<string, IdentityStep[]>> = {
  'logging in': loggingIn,
  'looking around': looking,
  'users, projects and roles': making,
  'who may do what where': assigning,
  'application credentials': applying,
  'the end of things': ending,
}
