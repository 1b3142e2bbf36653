/** Keeps compiled code between runs, which halves the time to start. */
import { enableCompileCache } from 'node:module'
import { homedir } from 'node:os'
import { join } from 'node:path'

/** Turns Node's compile cache on, in the user's own cache folder: a folder that others can write to would let them plant code. NODE_COMPILE_CACHE and
 *  NODE_DISABLE_COMPILE_CACHE are respected. */
export function keepCompiledCode(): void {
  const folder = cacheFolder()
  if (folder !== undefined) enableCompileCache(join(folder, 'moraine', 'compiled'))
}

function cacheFolder(): string | undefined {
  const cache = process.env.XDG_CACHE_HOME
  if (cache?.startsWith('/')) return cache
  try {
    return join(homedir(), '.cache')
  } catch {
    // A user without a home, as in some containers: do without.
    return undefined
  }
}
