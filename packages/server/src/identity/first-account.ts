/** The first account of a catalog: `admin`, of the project `admin`, who may do everything. */
import { randomBytes } from 'node:crypto'
import { open, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Accounts } from '../catalog/accounts.ts'
import { newId } from './local.ts'
import { hashPassword } from './passwords.ts'
import { fixedId, fixedRoles } from './roles.ts'

const emptyUser = { name: 'admin', enabled: true, description: null, email: null, passwordHash: null }
const emptyProject = { name: 'admin', enabled: true, description: '', tags: [] }

/** Makes it, where there was none before. @param password Empty: one is made up and written to a file in `folder` that only its owner can read.
 *  @returns The path of that file, when it was written. */
export async function ensureFirstAccount(
  accounts: Accounts,
  password: string,
  folder: string,
): Promise<string | undefined> {
  if ((await accounts.roles({})).length > 0) return undefined
  const chosen = password === '' ? randomBytes(18).toString('base64url') : password
  const passwordHash = await hashPassword(chosen)
  // The password is on the disk before the account is there; of several processes that start at once, only one makes it.
  const written = password === '' ? await writeSecret(folder, chosen) : undefined
  const user = newId()
  const project = newId()
  const admin = fixedId('role admin')
  const isFirst = await accounts.begin({
    roles: fixedRoles,
    user: { ...emptyUser, id: user, defaultProjectId: project, passwordHash },
    project: { ...emptyProject, id: project },
    assignments: [
      { userId: user, roleId: admin, projectId: project },
      { userId: user, roleId: admin, projectId: null },
    ],
  })
  if (written === undefined) return undefined
  if (!isFirst) {
    await rm(written, { force: true })
    return undefined
  }
  const path = join(folder, 'admin-password')
  await rename(written, path)
  return path
}

/** Makes the account admin, its project and its roles again as far as they are gone, for who has locked everybody out. Resolves to its id. */
export async function restoreFirstAccount(accounts: Accounts): Promise<string> {
  const project = await accounts.projectByName('admin')
  const projectId = project?.id ?? newId()
  if (project === undefined) await accounts.createProject({ ...emptyProject, id: projectId })
  else if (!project.enabled) await accounts.changeProject(projectId, { enabled: true })
  const user = await accounts.userByName('admin')
  const userId = user?.id ?? newId()
  if (user === undefined) await accounts.createUser({ ...emptyUser, id: userId, defaultProjectId: projectId })
  const roleId = fixedId('role admin')
  await accounts.assign({ userId, roleId, projectId })
  await accounts.assign({ userId, roleId, projectId: null })
  return userId
}

async function writeSecret(folder: string, secret: string): Promise<string> {
  const path = join(folder, `admin-password.${randomBytes(6).toString('hex')}`)
  const file = await open(path, 'wx', 0o600)
  try {
    await file.writeFile(`${secret}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  return path
}
