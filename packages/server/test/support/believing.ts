/** An identity for tests that believes tokens of the form `PROJECT:ROLE,ROLE`, as `asCaller` writes them. */
import { effectiveRoles } from '../../src/identity/caller.ts'
import type { Identity } from '../../src/identity/identity.ts'

export const believing: Identity = {
  challenge: () => "Keystone uri='http://keystone.example'",
  identify({ token }) {
    const [projectId, roles] = token?.split(':') ?? []
    if (projectId === undefined || roles === undefined) return Promise.resolve(undefined)
    const userId = `user-of-${projectId}`
    return Promise.resolve({
      userId,
      userName: userId,
      projectId,
      roles: effectiveRoles(roles.split(',')),
      isService: false,
    })
  },
  close: () => Promise.resolve(),
}
