/** The roles that every catalog of accounts has, and what follows from having one. */
import { createHash } from 'node:crypto'
import type { Role } from '../catalog/accounts.ts'
import { effectiveRoles } from './caller.ts'

/** An id of 32 hexadecimal digits that is the same in every catalog. */
export function fixedId(what: string): string {
  return createHash('sha256').update(`moraine ${what}`).digest('hex').slice(0, 32)
}

/** Roles that Glance's rules know. They cannot be changed or deleted. */
export const fixedRoles: readonly Role[] = [
  ['admin', 'may do everything'],
  ['manager', 'member, and may manage a project'],
  ['member', 'reader, and may make and change what belongs to the project'],
  ['reader', 'may look'],
  ['service', 'services that work for users'],
].map(([name = '', description = '']) => ({ id: fixedId(`role ${name}`), name, description }))

const byName = new Map(fixedRoles.map((role) => [role.name, role]))

/** Roles with those that they imply. */
export function withImplied(roles: readonly Pick<Role, 'id' | 'name'>[]): Pick<Role, 'id' | 'name'>[] {
  const all = new Map(roles.map(({ id, name }) => [id, { id, name }]))
  for (const name of effectiveRoles(roles.map((role) => role.name))) {
    const role = byName.get(name)
    if (role !== undefined) all.set(role.id, { id: role.id, name })
  }
  return [...all.values()]
}
