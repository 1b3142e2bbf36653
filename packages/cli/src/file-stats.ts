/** What lies under a name, for those who only want to know of what kind it is. */
import { type BigIntStats, statSync } from 'node:fs'

/** Undefined where nothing is, and where the host does not say, as with a name below a file: whoever opens that name is told why. */
export function statsOf(path: string): BigIntStats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false, bigint: true })
  } catch {
    return undefined
  }
}
