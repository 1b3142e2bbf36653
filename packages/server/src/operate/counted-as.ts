/** Whose requests are counted together. */
import { isIPv6 } from 'node:net'
import type { Caller } from '../identity/caller.ts'

/** By what a caller is told from others. */
export type CountedBy = 'project' | 'user' | 'address'

/** A project, a user without one, or the address of whoever did not log in. */
export function countedAs(caller: Caller | undefined, address: string): { by: CountedBy; key: string } {
  if (caller?.projectId != null) return { by: 'project', key: `project ${caller.projectId}` }
  if (caller?.userId != null) return { by: 'user', key: `user ${caller.userId}` }
  return { by: 'address', key: `address ${networkOf(address)}` }
}

/** One customer has a whole /64 of IPv6, and an address for each request. */
function networkOf(address: string): string {
  if (!isIPv6(address) || address.includes('.')) return address
  const [head = '', tail] = address.split('::')
  const groups = (part: string) => (part === '' ? [] : part.split(':'))
  const first = groups(head)
  const last = tail === undefined ? [] : groups(tail)
  const zeros = Array.from({ length: 8 - first.length - last.length }, () => '0')
  return [...first, ...zeros, ...last].slice(0, 4).join(':')
}
